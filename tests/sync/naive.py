"""A small fleet over one real store, watched by a deliberately naive model.

The model knows nothing of clocks, parents or conflicts. It remembers every content that a device
pushed, or that a pull took off a disk, and in the end asks for each of them back. ``NaiveFleet`` is
what the state machine drives and what regression tests call directly.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from blake3 import blake3

from tcfs.config.load import LoadedConfig, load_config
from tcfs.errors import ConflictError, LocalFileError, NotFoundError, UsageError
from tcfs.host.base import Host
from tcfs.host.executor import SerialExecutor
from tcfs.host.lock import file_lock
from tcfs.host.posix import PosixFileSystem
from tcfs.model.clock import Ordering, VectorClock
from tcfs.model.ids import RelPath
from tcfs.model.paths import METADATA_DIR, ROOT, show
from tcfs.sync.download import read_content
from tcfs.sync.facade import Limits
from tcfs.sync.fleet import Fleet
from tcfs.sync.results import Problem, Resolution, SyncResult
from tcfs.sync.session import enroll_fleet, init_fleet, open_fleet

YES: Final = Limits(confirmed=True)
NAMES: Final = ("ann", "bob", "cy", "ro")
"""The devices there can be; the last may only read."""
ROUNDS: Final = 8
"""How often every device may have to sync until nothing changes any more."""
START_NS: Final = 1_700_000_000_000_000_000
T = TypeVar("T")


class Entry(NamedTuple):
    """One path as a model sees it. ``mtime_ns`` is 0 for directories, whose times mean nothing."""

    kind: str
    mode: int
    mtime_ns: int
    data: bytes


Tree = dict[bytes, Entry]


class LateClock:
    """The system's clock an hour ahead, so that no file is ever too young to trust its times."""

    def now(self) -> float:
        return time.time() + 3600

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here has to wait")


class SeededEntropy:
    """The same bytes in each run, never twice in one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


def _host(entropy: SeededEntropy) -> Host:
    return Host(
        files=PosixFileSystem(),
        clock=LateClock(),
        entropy=entropy,
        executor=lambda _workers: SerialExecutor(),
        lock=file_lock,
    )


def _loaded(top: Path, name: str) -> LoadedConfig:
    return load_config(
        overrides={
            "storage.endpoint": (top / "store").as_uri(),
            "sync.sync_root": str(top / name / "tree"),
        },
        environ={"TCFS_HOME": str(top / name / "home"), "HOME": str(top)},
        use_file=False,
    )


def scratch() -> Path:
    """A new directory, in memory where that can be: there a sync of the disk costs nothing."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="tcfs-test-", dir=memory if usable else None))


@lru_cache(maxsize=1)
def _template() -> Path:
    """A repository with all devices enrolled, made once: each example gets a copy."""
    top = scratch()
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    host = _host(SeededEntropy(0))
    first, *others = NAMES
    init_fleet(_loaded(top, first), name=first, host=host)
    fleet = open_fleet(_loaded(top, first), actor="set-up", host=host)
    try:
        for name in others:
            role = "reader" if name == NAMES[-1] else "writer"
            invite = fleet.invite(role=role).code
            enroll_fleet(_loaded(top, name), name=name, invite=invite, host=host)
    finally:
        fleet.close()
    for name in NAMES:
        (top / name / "tree").mkdir()
    return top


