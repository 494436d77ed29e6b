"""Directory trees: copied, compared to the last byte, searched, removed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

METADATA: Final = b".tcfs"
LEFT_OUT: Final = frozenset((b".git", b".venv", METADATA))
"""Names that are not copied: what tcfs leaves out as well, and this checkout's environment."""
IGNORE_FILE: Final = b".tcfsignore"
CACHE_TAG: Final = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55")
BLOCK: Final = 1 << 20


@dataclass(slots=True)
class Copied:
    """What a copy holds, and what of the original it does not."""

    files: int = 0
    links: int = 0
    directories: int = 0
    size: int = 0
    omitted: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree; ``target`` is a symlink's."""

    kind: str
    size: int
    mode: int
    mtime_ns: int
    target: bytes = b""


def shown(path: bytes) -> str:
    """A path on one line, whatever bytes it has."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _is_cache(directory: bytes) -> bool:
    name, signature = CACHE_TAG
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read(len(signature)) == signature
    except OSError:
        return False


def tree_size(source: bytes) -> int:
    """Bytes of the files that ``copy_tree`` would copy."""
    total = 0
    for directory, names, files in os.walk(source):
        names[:] = [n for n in names if n not in LEFT_OUT and not _is_cache(directory + b"/" + n)]
        for name in files:
            try:
                status = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def copy_tree(source: bytes, target: bytes) -> Copied:
    """Copy a directory: bytes, modes, times in nanoseconds, symlinks as symlinks."""
    done = Copied()
    os.mkdir(target, 0o700)
    _copy_into(source, target, b"", done)
    return done


def _copy_into(source: bytes, target: bytes, prefix: bytes, done: Copied) -> None:
    try:
        entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    except OSError as error:
        done.omitted.append(f"{shown(prefix) or '.'}: {error.strerror}")
        entries = []
    for entry in entries:
        path = prefix + entry.name
        if entry.name in LEFT_OUT or entry.name == IGNORE_FILE:
            continue
        there = os.path.join(target, entry.name)
        try:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), there)
                done.links += 1
                _copy_times(entry.path, there)
            elif entry.is_dir():
                if _is_cache(entry.path):
                    continue
                os.mkdir(there, 0o700)
                done.directories += 1
                _copy_into(entry.path, there, path + b"/", done)
            elif entry.is_file():
                shutil.copyfile(entry.path, there)
                os.chmod(there, stat.S_IMODE(os.lstat(entry.path).st_mode))
                _copy_times(entry.path, there)
                done.files += 1
                done.size += os.lstat(there).st_size
            else:
                done.omitted.append(f"{shown(path)}: neither file, directory nor symlink")
        except OSError as error:
            done.omitted.append(f"{shown(path)}: {error.strerror}")
            if os.path.lexists(there) and not os.path.isdir(there):
                os.unlink(there)
    os.chmod(target, stat.S_IMODE(os.stat(source).st_mode) | 0o700)
    _copy_times(source, target)


def _copy_times(source: bytes, target: bytes) -> None:
    mtime = os.lstat(source).st_mtime_ns
    os.utime(target, ns=(mtime, mtime), follow_symlinks=False)


def entries_of(tree: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
    """Every path below ``tree``, without the directory that tcfs keeps for itself there."""
    for found in os.scandir(os.path.join(tree, prefix)):
        path = prefix + found.name
        if path == METADATA:
            continue
        status = found.stat(follow_symlinks=False)
        mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if found.is_symlink():
            yield path, Entry("symlink", 0, 0, mtime, os.readlink(found.path))
        elif found.is_dir():
            yield path, Entry("directory", 0, mode, mtime)
            yield from entries_of(tree, path + b"/")
        else:
            kind = "file" if stat.S_ISREG(status.st_mode) else "special file"
            yield path, Entry(kind, status.st_size, mode, mtime)


def differences(
    one: bytes,
    other: bytes,
    *,
    directory_times: bool = False,
    any_time: Collection[bytes] = (),
) -> list[str]:
    """What tells two trees apart, a line each: names, kinds, bytes, modes, times, link targets.

    Args:
        directory_times: compare the times of directories as well. They change with every entry,
            and tcfs does not send such changes alone.
        any_time: paths whose time does not matter.
    """
    ours, theirs = dict(entries_of(one)), dict(entries_of(other))
    found = [f"{shown(path)}: only in {shown(one)}" for path in ours.keys() - theirs.keys()]
    found += [f"{shown(path)}: only in {shown(other)}" for path in theirs.keys() - ours.keys()]
    for path in ours.keys() & theirs.keys():
        a, b = ours[path], theirs[path]
        what = []
        if (a.kind, a.size, a.target) != (b.kind, b.size, b.target):
            what.append(f"{a.kind} of {a.size} bytes, {b.kind} of {b.size} bytes")
            if a.target != b.target:
                what.append(f"leads to {shown(a.target)}, {shown(b.target)}")
        elif a.kind == "file" and not _same_bytes(
            os.path.join(one, path), os.path.join(other, path)
        ):
            what.append("other bytes")
        if a.mode != b.mode:
            what.append(f"mode {a.mode:o}, {b.mode:o}")
        timed = path not in any_time and (directory_times or a.kind != "directory")
        if timed and a.mtime_ns != b.mtime_ns:
            what.append(f"mtime {a.mtime_ns} ns, {b.mtime_ns} ns")
        found += [f"{shown(path)}: {text}" for text in what]
    return sorted(found)


def _same_bytes(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as ours, open(other, "rb") as theirs:
        while True:
            mine = ours.read(BLOCK)
            if mine != theirs.read(BLOCK):
                return False
            if not mine:
                return True


def objects_with(store: bytes, text: bytes) -> tuple[int, int]:
    """How many objects a store holds, and how many have ``text`` in them, name or bytes."""
    objects = found = 0
    for path, entry in entries_of(store):
        if entry.kind == "file":
            objects += 1
            with open(os.path.join(store, path), "rb") as file:
                found += text in path or text in file.read()
    return objects, found


def remove_tree(path: bytes) -> None:
    """Remove everything, also from directories that may not be written to."""
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path)
