"""What the embedded store does beyond the protocol: crashes, disks that are full or gone."""

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tcfs.errors import StoreError
from tcfs.host import native
from tcfs.host.faults import FaultPlan, Moment, SimulatedCrash, crash_at, fail_at
from tcfs.host.faulty import FaultyFileSystem
from tcfs.host.posix import PosixFileSystem
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    IF_ABSENT,
    Condition,
    ObjectMissing,
    PreconditionFailed,
    StoreRefused,
)
from tcfs.store.local import LocalStore

KEY = StoreKey("packs/aa/one")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root):
    store = LocalStore.create(root)
    yield store
    store.close()


def open_with(root: Path, plan: FaultPlan) -> LocalStore:
    return LocalStore(root, files=FaultyFileSystem(PosixFileSystem(), plan))


def temps(root: Path) -> list[str]:
    return sorted(os.listdir(root / ".tmp"))


def test_the_key_is_the_path_and_everything_is_for_the_owner_alone(store, root):
    store.put(KEY, b"x")
    assert (root / "packs/aa/one").read_bytes() == b"x"
    for path in (root, *root.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.lstat().st_mode) == expected, path


def test_the_endpoint_is_the_directory_percent_encoded(tmp_path):
    store = LocalStore.create(tmp_path / "a b%c")
    assert store.endpoint == "file://" + os.fspath(tmp_path) + "/a%20b%25c"


def test_a_store_is_made_once_with_its_parents_and_opened_the_next_time(tmp_path):
    root = tmp_path / "deep/er/store"
    LocalStore.create(root).put(KEY, b"x")
    assert LocalStore.create(root).get(KEY) == b"x"
    assert LocalStore(root).get(KEY) == b"x"


def test_a_store_reached_by_a_symlink_lists_what_it_holds(store, root, tmp_path):
    store.put(KEY, b"x")
    (tmp_path / "link").symlink_to(root)
    linked = LocalStore(tmp_path / "link")
    assert [info.key for info in linked.list("")] == [KEY]
    assert linked.endpoint.endswith("/link")


def test_a_directory_with_other_content_does_not_become_a_store(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(StoreRefused, match="not empty"):
        LocalStore.create(tmp_path)
    (tmp_path / "photos").rmdir()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".Trashes").mkdir()
    LocalStore.create(tmp_path)


@pytest.mark.parametrize("create", [0, 1])
def test_a_path_that_is_no_store_is_refused_with_a_remedy(tmp_path, create):
    if create:
        (tmp_path / "absent").write_bytes(b"a file")
    with pytest.raises(StoreRefused, match="no store") as caught:
        LocalStore(tmp_path / "absent")
    assert "Mount" in caught.value.remedy


def test_a_store_of_another_layout_is_not_touched(store, root):
    (root / ".tcfs-store").write_bytes(b"tcfs store, layout 2, something\n")
    with pytest.raises(StoreRefused, match="layout"):
        LocalStore(root)
    with pytest.raises(StoreRefused, match="layout"):
        LocalStore.create(root)


