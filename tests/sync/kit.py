"""Devices with trees of their own over one store, for tests of the engine through its front door.

``World(tmp_path)`` is a fleet on this machine: ``world.devices("anna", "ben")`` makes the first
device with a new ``file://`` store and lets the others join with an invite. Each ``Device`` has its
own ``TCFS_HOME`` and a sync root, ``device.tree``; what it does goes through ``Fleet``. The fixture
``world`` (conftest.py) closes everything at the end.

Trees are written and looked at as bytes: ``fill`` makes one from a mapping, ``snapshot`` takes
everything a pull must bring back (kind, bytes, mode, mtime in ns, link target; of directories only
the mode), without ``.tcfs``; ``assert_same`` says which paths differ.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tcfs.config.load import LoadedConfig, load_config
from tcfs.host.base import FileSystem, Host, Reader, Stat
from tcfs.host.system import system_host
from tcfs.store.base import BlobStore
from tcfs.store.open import open_store
from tcfs.sync import session
from tcfs.sync.fleet import Fleet
from tcfs.sync.results import SyncResult

Name = str | bytes | Path

# Trees


@dataclass(frozen=True, slots=True)
class Link:
    """A symlink to make."""

    target: Name


class Entry(NamedTuple):
    """What a snapshot holds of one path. ``mtime_ns`` is 0 for directories unless asked for."""

    kind: str
    mode: int
    mtime_ns: int
    data: bytes
    target: bytes


Tree = dict[bytes, Entry]


def path_of(root: Name, name: Name = b"") -> bytes:
    """The bytes of a path below a root."""
    return os.path.join(os.fsencode(root), os.fsencode(name)) if name else os.fsencode(root)


def fill(root: Name, content: Mapping[Any, bytes | str | Link | None]) -> None:
    """Write these paths below a root: bytes or text for a file, a ``Link``, None for a directory.

    Parents are made. What is there is overwritten, in place for a file.
    """
    os.makedirs(path_of(root), exist_ok=True)
    for name, what in content.items():
        path = path_of(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if what is None:
            os.makedirs(path, exist_ok=True)
        elif isinstance(what, Link):
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(os.fsencode(what.target), path)
        else:
            with open(path, "wb") as file:
                file.write(what.encode() if isinstance(what, str) else what)


def snapshot(root: Name, *, directory_times: bool = False) -> Tree:
    """Everything below a root, the root's own entry (``b""``) included, without ``.tcfs``."""
    top = path_of(root)
    found: Tree = {}
    waiting = [b""]
    while waiting:
        name = waiting.pop()
        path = path_of(top, name)
        status = os.lstat(path)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            found[name] = Entry("dir", mode, status.st_mtime_ns if directory_times else 0, b"", b"")
            waiting += [
                os.path.join(name, child) for child in os.listdir(path) if child != b".tcfs"
            ]
        elif stat.S_ISLNK(status.st_mode):
            found[name] = Entry("symlink", 0, status.st_mtime_ns, b"", os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                found[name] = Entry("file", mode, status.st_mtime_ns, file.read(), b"")
        else:
            found[name] = Entry("other", mode, status.st_mtime_ns, b"", b"")
    return found


def contents(root: Name) -> dict[str, bytes]:
    """The files below a root with their bytes, by text path: for tests that care for no more."""
    return {os.fsdecode(n): e.data for n, e in snapshot(root).items() if e.kind == "file"}


def assert_same(one: Name | Tree, other: Name | Tree) -> None:
    """Fail with the paths that differ, and how, unless two trees are the same."""
    left = one if isinstance(one, dict) else snapshot(one)
    right = other if isinstance(other, dict) else snapshot(other)
    differences = [
        f"{name!r}: {_brief(left.get(name))} / {_brief(right.get(name))}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
    assert not differences, "\n".join(["the trees differ:", *differences[:20]])


def _brief(entry: Entry | None) -> str:
    if entry is None:
        return "absent"
    start = entry.data[:40]
    return f"{entry.kind} {entry.mode:o} {entry.mtime_ns} {len(entry.data)} {start!r}" + (
        f" -> {entry.target!r}" if entry.target else ""
    )


# Devices


class Device:
    """One device: its home, its tree, and its engine, opened when it is first used."""

    def __init__(
        self, world: World, name: str, settings: Mapping[str, str], host: Host | None
    ) -> None:
        self.world = world
        self.name = name
        self.home = world.top / name / "home"
        self.tree = world.top / name / "tree"
        self.tree.mkdir(parents=True, exist_ok=True)
        self.settings = dict(settings)
        self.actor = "test"
        self.host = host
        """Instead of the machine's, from the next ``fleet`` on."""
        self.store: BlobStore | None = None
        """Instead of the world's, from the next ``fleet`` on."""
        self._fleet: Fleet | None = None

    @property
    def loaded(self) -> LoadedConfig:
        """The configuration, read anew."""
        environ = {
            "HOME": str(self.home),
            "TCFS_HOME": str(self.home),
            "TCFS_REMOTE": self.world.endpoint,
            "TCFS_SYNC_SYNC_ROOT": str(self.tree),
            "TCFS_SYNC_JOBS": "1",
            **self.settings,
        }
        return load_config(environ={k: v for k, v in environ.items() if v})

    @property
    def fleet(self) -> Fleet:
        """The engine."""
        if self._fleet is None:
            self.world.pristine = False
            self._fleet = session.open_fleet(
                self.loaded, actor=self.actor, host=self.host, store=self.store
            )
            # Nobody pulls the plug here.
            database = self._fleet._context.state.database
            database.connection.execute("PRAGMA synchronous = OFF")
        return self._fleet

    def close(self) -> None:
        """End the process, as it were: the next use of ``fleet`` opens everything anew."""
        if self._fleet is not None:
            fleet, self._fleet = self._fleet, None
            fleet.close()

    def reopen(self, *, host: Host | None = None, store: BlobStore | None = None) -> Fleet:
        """Open the engine anew, on another host or store if they are given."""
        self.close()
        self.host, self.store = host, store
        return self.fleet

    def fill(self, content: Mapping[Any, bytes | str | Link | None]) -> None:
        """Write into the tree; see ``fill``."""
        fill(self.tree, content)

    def path(self, name: Name) -> bytes:
        """A path in the tree."""
        return path_of(self.tree, name)

    def read(self, name: Name) -> bytes:
        """A file of the tree."""
        with open(self.path(name), "rb") as file:
            return file.read()

    def remove(self, name: Name) -> None:
        """Remove a file or link of the tree."""
        os.unlink(self.path(name))

    def snapshot(self) -> Tree:
        """The tree; see ``snapshot``."""
        return snapshot(self.tree)

    def contents(self) -> dict[str, bytes]:
        """The tree's files; see ``contents``."""
        return contents(self.tree)

    def push(self, *names: Name, **options: Any) -> SyncResult:
        """Push paths of the tree, or all of it. Problems are for the test to look at."""
        return self.fleet.push([self.path(name) for name in names], **options)

    def pull(self, **options: Any) -> SyncResult:
        """Pull into the tree."""
        return self.fleet.pull(**options)

    def sync(self, **options: Any) -> tuple[SyncResult, SyncResult]:
        """Pull, then push."""
        return self.fleet.sync(**options)


class Templates:
    """Fleets as they are when everybody has joined, so that not each test makes one anew."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[tuple[str, ...], Path] = {}

    def take(self, members: tuple[str, ...], world: World) -> None:
        """Keep the store and the homes of a world."""
        place = self._known[members] = self._directory / str(len(self._known))
        self._copy(members, world.top, place)

    def give(self, members: tuple[str, ...], world: World) -> bool:
        """Put them in place in another world, if they are known."""
        place = self._known.get(members)
        if place is not None:
            self._copy(members, place, world.top)
        return place is not None

    def _copy(self, members: tuple[str, ...], source: Path, target: Path) -> None:
        names = ["store", *(f"{member.rpartition('-')[0]}/home" for member in members)]
        for name in names:
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(source / name, target / name, symlinks=True)


class World:
    """A store and the devices that share it."""

    def __init__(self, top: Path, templates: Templates | None = None) -> None:
        self.top = top
        self.store_dir = top / "store"
        self.endpoint = self.store_dir.as_uri()
        self.pristine = True
        """Whether nothing but joining has happened."""
        self._templates = templates
        self._members: tuple[str, ...] = ()
        self._devices: list[Device] = []

    def device(
        self,
        name: str,
        *,
        role: str = "writer",
        host: Host | None = None,
        join: bool = True,
        **settings: str,
    ) -> Device:
        """One more device. The first makes the repository, later ones join with an invite.

        Args:
            join: False for a device that is not enrolled yet.
            settings: environment variables, such as ``TCFS_SYNC_CONFLICT_MODE="defer"``.
        """
        device = Device(self, name, settings, host)
        if join:
            self._join(device, role)
        self._devices.append(device)
        return device

    def _join(self, device: Device, role: str) -> None:
        members = (*self._members, f"{device.name}-{role}")
        pristine, templates = self.pristine, self._templates
        if not (pristine and templates and templates.give(members, self)):
            if not self._devices:
                session.init_fleet(device.loaded, name=device.name, host=device.host)
            else:
                admin = self._devices[0].fleet
                code = admin.invite(role=role).code
                done = session.enroll_fleet(
                    device.loaded, name=device.name, invite=code, host=device.host
                )
                if done.waiting:
                    admin.access.admit(done.fingerprint)
            if pristine and templates:
                self.close()
                templates.take(members, self)
        self.pristine = pristine
        self._members = members

    def devices(self, *names: str, **settings: Any) -> list[Device]:
        """Several devices with the same settings."""
        return [self.device(name, **settings) for name in names]

    def open_store(self) -> BlobStore:
        """The store itself."""
        return open_store(self.endpoint)

    def objects(self, prefix: str = "") -> list[Path]:
        """The files of the store's objects below a prefix."""
        return sorted(path for path in (self.store_dir / prefix).rglob("*") if path.is_file())

    def close(self) -> None:
        """Close every device."""
        for device in self._devices:
            device.close()


# Hosts


Hook = Callable[[str, bytes], None]


def _nothing(method: str, path: bytes) -> None:
    pass


class Watching:
    """A file system that counts calls and can be told to do something before or after one.

    ``calls`` lists (method, path). A test sets ``before`` and ``after``, called with the same, to
    change the disk, or raise an OSError, at that very moment.
    """

    def __init__(self, inner: FileSystem) -> None:
        self.inner = inner
        self.calls: list[tuple[str, bytes]] = []
        self.before: Hook = _nothing
        self.after: Hook = _nothing

    @property
    def ignores_case(self) -> bool:
        return self.inner.ignores_case

    @property
    def normalises_unicode(self) -> bool:
        return self.inner.normalises_unicode

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(name == method for name, _ in self.calls)

    def _call(self, method: str, path: bytes, *args: Any, **options: Any) -> Any:
        self.calls.append((method, path))
        self.before(method, path)
        result = getattr(self.inner, method)(*args, **options)
        self.after(method, path)
        return result

    def spelling(self, path: bytes) -> bytes:
        return self._call("spelling", path, path)

    def lstat(self, path: bytes) -> Stat:
        return self._call("lstat", path, path)

    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        return self._call("scan", directory, directory)

    def open(self, path: bytes) -> Reader:
        return self._call("open", path, path)

    def readlink(self, path: bytes) -> bytes:
        return self._call("readlink", path, path)

    def write_new(self, path: bytes, parts: Any, mode: int, mtime_ns: int) -> Stat:
        return self._call("write_new", path, path, parts, mode, mtime_ns)

    def write_at(self, path: bytes, offset: int, parts: Any) -> None:
        self._call("write_at", path, path, offset, parts)

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        return self._call("symlink", path, target, path, mtime_ns)

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self._call("mkdir", path, path, mode)

    def rename_new(self, source: bytes, target: bytes) -> None:
        self._call("rename_new", target, source, target)

    def exchange(self, one: bytes, other: bytes) -> None:
        self._call("exchange", other, one, other)

    def rename(self, source: bytes, target: bytes) -> None:
        self._call("rename", target, source, target)

    def unlink(self, path: bytes) -> None:
        self._call("unlink", path, path)

    def rmdir(self, path: bytes) -> None:
        self._call("rmdir", path, path)

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        self._call("set_attributes", path, path, mode=mode, mtime_ns=mtime_ns)

    def barrier(self, directory: bytes) -> None:
        self._call("barrier", directory, directory)

    def fsync(self, path: bytes) -> None:
        self._call("fsync", path, path)

    def free_space(self, path: bytes) -> int:
        return self._call("free_space", path, path)


def watched_host() -> tuple[Host, Watching]:
    """This machine, its file system watched."""
    host = system_host()
    files = Watching(host.files)
    return host_with(files), files


def host_with(files: FileSystem) -> Host:
    """This machine with another file system."""
    host = system_host()
    return Host(files, host.clock, host.entropy, host.executor, host.lock)