class Device:
    """One device: its tree, edited as a user would, and its engine."""

    def __init__(self, world: NaiveFleet, name: str) -> None:
        self.world = world
        self.name = name
        self.reader = name == NAMES[-1]
        self.edited = False
        self.tree = os.fsencode(world.top / name / "tree")
        self._loaded = _loaded(world.top, name)
        self._fleet: Fleet | None = None
        self._clocks: dict[RelPath, VectorClock] = {}
        self.problems: tuple[Problem, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether this device has edits that it may not share: then it keeps a tree of its own."""
        return self.reader and self.edited

    # The user

    def _at(self, path: bytes) -> bytes:
        self.edited = True
        return os.path.join(self.tree, path)

    def _clear(self, path: bytes) -> None:
        """Make way for something at a path: no file above it, nothing at it."""
        for end in (i for i, byte in enumerate(path) if byte == ord("/")):
            above = self._at(path[:end])
            if os.path.lexists(above) and not _is_directory(above):
                os.unlink(above)
            if not os.path.lexists(above):
                os.mkdir(above, 0o755)
        self.delete(path)

    def _stamp(self, path: bytes) -> None:
        os.utime(path, ns=(START_NS, self.world.tick()), follow_symlinks=False)

    def write(self, path: bytes, data: bytes) -> None:
        """Write a file, in place if one is there."""
        local = self._at(path)
        # A link above would lead somewhere else.
        for end in (i for i, byte in enumerate(path) if byte == ord("/")):
            if os.path.islink(self._at(path[:end])):
                os.unlink(self._at(path[:end]))
        try:
            plain = stat.S_ISREG(os.lstat(local).st_mode)
        except OSError:
            plain = False
        if not plain:
            self._clear(path)
        with open(local, "wb") as file:
            file.write(data)
        if not plain:
            os.chmod(local, 0o644)
        self._stamp(local)
        self.world.written.add(data)

    def append(self, path: bytes, data: bytes) -> bool:
        """Add to a file, if one is there."""
        entry = self.snapshot().get(path)
        if entry is None or entry.kind != "file":
            return False
        self.write(path, entry.data + data)
        return True

    def truncate(self, path: bytes) -> bool:
        """Cut a file in half, if one is there."""
        entry = self.snapshot().get(path)
        if entry is None or entry.kind != "file":
            return False
        self.write(path, entry.data[: len(entry.data) // 2])
        return True

    def delete(self, path: bytes) -> bool:
        """Delete what is at a path, if anything is."""
        local = self._at(path)
        if not self._stands(path):
            return False
        if _is_directory(local):
            shutil.rmtree(local)
        else:
            os.unlink(local)
        return True

    def move(self, source: bytes, target: bytes) -> bool:
        """Move what is at a path over another, if that is possible."""
        inside = (target + b"/").startswith(source + b"/") or (source + b"/").startswith(
            target + b"/"
        )
        if inside or not self._stands(source):
            return False
        self._clear(target)
        if not self._stands(source):
            return False
        os.rename(self._at(source), self._at(target))
        return True

    def chmod(self, path: bytes, private: bool) -> bool:
        """Change who may read a file or directory."""
        local = self._at(path)
        if not self._stands(path) or os.path.islink(local):
            return False
        if _is_directory(local):
            os.chmod(local, 0o700 if private else 0o755)
        else:
            os.chmod(local, 0o600 if private else 0o644)
        return True

    def touch(self, path: bytes) -> bool:
        """Change a file's time alone."""
        if not self._stands(path):
            return False
        self._stamp(self._at(path))
        return True

    def link(self, path: bytes, target: bytes) -> None:
        """Put a symlink at a path."""
        self._clear(path)
        os.symlink(target, self._at(path))
        self._stamp(self._at(path))

    def mkdir(self, path: bytes) -> bool:
        """Make an empty directory, unless there is one."""
        if self._stands(path) and _is_directory(self._at(path)):
            return False
        self._clear(path)
        os.mkdir(self._at(path), 0o755)
        return True

    def _stands(self, path: bytes) -> bool:
        """Whether something is at a path, and not behind a link."""
        above = [path[:i] for i, byte in enumerate(path) if byte == ord("/")]
        if not all(_is_directory(os.path.join(self.tree, name)) for name in above):
            return False
        return os.path.lexists(os.path.join(self.tree, path))

    def snapshot(self) -> Tree:
        """The whole tree as it is on disk."""
        found: Tree = {}
        for top, directories, files in os.walk(self.tree):
            directory = os.path.relpath(top, self.tree)
            prefix = b"" if directory == b"." else directory + b"/"
            if not prefix:
                with suppress(ValueError):
                    directories.remove(METADATA_DIR)
            for name in directories + files:
                local = os.path.join(top, name)
                status = os.lstat(local)
                mode = stat.S_IMODE(status.st_mode)
                if stat.S_ISLNK(status.st_mode):
                    target = os.readlink(local)
                    found[prefix + name] = Entry("symlink", 0, status.st_mtime_ns, target)
                elif stat.S_ISDIR(status.st_mode):
                    found[prefix + name] = Entry("dir", mode, 0, b"")
                else:
                    data = Path(os.fsdecode(local)).read_bytes()
                    found[prefix + name] = Entry("file", mode, status.st_mtime_ns, data)
        return found

    # The engine

    @property
    def fleet(self) -> Fleet:
        """The engine, opened when it is first asked for something."""
        if self._fleet is None:
            self._fleet = open_fleet(
                self._loaded, actor=f"user of {self.name}", host=_host(self.world.entropy)
            )
        return self._fleet

    def reopen(self) -> None:
        """As if each command were a process of its own."""
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None

    def push(self) -> SyncResult:
        """Push the tree. All of it counts as seen."""
        before = self.snapshot()
        result = self._watched(lambda: self.fleet.push([], limits=YES))
        self.problems = result.problems
        failed = {problem.path for problem in result.problems}
        for path, entry in before.items():
            if entry.kind == "file" and show(path) not in failed:
                self.world.seen.setdefault(entry.data, path)
        self.world.last_segment = result.segment or self.world.last_segment
        return result

    def pull(self, mode: str = "auto") -> SyncResult:
        """Pull. What was on disk and is not there any more counts as seen."""
        result = self._watched(lambda: self.fleet.pull(limits=YES, mode=mode))
        self.problems = result.problems
        return result

    def push_part(self, path: bytes) -> bool:
        """Push what is at and below a path, if anything is or was."""
        with suppress(LocalFileError):
            self._watched(lambda: self.fleet.push([os.path.join(self.tree, path)], limits=YES))
            return True
        return False

    def pull_part(self, path: bytes, mode: str = "auto") -> bool:
        """Pull what is at and below a path, if anything is or was."""
        with suppress(NotFoundError):
            self._watched(lambda: self.fleet.pull(show(path), limits=YES, mode=mode))
            return True
        return False

    def plan_and_apply(self, push: bool) -> SyncResult:
        """Look at a plan, which changes nothing, and apply exactly that one."""

        def act(dry_run: bool, plan: str = "") -> SyncResult:
            if push:
                return self.fleet.push([], limits=YES, dry_run=dry_run, plan=plan)
            return self.fleet.pull(limits=YES, dry_run=dry_run, plan=plan, mode="auto")

        before = (self.snapshot(), self.world.objects())
        looked = act(True)
        assert (self.snapshot(), self.world.objects()) == before
        return self._watched(lambda: act(False, looked.plan.hash))

    def sync(self) -> bool:
        """Pull and push; whether anything was to be done."""
        pulled = self.pull()
        problems = pulled.problems
        if self.reader:
            return bool(pulled.plan.total)
        pushed = self.push()
        self.problems = problems + pushed.problems
        return bool(pulled.plan.total or pushed.plan.total)

    def resolve(self, path: bytes, resolution: Resolution) -> bool:
        """Settle a conflict that way, if there is one that can be."""
        with suppress(NotFoundError, ConflictError, UsageError):
            done = self._watched(lambda: self.fleet.resolve(show(path), resolution))
            self.world.merging |= resolution == "merge"
            return bool(done.version)
        return False

    def undo_last(self) -> bool:
        """Take back the last segment that anyone pushed."""
        if not self.world.last_segment:
            return False
        with suppress(NotFoundError, ConflictError):
            self._watched(lambda: self.fleet.undo(segment=self.world.last_segment))
            return True
        return False

    def restore(self, path: bytes, pick: int) -> bool:
        """Bring back some version of a path."""
        versions = self.fleet.log(show(path), limit=100).versions
        mine = [version for version in versions if version.path == show(path)]
        if not mine:
            return False
        with suppress(ConflictError):
            chosen = mine[pick % len(mine)]
            self._watched(lambda: self.fleet.restore(show(path), chosen.id))
            return True
        return False

    def rebuild(self) -> None:
        """Lose the index and make it anew.

        What was deleted elsewhere meanwhile then looks like a new file here, and stays: a device
        that may write sends it again, one that may not keeps it to itself.
        """
        self.edited = True
        self._watched(lambda: self.fleet.rebuild_index())

    def _watched(self, act: Callable[[], T]) -> T:
        """Whatever an operation takes off the disk must be found again in the end."""
        before = self.snapshot()
        try:
            return act()
        finally:
            after = self.snapshot()
            kept = {entry.data for entry in after.values() if entry.kind == "file"}
            for path, entry in before.items():
                same = after.get(path, entry._replace(kind="gone"))
                if entry.kind == "file" and (same.kind, same.data) != ("file", entry.data):
                    if self.reader and entry.data in kept:
                        continue
                    self.world.seen.setdefault(entry.data, path)
            self._clocks_only_rise()
            self._no_leftovers()

    def _clocks_only_rise(self) -> None:
        context = self.fleet._context
        for head in context.state.history.tree(context.namespace, ROOT):
            known = self._clocks.get(head.path, VectorClock())
            assert known.compare(head.clock) in (Ordering.EQUAL, Ordering.BEFORE), head.path
            self._clocks[head.path] = head.clock

    def _no_leftovers(self) -> None:
        metadata = os.path.join(self.tree, METADATA_DIR)
        for top, _, files in os.walk(metadata):
            names = [os.path.join(top, name) for name in files]
            assert names in ([], [os.path.join(metadata, b"root")]), names


def _is_directory(local: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(local).st_mode)
    except OSError:
        return False


class NaiveFleet:
    """Some of the devices in ``NAMES`` over one store, and what the model knows of them.

    Attributes:
        written: every content that a user wrote.
        seen: every content that was pushed, or that tcfs took off a disk, with its path then.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.top = scratch()
        # Copied, not shared: an example begins with a store where nothing was ever pushed.
        shutil.copytree(_template(), self.top, dirs_exist_ok=True, symlinks=True)
        self.entropy = SeededEntropy(1)
        self.written: set[bytes] = set()
        self.seen: dict[bytes, bytes] = {}
        self.last_segment = ""
        self.merging = False
        """Whether tcfs may write bytes that no user wrote: lines of several."""
        self._ticks = 0
        self.devices = [Device(self, name) for name in names]

    def tick(self) -> int:
        """A time for a file that no other has."""
        self._ticks += 1
        return START_NS + self._ticks * 1_000_000_007

    def close(self) -> None:
        """Forget everything."""
        for device in self.devices:
            device.reopen()
        shutil.rmtree(self.top)

    def __enter__(self) -> NaiveFleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What must hold

    def settle(self) -> None:
        """Every device syncs until nothing changes. That must end, without a problem left."""
        busy = [device.name for device in self.devices]
        for _ in range(ROUNDS):
            busy = [device.name for device in self.devices if device.sync() and not device.alone]
            if not busy:
                break
        else:
            raise AssertionError(f"{busy} still have something to do after {ROUNDS} rounds")
        for device in self.devices:
            assert device.alone or device.problems == (), f"{device.name}: {device.problems}"

    def check(self) -> None:
        """Everything that must hold once all is quiet."""
        self.trees_are_equal()
        self.nothing_is_lost()
        self.nothing_appeared()
        self.nothing_is_left_to_send()
        for device in self.devices:
            report = device.fleet.verify(read_data=True, local=True)
            assert report.problems == ()
            assert device.fleet.conflicts().total == 0

    def _comparable(self) -> list[Device]:
        """The devices whose trees must agree: what a reader edits is its own."""
        return [device for device in self.devices if not device.alone]

    def trees_are_equal(self) -> None:
        """Bytes, modes, times, links and kinds."""
        first, *others = self._comparable()
        expected = first.snapshot()
        for device in others:
            found = device.snapshot()
            differing = {
                path: (expected.get(path), found.get(path))
                for path in expected.keys() | found.keys()
                if expected.get(path) != found.get(path)
            }
            assert not differing, f"{first.name} / {device.name}: {differing}"

    def nothing_is_lost(self) -> None:
        """Every content that was ever seen can be read from the history."""
        for device in self.devices:
            context = device.fleet._context
            history, namespace = context.state.history, context.namespace
            known = {}
            for _, version in history.log(namespace, ROOT, before=None, limit=10_000):
                known[version.manifest.file_hash] = version
            for data, path in self.seen.items():
                found = known.get(blake3(data).digest())
                assert found is not None, f"{path!r} with {data!r} is in no history"
                assert read_content(context, namespace, found) == data

    def nothing_appeared(self) -> None:
        """No device has bytes that no user wrote, or lines where those may be merged."""
        lines = {line for data in self.written for line in data.split(b"\n")}
        for device in self.devices:
            for path, entry in device.snapshot().items():
                if entry.kind == "file" and self.merging:
                    assert lines.issuperset(entry.data.split(b"\n")), path
                elif entry.kind == "file":
                    assert entry.data in self.written, path

    def nothing_is_left_to_send(self) -> None:
        """A push of what is known everywhere sends nothing, and reads nothing."""
        for device in self.devices:
            if device.reader:
                continue
            before = self.objects()
            result = device.push()
            sent = result.transfer
            assert result.plan.total == 0
            assert (sent.bytes_read, sent.bytes_sent, sent.segments) == (0, 0, 0)
            assert self.objects() == before

    def objects(self) -> list[str]:
        """What is in the store."""
        return sorted(str(p) for p in (self.top / "store").rglob("*") if p.is_file())

    def deletions_last(self, path: bytes, index: int) -> None:
        """What one device deletes in quiet stays deleted everywhere."""
        device = self.devices[index % len(self.devices)]
        if device.reader or not device.delete(path):
            return
        self.settle()
        for other in self._comparable():
            left = [p for p in other.snapshot() if p == path or p.startswith(path + b"/")]
            assert not left, f"{other.name} still has {left}"