ACTIONS = {
    "get": lambda store: store.get(StoreKey("packs/aa/absent")),
    "get_range": lambda store: store.get_range(StoreKey("packs/aa/absent"), 0, 0),
    "put": lambda store: store.put(StoreKey("packs/bb/new"), b"x"),
    "head": lambda store: store.head(StoreKey("packs/aa/absent")),
    "list": lambda store: list(store.list("")),
    "list of a prefix": lambda store: list(store.list("packs/")),
    "list_dirs": lambda store: store.list_dirs("packs/"),
    "delete": lambda store: store.delete(StoreKey("packs/aa/absent")),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("left", ["nothing", "an empty mount point", "another store"])
def test_a_store_whose_disk_went_away_fails_and_is_never_empty(store, root, action, left):
    store.put(KEY, b"x")
    root.rename(root.with_name("elsewhere"))
    if left == "an empty mount point":
        root.mkdir()
    elif left == "another store":
        LocalStore.create(root)
    for _ in range(2):
        with pytest.raises(StoreRefused) as caught:
            action(store)
        assert not isinstance(caught.value, ObjectMissing)
    if left != "nothing":
        assert not (root / "packs").exists()


def test_a_store_whose_disk_comes_back_with_another_inode_goes_on(store, root):
    store.put(KEY, b"x")
    shutil.copytree(root, root.with_name("copy"))
    shutil.rmtree(root)
    root.with_name("copy").rename(root)
    assert store.get(KEY) == b"x"
    assert [info.key for info in store.list("")] == [KEY]
    store.put(StoreKey("packs/bb/two"), b"y")


def test_a_disk_that_goes_away_during_a_listing_makes_it_fail(store, root):
    store.put(KEY, b"x")
    store.put(StoreKey("packs/bb/two"), b"x")
    listing = store.list("packs/")
    next(listing)
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    with pytest.raises(StoreError):
        list(listing)


@pytest.mark.parametrize("prefix", ["", "packs/", "packs/aa/"])
def test_a_disk_that_goes_away_as_a_listing_begins_makes_it_fail(store, root, prefix):
    store.put(KEY, b"x")

    def hook(operation, moment):
        if operation.name == "scan" and root.joinpath("packs").exists():
            root.rename(root.with_name("elsewhere"))
            root.mkdir()

    for action in (
        lambda broken: list(broken.list(prefix)),
        lambda broken: broken.list_dirs(prefix),
    ):
        broken = open_with(root, FaultPlan(hook))
        with pytest.raises(StoreRefused, match="no store"):
            action(broken)
        root.rmdir()
        root.with_name("elsewhere").rename(root)


def test_an_unreadable_directory_makes_every_listing_above_it_fail(store, root):
    # By a hook, not by rights: root reads everything.
    for number in range(5):
        store.put(StoreKey(f"packs/{number:02x}/one"), b"x")

    def hook(operation, moment):
        if operation.name == "scan" and operation.target.endswith(b"packs/03"):
            raise PermissionError(errno.EACCES, "denied")

    broken = open_with(root, FaultPlan(hook))
    for prefix in ("", "packs/", "packs/03/"):
        with pytest.raises(StoreRefused) as caught:
            list(broken.list(prefix))
        assert "right" in caught.value.remedy
    with pytest.raises(StoreRefused):
        broken.list_dirs("packs/")
    assert len(list(broken.list("packs/02/"))) == 1


def test_a_directory_removed_behind_the_stores_back_fails_the_listing_that_saw_it(store, root):
    store.put(KEY, b"x")

    def hook(operation, moment):
        if operation.name == "scan" and operation.target.endswith(b"packs/aa"):
            shutil.rmtree(root / "packs/aa")

    with pytest.raises(StoreError):
        list(open_with(root, FaultPlan(hook)).list("packs/"))


def test_a_symlink_among_the_objects_is_an_error_and_not_an_absence(store, root, tmp_path):
    store.put(KEY, b"x")
    (root / "packs").rename(tmp_path / "packs")
    (root / "packs").symlink_to(tmp_path / "packs")
    for prefix in ("", "packs/"):
        with pytest.raises(StoreRefused, match="symlink"):
            list(store.list(prefix))
    with pytest.raises(StoreRefused, match="symlink"):
        store.list_dirs("")
    (root / "object").symlink_to(tmp_path / "packs/aa/one")
    with pytest.raises(StoreRefused):
        store.get(StoreKey("object"))
    with pytest.raises(StoreRefused, match="symlink"):
        store.head(StoreKey("object"))


def test_files_that_can_be_no_keys_are_left_alone(store, root):
    store.put(KEY, b"x")
    for name in (".DS_Store", "Thumbs.db", "packs/aa/with space", "packs/.hidden"):
        (root / name).write_bytes(b"not ours")
    (root / "lost+found").mkdir(0o000)
    assert [info.key for info in store.list("")] == [KEY]
    assert store.list_dirs("") == ["packs"]


def test_a_key_that_would_lie_below_another_object_or_replace_a_directory_is_refused(store):
    store.put(KEY, b"x")
    with pytest.raises(StoreRefused):
        store.put(StoreKey("packs/aa/one/two"), b"x")
    for condition in (ALWAYS, IF_ABSENT):
        with pytest.raises(StoreRefused, match="keys below"):
            store.put(StoreKey("packs/aa"), b"x", condition)
    assert [info.key for info in store.list("")] == [KEY]


MOMENTS: list[Moment] = ["before", "middle", "after"]


@pytest.mark.parametrize("condition", ["always", "absent", "match"])
def test_a_crash_at_any_point_of_a_put_leaves_the_old_or_the_new_object(tmp_path, condition):
    old = None if condition == "absent" else b"old"

    def run(root: Path, plan: FaultPlan) -> None:
        store = LocalStore.create(root)
        etag = store.put(KEY, old) if old is not None else None
        store.close()
        conditions = {"always": ALWAYS, "absent": IF_ABSENT, "match": Condition(if_match=etag)}
        dying = open_with(root, plan)
        try:
            dying.put(KEY, b"the new bytes", conditions[condition])
        finally:
            os.close(dying._temps._lock)  # as the system does for a dead process

    whole = FaultPlan()
    run(tmp_path / "whole", whole)
    assert whole.count >= 5
    seen = set()
    for number in range(1, whole.count + 1):
        for moment in MOMENTS:
            root = tmp_path / f"{number}-{moment}"
            try:
                run(root, crash_at(number, moment))
            except SimulatedCrash:
                pass
            else:
                assert moment != "before"  # few have a middle; what fails has no after
            after = LocalStore(root)
            found = [info.key for info in after.list("")]
            now = after.get(KEY) if found else None
            assert now in (old, b"the new bytes")
            seen.add(now)
            after.put(StoreKey("packs/aa/another"), b"x")  # and sweeps
            assert len(temps(root)) == 1, "only the living writer's own lock is left"
            after.close()
            assert temps(root) == []
    assert seen == {old, b"the new bytes"}


def test_a_put_that_returned_made_bytes_name_and_every_new_directory_durable(store, root):
    plan = FaultPlan()
    recording = open_with(root, plan)
    recording.put(KEY, b"x", IF_ABSENT)
    steps = [
        (step.name, os.path.relpath(os.fsdecode(step.target), root)) for step in plan.operations
    ]
    temp = steps[0][1]
    assert steps == [
        ("write_new", temp),
        ("fsync", temp),
        ("mkdir", "packs"),
        ("fsync", "."),
        ("mkdir", "packs/aa"),
        ("fsync", "packs"),
        ("rename_new", "packs/aa/one"),
        ("fsync", "packs/aa"),
    ]
    # Another program made the directories, and may not have come to its fsync yet.
    plan.operations.clear()
    later = open_with(root, plan)
    later.put(StoreKey("packs/aa/two"), b"x")
    synced = [os.fsdecode(step.target) for step in plan.operations if step.name == "fsync"]
    assert {os.path.relpath(path, root) for path in synced} >= {".", "packs", "packs/aa"}
    # Once known, it is not asked for again.
    plan.operations.clear()
    later.put(StoreKey("packs/aa/three"), b"x")
    assert [step.name for step in plan.operations] == ["write_new", "fsync", "rename_new", "fsync"]
    recording.close()
    later.close()


def test_a_failure_at_any_point_of_a_put_is_an_error_and_leaves_no_temporary_file(tmp_path):
    whole = FaultPlan()
    LocalStore.create(tmp_path / "whole").close()
    open_with(tmp_path / "whole", whole).put(KEY, b"x")
    for number in range(1, whole.count + 1):
        root = tmp_path / str(number)
        LocalStore.create(root).close()
        failing = open_with(
            root, fail_at(number, "before", lambda: OSError(errno.EIO, "broken disk"))
        )
        with pytest.raises(StoreError, match="broken disk") as caught:
            failing.put(KEY, b"x")
        assert caught.value.retryable
        assert all(name.endswith(".lock") for name in temps(root))
        failing.put(KEY, b"x")
        assert failing.get(KEY) == b"x"
        failing.close()


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (errno.ENOSPC, "Free space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "right"),
    ],
)
def test_what_trying_again_cannot_mend_says_what_can(root, store, code, word):
    plan = fail_at(1, "middle", lambda: OSError(code, os.strerror(code)))
    broken = open_with(root, plan)
    with pytest.raises(StoreRefused) as caught:
        broken.put(KEY, b"x")
    assert word in caught.value.remedy
    assert not caught.value.retryable
    assert caught.value.details == {"errno": errno.errorcode[code]}
    assert broken.head(KEY) is None
    broken.put(KEY, b"x")
    broken.close()


