"""An upstream prefix brought into a namespace with its clocks, and again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.errors import AccessError, UsageError
from tcfs.model.clock import VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import DeviceId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.sync.upstream_import.records import (
    FIELD,
    Imported,
    imported_of,
    latest,
    standing,
)
from tests.sync.kit import Device, World, assert_same
from tests.sync.upstream_import.bucket import MASTER, WRITTEN_AT, Upstream

ONE = {"clocks": {"yoga": 1}}
TWO = {"clocks": {"yoga": 2}}
SIDE = {"clocks": {"yoga": 1, "bates": 1}}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "bucket")


def bring(device: Device, upstream: Upstream, remote: str = "docs", **options):
    return device.fleet.upstream.run(upstream.top.as_uri(), remote, **options)


def test_files_come_into_the_namespace_with_their_clocks_and_reach_every_device(
    world: World, upstream: Upstream, tmp_path: Path
):
    anna, ben = world.devices("anna", "ben")
    key = tmp_path / "master"
    key.write_bytes(MASTER)
    key.chmod(0o600)
    wanted = {
        "notes.txt": b"hello",
        "deep/er/name": os.urandom(100_000),
        "empty": b"",
        "secret": b"sealed" * 2000,
        "old": b"version 1",
    }
    for name in ("notes.txt", "deep/er/name", "empty"):
        upstream.file(name, wanted[name], vclock=ONE)
    upstream.file("secret", wanted["secret"], key=os.urandom(32), vclock=TWO)
    upstream.file_v1("old", wanted["old"])
    done = bring(anna, upstream, master_key_file=key)
    assert (done.files, done.up_to_date, done.problems, done.conflicts) == (5, 0, [], [])
    assert done.clocks["secret"] == {"yoga": 2}
    anna.pull()
    ben.pull()
    assert ben.contents() == {f"docs/{name}": data for name, data in wanted.items()}
    assert_same(anna.tree, ben.tree)
    assert (ben.tree / "docs" / "notes.txt").stat().st_mtime == WRITTEN_AT
    # Whoever looks is told what upstream said; our own clock counts our own device alone.
    (version,) = ben.fleet.log("docs/notes.txt").versions
    assert version.imported == "written by yoga in the Rust tcfs, clock yoga 1"
    assert list(version.vclock) == [anna.fleet.status().device_id]
    (step,) = ben.fleet.why("docs/secret").steps
    assert step.explanation.startswith("written by yoga in the Rust tcfs, clock yoga 2; ")
    assert anna.push().plan.total == 0
    assert not anna.fleet.verify(read_data=True).problems


def test_a_second_import_does_nothing_and_a_third_brings_only_what_is_newer(
    world: World, upstream: Upstream
):
    anna = world.device("anna")
    upstream.file("a", b"one", vclock=ONE)
    upstream.file("b", b"two", vclock=ONE)
    bring(anna, upstream)
    segments = len(world.objects("ledger/default"))
    again = bring(anna, upstream)
    assert (again.files, again.up_to_date) == (0, 2)
    assert len(world.objects("ledger/default")) == segments
    upstream.file("a", b"one, edited", vclock=TWO)
    (told := bring(anna, upstream, dry_run=True))
    assert (told.files, told.segment) == (1, "")
    third = bring(anna, upstream)
    assert (third.files, third.up_to_date, third.conflicts) == (1, 1, [])
    anna.pull()
    assert anna.contents() == {"docs/a": b"one, edited", "docs/b": b"two"}
    # An older copy of the bucket changes nothing.
    upstream.file("a", b"before all", vclock={"clocks": {}})
    assert bring(anna, upstream).files == 0


def test_equal_content_is_up_to_date_whatever_its_clock(world: World, upstream: Upstream):
    anna = world.device("anna")
    upstream.file("a", b"one", vclock=TWO)
    bring(anna, upstream)
    upstream.file("a", b"one", vclock=SIDE)
    assert bring(anna, upstream).up_to_date == 1


def test_what_was_edited_here_and_there_is_a_conflict_and_nothing_is_lost(
    world: World, upstream: Upstream
):
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    upstream.file("a", b"one", vclock=ONE)
    bring(anna, upstream)
    ben.pull()
    ben.fill({"docs/a": b"ben's"})
    ben.push()
    upstream.file("a", b"upstream's", vclock=TWO)
    assert bring(anna, upstream).conflicts == ["docs/a"]
    ben.pull()
    (conflict,) = ben.fleet.conflicts().conflicts
    assert {v.file_hash for v in conflict.versions} == {
        v.file_hash for v in ben.fleet.log("docs/a").versions[:2]
    }
    assert ben.read("docs/a") == b"ben's"
    # Settled for either side, the next import goes on from there.
    assert bring(anna, upstream).up_to_date == 1
    ben.fleet.resolve("docs/a", "keep_remote")
    ben.pull()
    assert ben.read("docs/a") == b"upstream's"
    upstream.file("a", b"upstream's next", vclock={"clocks": {"yoga": 3}})
    assert bring(anna, upstream).conflicts == []
    ben.pull()
    assert ben.read("docs/a") == b"upstream's next"
    assert ben.fleet.conflicts().total == 0


def test_an_edit_here_stands_while_upstream_is_as_it_was(world: World, upstream: Upstream):
    anna = world.device("anna")
    upstream.file("a", b"one", vclock=ONE)
    upstream.file("b", b"two", vclock=ONE)
    bring(anna, upstream)
    anna.pull()
    anna.fill({"docs/a": b"edited"})
    anna.remove("docs/b")
    anna.push()
    assert bring(anna, upstream).up_to_date == 2
    anna.pull()
    assert anna.contents() == {"docs/a": b"edited"}


def test_upstream_versions_that_are_concurrent_conflict(world: World, upstream: Upstream):
    anna = world.device("anna", TCFS_SYNC_CONFLICT_MODE="defer")
    upstream.file("a", b"one", vclock=TWO)
    bring(anna, upstream)
    upstream.file("a", b"other", vclock=SIDE)
    assert bring(anna, upstream).conflicts == ["docs/a"]
    assert bring(anna, upstream).up_to_date == 1
    upstream.file("a", b"merged", vclock={"clocks": {"yoga": 2, "bates": 1}})
    assert bring(anna, upstream).conflicts == []
    anna.pull()
    assert anna.contents() == {"docs/a": b"merged"}


def test_files_that_the_fleet_has_already_get_their_clock_and_send_nothing(
    world: World, upstream: Upstream
):
    anna = world.device("anna")
    anna.fill({"docs/a": b"one", "docs/b": b"mine"})
    (anna.tree / "docs" / "a").chmod(0o600)
    anna.push()
    before = anna.snapshot()
    upstream.file("a", b"one", vclock=ONE)
    upstream.file("b", b"theirs", vclock=ONE)
    done = bring(anna, upstream)
    assert (done.files, done.bytes, done.conflicts) == (2, len(b"theirs"), ["docs/b"])
    anna.pull(mode="defer")
    assert anna.snapshot() == before
    upstream.file("a", b"two", vclock=TWO)
    assert bring(anna, upstream).conflicts == []
    anna.pull(mode="defer")
    assert anna.read("docs/a") == b"two"


def test_an_edit_on_disk_that_was_not_pushed_is_kept(world: World, upstream: Upstream):
    anna = world.device("anna", TCFS_SYNC_CONFLICT_MODE="defer")
    upstream.file("a", b"one", vclock=ONE)
    bring(anna, upstream)
    anna.pull()
    anna.fill({"docs/a": b"on disk alone"})
    upstream.file("a", b"upstream's", vclock=TWO)
    bring(anna, upstream)
    anna.pull()
    assert anna.read("docs/a") == b"on disk alone"
    assert anna.fleet.conflicts().total == 1


def test_an_import_that_was_cut_off_goes_on_where_it_stopped(
    world: World, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tcfs.sync.upstream_import.fleet.BATCH_FILES", 2)
    monkeypatch.setattr("tcfs.sync.commit.PART_BYTES", 1)
    anna = world.device("anna")
    for number in range(6):
        upstream.file(f"f{number}", b"%d" % number, vclock=ONE)
    asked = iter(range(100))
    with pytest.raises(Exception, match="stopped"):
        bring(anna, upstream, cancel=lambda: next(asked) > 9)
    assert not (anna.home / "state" / "import-scratch").exists()
    rest = bring(anna, upstream)
    assert 0 < rest.up_to_date < 6
    assert rest.files + rest.up_to_date == 6
    anna.pull()
    assert len(anna.contents()) == 6


def test_what_cannot_come_is_a_problem_and_the_rest_comes(world: World, upstream: Upstream):
    anna = world.device("anna")
    anna.fill({"docs/dir/x": b"", "docs/file": b""})
    anna.push()
    upstream.file("good", b"good")
    upstream.file("dir", b"a file where there is a directory")
    upstream.file("file/below", b"below a file")
    upstream.file("repo/.git/tcfs/refs/heads/main", b"forged")
    upstream.file("repo/.Git/hooks/post-checkout", b"forged too")
    upstream.file("many", b"many", vclock={"clocks": {f"d{n}": 1 for n in range(300)}})
    damaged = upstream.file("damaged", b"damaged")
    (upstream.top / "chunks" / upstream.chunks(b"damaged")[0]).write_bytes(b"other")
    assert damaged
    done = bring(anna, upstream)
    assert sorted(problem.path for problem in done.problems) == [
        "damaged",
        "dir",
        "file/below",
        "many",
        "repo/.Git/hooks/post-checkout",
        "repo/.git/tcfs/refs/heads/main",
    ]
    assert done.files == 1
    anna.pull()
    assert anna.read("docs/good") == b"good"


def test_one_file_goes_where_it_says_or_where_it_is_told(world: World, upstream: Upstream):
    anna = world.device("anna")
    digest = upstream.file("a/b", b"one", vclock=ONE)
    source = f"{upstream.top.as_uri()}/manifests/{digest}"
    anna.fleet.upstream.run(source)
    anna.fleet.upstream.run(source, "elsewhere")
    nameless = upstream.file("x", b"nameless", rel_path=None)
    with pytest.raises(UsageError, match="does not say which file"):
        anna.fleet.upstream.run(f"{upstream.top.as_uri()}/manifests/{nameless}")
    anna.pull()
    assert anna.contents() == {"a/b": b"one", "elsewhere": b"one"}


def test_a_reader_imports_nothing(world: World, upstream: Upstream):
    world.device("anna")
    ben = world.device("ben", role="reader")
    upstream.file("a", b"one")
    with pytest.raises(AccessError):
        bring(ben, upstream)


# Records


clocks = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
records = st.builds(Imported, st.sampled_from(["1" * 64, "2" * 64, "3" * 64]), clocks)


def version_of(number: int, record: Imported) -> Version:
    manifest = SyncManifest(
        RelPath(b"a"), "file", VectorClock(), (), "", 0, extra={FIELD: record.to_json()}
    )
    device = DeviceId("00000000-0000-4000-8000-000000000001")
    return Version(VersionId(device, number), number, number, "write", manifest)


@given(records, st.lists(records, max_size=4))
def test_a_version_never_replaces_what_upstream_did_not_know(now: Imported, before: list[Imported]):
    known = latest([version_of(n, record) for n, record in enumerate(before, 1)])
    by_id = {version.id: record for version, record in known}
    how, replaced = standing(now, known)
    for version in replaced:
        assert by_id[version].clock.compare(now.clock).value == "before"
    if any(record.manifest_hash == now.manifest_hash for record in by_id.values()):
        assert how == "up_to_date"
    if how == "newer":
        assert set(replaced) == set(by_id)
    if how in ("up_to_date", "older"):
        assert not replaced


@given(records)
def test_a_record_reads_back_as_it_was_written(record: Imported):
    assert imported_of(version_of(1, record).manifest) == record


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"manifest_hash": 1, "vclock": {"clocks": {}}, "written_by": "", "written_at": 0},
        {"manifest_hash": "", "vclock": {"clocks": []}, "written_by": "", "written_at": 0},
        {"manifest_hash": "", "vclock": {"clocks": {"a": -1}}, "written_by": "", "written_at": 0},
        {"manifest_hash": "", "vclock": {"clocks": {"a": "1"}}, "written_by": "", "written_at": 0},
        {"manifest_hash": "", "vclock": {"clocks": {}}, "written_by": "x" * 999, "written_at": 0},
        {"manifest_hash": "", "vclock": {"clocks": {}}, "written_by": "", "written_at": True},
    ],
)
def test_a_record_that_is_none_is_not_believed(data: object):
    manifest = SyncManifest(RelPath(b"a"), "file", VectorClock(), (), "", 0, extra={FIELD: data})
    assert imported_of(manifest) is None
