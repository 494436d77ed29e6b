"""What people do to a tree, straight on the simulated disk.

Every act takes plain values, so that it can be written down, left out and done again; one that
cannot apply does nothing. ``snapshot`` is how the model sees a tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.sim.disk import Disk, Inode

METADATA: Final = b".tcfs"


class Entry(NamedTuple):
    """One path of a tree. ``data`` is a symlink's target; directories have times of no meaning."""

    kind: str
    mode: int
    mtime_ns: int
    data: bytes


Tree = dict[bytes, Entry]


def snapshot(disk: Disk, top: bytes) -> Tree:
    """Everything below a directory, without tcfs's own."""
    found: Tree = {}
    root = disk.get(top)
    if root is not None and root.kind == "dir":
        _snapshot(root, b"", found)
    return found


def _snapshot(directory: Inode, prefix: bytes, found: Tree) -> None:
    for name, inode in directory.entries.values():
        if not prefix and name == METADATA:
            continue
        path = prefix + name
        if inode.kind == "dir":
            found[path] = Entry("dir", inode.mode, 0, b"")
            _snapshot(inode, path + b"/", found)
        else:
            found[path] = Entry(inode.kind, inode.mode, inode.mtime_ns, inode.data)


class User:
    """Somebody at a disk. All paths are relative to the tree.

    ``meant`` says where on the disk the file of that path is, where it has another name there.
    """

    def __init__(
        self, disk: Disk, tree: bytes, meant: Callable[[bytes], bytes] = lambda path: path
    ) -> None:
        self._disk = disk
        self._tree = tree
        self._meant = meant

    def act(self, kind: str, *values: Any) -> None:
        """Do one thing, unless it cannot be done."""
        action: Callable[..., None] = getattr(self, f"_{kind}")
        try:
            action(*values)
        except OSError:
            return

    def _at(self, path: bytes) -> bytes:
        return self._meant(self._tree + b"/" + path)

    def _get(self, path: bytes) -> Inode | None:
        return self._disk.get(self._at(path))

    def _clear(self, path: bytes) -> None:
        """Make way: no file above the path, nothing at it."""
        names = path.split(b"/")
        for depth in range(1, len(names)):
            above = b"/".join(names[:depth])
            inode = self._get(above)
            if inode is not None and inode.kind != "dir":
                self._disk.remove(self._at(above))
                inode = None
            if inode is None:
                self._disk.create(self._at(above), "dir", 0o755)
        self._delete(path)

    def _delete(self, path: bytes) -> None:
        inode = self._get(path)
        if inode is None:
            return
        if inode.kind == "dir":
            for name, _ in list(inode.entries.values()):
                self._delete(path + b"/" + name)
        self._disk.remove(self._at(path))

    def _write(self, path: bytes, data: bytes) -> None:
        """In place if there is a file, as most programs do."""
        inode = self._get(path)
        if inode is None or inode.kind != "file":
            self._clear(path)
            inode = self._disk.create(self._at(path), "file", 0o644)
        self._disk.write(inode, data)

    def _replace(self, path: bytes, data: bytes) -> None:
        """By a temporary file and a rename, as careful editors do."""
        inode = self._get(path)
        mode = inode.mode if inode is not None and inode.kind == "file" else 0o644
        if inode is None or inode.kind != "file":
            self._clear(path)
        temp = self._at(path) + b"~"
        new = self._disk.create(temp, "file", mode)
        self._disk.write(new, data)
        self._disk.rename(temp, self._at(path), replace=True)

    def _append(self, path: bytes, data: bytes) -> None:
        inode = self._get(path)
        if inode is not None and inode.kind == "file":
            self._disk.write(inode, inode.data + data)

    def _truncate(self, path: bytes) -> None:
        inode = self._get(path)
        if inode is not None and inode.kind == "file" and inode.data:
            self._disk.write(inode, inode.data[: len(inode.data) // 2])

    def _move(self, source: bytes, target: bytes) -> None:
        nested = (target + b"/").startswith(source + b"/") or (source + b"/").startswith(
            target + b"/"
        )
        if nested or self._get(source) is None:
            return
        if self._get(source) is self._get(target):  # by two spellings
            self._disk.rename(self._at(source), self._tree + b"/" + target, replace=True)
            return
        self._clear(target)
        self._disk.rename(self._at(source), self._at(target), replace=False)

    def _cycle(self, *paths: bytes) -> None:
        """Each to the next one's place, the last to the first's."""
        there = [path for path in paths if self._get(path) is not None]
        if len(there) < 2 or any(
            one != other and (one + b"/").startswith(other + b"/")
            for one in there
            for other in there
        ):
            return
        aside = self._at(b"aside~")
        self._disk.rename(self._at(there[-1]), aside, replace=False)
        for source, target in zip(there[-2::-1], there[:0:-1], strict=True):
            self._disk.rename(self._at(source), self._at(target), replace=False)
        self._disk.rename(aside, self._at(there[0]), replace=False)

    def _copy(self, source: bytes, target: bytes) -> None:
        inode = self._get(source)
        if inode is not None and inode.kind == "file" and source != target:
            self._write(target, inode.data)

    def _mkdir(self, path: bytes) -> None:
        inode = self._get(path)
        if inode is None or inode.kind != "dir":
            self._clear(path)
            self._disk.create(self._at(path), "dir", 0o755)

    def _link(self, path: bytes, target: bytes) -> None:
        self._clear(path)
        inode = self._disk.create(self._at(path), "symlink", 0o777)
        inode.data = target

    def _chmod(self, path: bytes, file_mode: int, directory_mode: int) -> None:
        inode = self._get(path)
        if inode is not None and inode.kind != "symlink":
            mode = directory_mode if inode.kind == "dir" else file_mode
            self._disk.attributes(inode, mode, inode.mtime_ns)

    def _touch(self, path: bytes) -> None:
        inode = self._get(path)
        if inode is not None and inode.kind == "file":
            self._disk.attributes(inode, inode.mode, self._disk.now_ns())

    def _git(self, repository: bytes, number: bytes) -> None:
        """What a commit does to a ``.git``: loose objects, then index and ref by way of a lock."""
        git = repository + b"/.git/"
        if self._get(git + b"HEAD") is None:
            self._write(git + b"HEAD", b"ref: refs/heads/main\n")
            self._write(git + b"config", b"[core]\n\tbare = false\n")
        for kind in (b"blob", b"tree", b"commit"):
            name = kind[:2] + b"/" + kind + number
            self._write(git + b"objects/" + name, kind + b" " + number + b"\n")
            inode = self._get(git + b"objects/" + name)
            assert inode is not None
            self._disk.attributes(inode, 0o444, inode.mtime_ns)
        for place, data in ((b"index", b"DIRC"), (b"refs/heads/main", b"")):
            self._clear(git + place + b".lock")
            lock = self._disk.create(self._at(git + place + b".lock"), "file", 0o644)
            self._disk.write(lock, data + number + b"\n")
            self._disk.rename(self._at(git + place + b".lock"), self._at(git + place), replace=True)