def test_a_truly_full_disk_leaves_the_old_object_and_takes_writes_when_there_is_room(tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        store = LocalStore.create(mount)
        store.put(KEY, b"old")
        with pytest.raises(StoreRefused, match="No space") as caught:
            store.put(KEY, bytes(1 << 20))
        assert "Free space" in caught.value.remedy
        assert store.get(KEY) == b"old"
        store.put(KEY, bytes(100_000))
        assert len(store.get(KEY)) == 100_000
        store.close()
        with (mount / "filler").open("wb"):
            pass
    finally:
        subprocess.run(["umount", mount], check=True)
    # The mount point is still there, and it is not an empty store.
    with pytest.raises(StoreRefused, match="no store"):
        list(store.list(""))
    with pytest.raises(StoreRefused, match="no store"):
        store.put(KEY, b"x")
    assert os.listdir(mount) == []


def test_a_lost_directory_of_objects_is_made_again_on_the_second_try(store, root):
    store.put(KEY, b"x")
    shutil.rmtree(root / "packs")
    with pytest.raises(StoreError):
        store.put(KEY, b"y")
    store.put(KEY, b"z")
    assert store.get(KEY) == b"z"


def test_a_replacement_is_later_than_what_it_replaces_even_if_the_clock_went_back(store, root):
    store.put(KEY, b"1")
    future = 4_000_000_000_000_000_000
    os.utime(root / KEY, ns=(future, future))
    etag = store.head(KEY).etag
    store.put(KEY, b"2", Condition(if_match=etag))
    assert os.lstat(root / KEY).st_mtime_ns == future + 1
    with pytest.raises(PreconditionFailed):
        store.put(KEY, b"3", Condition(if_match=etag))


def test_a_replacement_is_later_even_where_times_are_kept_in_steps_of_two_seconds(store, root):
    class Coarse(PosixFileSystem):
        __slots__ = ()

        def set_attributes(self, path, *, mode, mtime_ns):
            super().set_attributes(
                path, mode=mode, mtime_ns=mtime_ns // 2_000_000_000 * 2_000_000_000
            )

    store.put(KEY, b"1")
    future = 4_000_000_000_000_000_000
    os.utime(root / KEY, ns=(future, future))
    LocalStore(root, files=Coarse()).put(KEY, b"2")
    assert os.lstat(root / KEY).st_mtime_ns == future + 2_000_000_000


def test_an_object_deleted_while_it_was_to_be_replaced_is_written_as_a_new_one(store, root):
    store.put(KEY, b"old")

    class Deleting(PosixFileSystem):
        __slots__ = ()

        def rename_new(self, source, target):
            try:
                super().rename_new(source, target)
            except FileExistsError:
                os.unlink(target)
                raise

    LocalStore(root, files=Deleting()).put(KEY, b"new")
    assert store.get(KEY) == b"new"


def test_conditional_writes_hold_without_the_systems_exclusive_rename(store, monkeypatch):
    monkeypatch.setattr(native, "rename_exclusive", lambda source, target: False)
    store.put(KEY, b"1", IF_ABSENT)
    with pytest.raises(PreconditionFailed):
        store.put(KEY, b"2", IF_ABSENT)
    store.put(KEY, b"3")
    assert store.get(KEY) == b"3"


def test_an_object_that_ends_too_early_while_it_is_read_is_an_error(store, root, monkeypatch):
    store.put(KEY, b"0123456789")
    real_read = os.read
    reads = []

    def read(fd, size):
        reads.append(size)
        return real_read(fd, min(size, 3))

    monkeypatch.setattr(os, "read", read)
    assert store.get(KEY) == b"0123456789"
    assert len(reads) == 4

    def dry(fd, size):
        return b""

    monkeypatch.setattr(os, "read", dry)
    with pytest.raises(StoreError, match="early"):
        store.get(KEY)


def test_a_large_object_is_written_once_and_not_copied(store):
    data = bytearray(32 << 20)

    class Watching(PosixFileSystem):
        __slots__ = ()

        def write_new(self, path, parts, mode, mtime_ns):
            (part,) = parts
            assert isinstance(part, memoryview)
            assert part.obj is data
            return super().write_new(path, [part], mode, mtime_ns)

    LocalStore(os.fsencode(store._root), files=Watching()).put(KEY, data)
