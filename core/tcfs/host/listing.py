"""What directories hold, and the processes that list them ahead of who needs them.

Such a process is to be at work within some milliseconds: it imports this module alone, and this
module next to nothing. The other end is ``host.ahead``.
"""

from __future__ import annotations

import errno
import gc
import marshal
import os
import stat
import sys
from zlib import crc32

TYPE_CHECKING = False  # the real one is in ``typing``, which takes longer to load than all of this
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from tcfs.host.base import FileKind

    # Path, kind, size, mode, mtime_ns, ctime_ns, inode.
    Seen = tuple[bytes, FileKind, int, int, int, int, int]
    # A directory's path, an errno or 0, its entries in order.
    Listed = tuple[bytes, int, list[Seen]]

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
KINDS: Final[dict[int, FileKind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
}
TYPE_BITS: Final = 0o170000
MODE_BITS: Final = 0o7777
LENGTH_BYTES: Final = 8
_SHARED: Final = 2
"""Levels below the top at which the parts begin."""
_AT_ONCE: Final = 1000
"""Entries that travel together."""


def stats_in(directory: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Names and stats of a directory's entries, in any order. Raises OSError.

    An entry that vanished meanwhile is left out.
    """
    # By descriptor: no symlink is followed, and each stat looks up one name, not a whole path.
    # The names then come as text, to be encoded as Python decoded them.
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    fd = os.open(directory, DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield entry.name.encode(encoding, errors), status
    finally:
        os.close(fd)


def serve() -> None:
    """In such a process: list what standard input names, into standard output, to its end."""
    gc.disable()  # what is made here has no cycles
    top, avoided, part, parts = marshal.loads(_read_all(0))
    pending: list[Listed] = []
    count = 0
    try:
        for listed in _look(top, avoided, part, parts):
            pending.append(listed)
            count += 1 + len(listed[2])
            if count >= _AT_ONCE:
                _send(pending)
                pending, count = [], 0
        _send(pending)
    except BrokenPipeError:
        pass  # nobody is there to read it


def _look(top: bytes, avoided: Sequence[bytes], part: int, parts: int) -> Iterator[Listed]:
    """Directory by directory, all paths from the top on.

    In the order in which a walk in the order of paths comes to them. Left out is what is below
    directories whose name begins with a dot or whose path holds bytes to be avoided, and what is
    below others in a directory with patterns of its own: whether those are wanted is not known
    here. What is ``_SHARED`` levels below the top is shared among the parts, and what is above it
    is the first one's.
    """
    waiting = [(b"", 0)]
    while waiting:
        directory, depth = waiting.pop()
        prefix = directory + b"/" if directory else b""
        try:
            rows = seen_in(top + b"/" + directory if directory else top, prefix)
        except OSError as error:
            yield directory, error.errno or errno.EIO, []
            continue
        if depth >= _SHARED or not part:
            yield directory, 0, rows
        below = [row[0] for row in rows if row[1] == "dir"]
        if below and not any(row[0].endswith(b".tcfsignore") for row in rows):
            dotted = prefix + b"."
            # The last is the next. Below "a" comes after "a-b": a slash follows it there.
            below = sorted(
                (
                    path
                    for path in below
                    if not path.startswith(dotted) and not any(word in path for word in avoided)
                ),
                key=lambda path: path + b"/",
                reverse=True,
            )
            depth += 1
            if depth == _SHARED:
                below = [path for path in below if crc32(path) % parts == part]
            waiting += [(path, depth) for path in below]


def seen_in(directory: bytes, prefix: bytes) -> list[Seen]:
    """The entries of a directory as a walk tells of them, in order. Raises OSError."""
    kind_of = KINDS.get
    rows: list[Seen] = []
    add = rows.append
    for name, status in stats_in(directory):
        mode = status.st_mode
        add(
            (
                prefix + name,
                kind_of(mode & TYPE_BITS, "other"),
                status.st_size,
                mode & MODE_BITS,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_ino,
            )
        )
    rows.sort()
    return rows


def _send(listed: list[Listed]) -> None:
    data = marshal.dumps(listed)
    rest = memoryview(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)
