"""How other tools lost files, told as tests: each ends with every byte still to be had."""

from __future__ import annotations

import os
import shutil

import pytest

from tcfs.errors import IdentityError, LimitError, LocalFileError, StoreError, TcfsError
from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.store.wrappers.fault import FaultStore
from tcfs.sync import session
from tcfs.sync.facade import Limits
from tests.sync.gc.support import check_clean, collect, leave_orphan, noise, packs, settle
from tests.sync.kit import Device, Watching, World, assert_same, watched_host


def texts(*devices: Device) -> set[bytes]:
    """Every content that is in a tree."""
    return {device.read(name) for device in devices for name in device.contents()}


def test_an_incoming_file_over_a_local_file_that_no_scan_has_seen(world: World) -> None:
    """A sync tool wrote a download over a file that its last scan was too early to know."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"notes/new.txt": b"anna's"})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)

    def appear(method: str, path: bytes) -> None:
        # Between the decision and the rename, a program saves a file of that name.
        if method == "rename_new" and path.endswith(b"notes"):
            files.before = lambda m, p: None
            ben.fill({"notes/new.txt": b"ben's own"})

    files.before = appear
    ben.pull()
    ben.reopen()
    ben.push()
    ben.pull()
    anna.pull()
    assert {b"anna's", b"ben's own"} <= texts(ben)
    assert_same(anna.tree, ben.tree)


def test_a_rename_that_changes_case_alone(world: World) -> None:
    """Deleted under the old name after it was written under the new one: the same file."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"Readme": b"text", "Dir/inside": b"more"})
    anna.push()
    ben.pull()
    os.rename(anna.path("Readme"), anna.path("README"))
    os.rename(anna.path("Dir"), anna.path("dir"))
    anna.push()
    ben.pull()
    assert ben.contents() == {"README": b"text", "dir/inside": b"more"}
    assert_same(anna.tree, ben.tree)
    check_clean(anna, ben)


@pytest.mark.parametrize("how", ["gone", "empty", "another"])
def test_a_root_that_is_unmounted_or_replaced(world: World, how: str) -> None:
    """An empty mount point was taken for a tree in which everything had been deleted."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n}": b"%d" % n for n in range(20)})
    anna.push()
    ben.pull()
    away = ben.tree.with_name("away")
    ben.tree.rename(away)
    if how != "gone":
        ben.tree.mkdir()
    if how == "another":
        ben.fill({"f1": b"of another disk", ".tcfs/root": b"another's marker\n"})
    for act in (ben.push, ben.pull, ben.sync):
        with pytest.raises(LocalFileError):
            act(limits=Limits(confirmed=True))
    assert anna.pull().plan.total == 0
    shutil.rmtree(ben.tree, ignore_errors=True)
    away.rename(ben.tree)
    ben.sync()
    anna.pull()
    assert len(anna.contents()) == 20
    assert_same(anna.tree, ben.tree)


def test_an_index_that_came_back_from_a_backup_without_its_data(world: World) -> None:
    """A restored database said that all files were there; the disk was empty."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n}": b"%d" % n for n in range(20)})
    anna.push()
    ben.pull()
    ben.close()
    shutil.rmtree(ben.tree)
    ben.tree.mkdir()
    with pytest.raises(LocalFileError):
        ben.push(limits=Limits(confirmed=True))
    anna.pull()
    assert len(anna.contents()) == 20
    # The other way round: an old index beside newer data and a newer history.
    shutil.copytree(anna.home, anna.home.with_name("backup"))
    anna.close()
    anna.fill({"f1": b"newer"})
    anna.push()
    anna.close()
    shutil.rmtree(anna.home)
    anna.home.with_name("backup").rename(anna.home)
    anna.fill({"f2": b"newest"})
    with pytest.raises(IdentityError):
        anna.push()
    anna.fleet.rebuild_index()
    anna.push()
    assert anna.read("f1") == b"newer"
    assert anna.read("f2") == b"newest"
    assert len(anna.contents()) == 20
    check_clean(anna)


def test_a_device_that_comes_back_after_everybody_forgot_what_was_deleted(world: World) -> None:
    """Tombstones had expired: what the others had deleted came back, or edits were dropped."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"deleted": noise(1), "edited": b"old"})
    anna.push()
    ben.pull()
    for n in (2, 3, 4):
        anna.fill({"deleted": noise(n)})
        anna.push()
    anna.remove("deleted")
    anna.push()
    ben.fill({"edited": b"on the road"})
    # As long as ben belongs, nothing that he has not heard of is forgotten, however long it takes.
    anna.fleet.gc.set_retention(keep_versions=2)
    collect(anna)
    assert collect(anna).swept.packs == 0
    ben.pull()
    assert not os.path.exists(ben.path("deleted"))
    ben.push()
    anna.pull()
    assert anna.read("edited") == b"on the road"
    assert collect(anna).swept.packs == 2
    assert_same(anna.tree, ben.tree)
    check_clean(anna, ben)


def test_a_device_that_was_expired_keeps_its_edits_and_joins_anew(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"1", "b": b"2"})
    anna.push()
    ben.pull()
    ben.fill({"a": b"edit while away"})
    anna.remove("b")
    anna.push()
    anna.fleet.gc.expire("ben")
    for act in (ben.push, ben.pull):
        with pytest.raises(TcfsError, match="away"):
            act()
    code = anna.fleet.invite().code
    ben.close()
    session.enroll_fleet(ben.loaded, name="ben-again", invite=code, new_identity=True)
    ben.sync()
    anna.pull()
    # What anna deleted may come back, since nobody knows where ben's copy is from; nothing is lost.
    assert {b"1", b"edit while away"} <= texts(anna)
    assert_same(anna.tree, ben.tree)


def test_an_equal_pair_that_was_never_recorded_and_then_deleted_on_one_side(world: World) -> None:
    """Both sides had the file all along, so no record was made: a deletion looked like an addition,
    or an addition like a deletion.
    """
    anna, ben = world.devices("anna", "ben")
    anna.fill({"same": b"both have it", "theirs": b"x"})
    ben.fill({"same": b"both have it"})
    anna.push()
    ben.pull()  # finds the pair equal, and records it
    anna.remove("same")
    anna.push()
    ben.pull()
    assert not os.path.exists(ben.path("same"))
    # Never pulled before the deletion: ben's copy is ben's own, and stays.
    carl = world.device("carl")
    carl.fill({"theirs": b"x"})
    anna.remove("theirs")
    anna.push()
    carl.pull()
    assert carl.read("theirs") == b"x"
    carl.push()
    anna.pull()
    assert anna.read("theirs") == b"x"


def test_a_listing_that_fails_during_garbage_collection(world: World) -> None:
    """A listing that broke off was read as "nothing refers to this"."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"needed": noise(1)})
    anna.push()
    leave_orphan(anna)
    settle([ben])
    collect(anna)
    settle([ben])
    before = packs(world)
    for prefix in ("packs/", "ledger/default/", "ledger/_control/", "claims/"):

        def hook(operation: Operation, moment: Moment, prefix: str = prefix) -> None:
            listing = operation.name.startswith("list") and moment == "after"
            if listing and str(operation.target).startswith(prefix):
                raise StoreError("the listing broke off")

        anna.reopen(store=FaultStore(world.open_store(), FaultPlan(hook)))
        with pytest.raises(StoreError):
            collect(anna)
        assert packs(world) == before
    anna.reopen()
    assert collect(anna).swept.packs == 1
    check_clean(anna, ben)


def test_a_retention_policy_with_a_typo_that_selects_everything(world: World) -> None:
    """``keep-last 1`` was typed for ``keep-last 10``, and history was gone with the next run."""
    (anna,) = world.devices("anna")
    for n in range(5):
        anna.fill({"file": noise(n)})
        anna.push()
    before = packs(world)
    with pytest.raises(LimitError, match="all 4 replaced versions"):
        anna.fleet.gc.set_retention(keep_versions=1)
    for days, versions in ((0, None), (None, 0), (-1, None), (None, 10**9), (10**6, None)):
        with pytest.raises(TcfsError):
            anna.fleet.gc.set_retention(keep_days=days, keep_versions=versions)
    assert anna.fleet.gc.retention().let_go == 0
    # A policy that was fine when it was set is refused, too, where it comes to select everything.
    anna.fleet.gc.set_retention(keep_versions=4)
    anna.fleet.gc.hold("before")
    anna.fleet.gc.set_retention(keep_versions=2)
    collect(anna)
    held = {version.id for version in anna.fleet.log("file").versions}
    assert len(held) == 5
    collect(anna)
    assert before - packs(world)
    assert anna.read("file") == noise(4)
    check_clean(anna)


def test_a_repair_that_is_interrupted(world: World) -> None:
    """The damaged file was removed first, and its good copy was to come later."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"good bytes", "b": b"more good"})
    anna.push()
    ben.pull()
    for name in ("a", "b"):
        stat = os.lstat(ben.path(name))
        with open(ben.path(name), "r+b") as file:
            file.write(b"BAD")
        os.utime(ben.path(name), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    # The disk rots without a new ctime.
    base = ben.fleet._context.state.database.connection
    for raw in (b"a", b"b"):
        base.execute(
            "UPDATE base SET ctime_ns = ? WHERE path = ?",
            (os.lstat(ben.path(raw)).st_ctime_ns, raw),
        )

    for stop in ("write_new", "barrier", "exchange"):
        host, files = watched_host()
        ben.reopen(host=host)
        _crash_before(files, stop)
        with pytest.raises(SimulatedCrash):
            ben.fleet.verify(local=True, repair=True)
        assert {"a", "b"} <= ben.contents().keys()
    ben.reopen()
    ben.fleet.verify(local=True, repair=True)
    assert (ben.read("a"), ben.read("b")) == (b"good bytes", b"more good")
    assert {b"BADd bytes", b"BADe good"} <= texts(ben)
    ben.push()
    anna.pull()
    assert (anna.read("a"), anna.read("b")) == (b"good bytes", b"more good")


def _crash_before(files: Watching, method: str) -> None:
    def crash(name: str, path: bytes) -> None:
        if name == method:
            files.before = dead
            raise SimulatedCrash

    def dead(name: str, path: bytes) -> None:
        raise SimulatedCrash

    files.before = crash


def test_metadata_noise_makes_no_conflicts(world: World) -> None:
    """Times and modes that every system rounds in its own way made a conflict of every file."""
    anna, ben, carl = world.devices("anna", "ben", "carl")
    anna.fill({f"d/f{n}": b"%d" % n for n in range(10)})
    anna.push()
    settle((ben, carl))
    for round_ in range(3):
        for device in (anna, ben, carl):
            for n in range(10):
                os.utime(device.path(f"d/f{n}"), (round_, 1000 * round_ + n + len(device.name)))
            os.chmod(device.path("d/f0"), 0o644 if round_ % 2 else 0o600)
            device.push()
        for device in (anna, ben, carl):
            device.pull()
    for device in (anna, ben, carl):
        device.pull()
    assert len(anna.contents()) == 10
    assert anna.fleet.conflicts().total == 0
    assert_same(anna.tree, ben.tree)
    assert_same(ben.tree, carl.tree)
