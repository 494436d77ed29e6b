"""Where an earlier sync of this name failed, one to twelve: none of it may happen here."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from tcfs.errors import AccessError, UsageError
from tcfs.model.clock import VectorClock
from tcfs.model.ids import RelPath
from tcfs.model.manifest import SyncManifest, is_manifest_v1, parse_manifest_v1
from tcfs.store.open import open_store
from tcfs.store.wrappers.count import CountStore
from tcfs.sync import session
from tcfs.sync.commit import Committer, Draft
from tests.sync.kit import Link, World, assert_same, fill, path_of, snapshot, watched_host

# 1: conflicts


def test_two_devices_pushing_different_content_to_one_path_conflict_and_neither_is_lost(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"notes.txt": "from anna"})
    ben.fill({"notes.txt": "from ben"})

    assert anna.push().conflicts == ()
    second = ben.push()

    assert [c.path for c in second.conflicts] == ["notes.txt"]
    sides = ben.fleet.show_conflict("notes.txt")
    assert (sides.ours.text, sides.theirs.text) == ("from ben", "from anna")
    assert anna.read("notes.txt") == b"from anna"
    assert ben.read("notes.txt") == b"from ben"


def test_pushing_an_unchanged_stale_tree_again_reverts_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old", "b.txt": "stays"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new"})
    anna.push()

    stale = ben.push()
    assert (stale.plan.total, stale.segment, stale.conflicts) == (0, "", ())
    anna.pull()
    ben.pull()

    assert anna.contents() == ben.contents() == {"a.txt": b"new", "b.txt": b"stays"}


def test_a_stale_tree_whose_state_was_lost_is_known_again_and_reverts_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    anna.fill({"a.txt": "old"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new"})
    anna.push()
    ben.fleet.rebuild_index()

    pushed = ben.push()

    assert (pushed.segment, pushed.conflicts) == ("", ())
    anna.pull()
    ben.pull()
    assert anna.contents() == ben.contents() == {"a.txt": b"new"}


# 2: earlier content


def test_returning_a_file_to_earlier_content_is_a_new_version(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for content in ("one", "two"):
        anna.fill({"a.txt": content})
        anna.push()
    ben.pull()
    assert ben.read("a.txt") == b"two"

    anna.fill({"a.txt": "one"})
    assert anna.push().segment
    ben.pull()

    assert ben.read("a.txt") == b"one"
    assert len(anna.fleet.log("a.txt").versions) == 3


# 3: deletes and renames


def test_deletes_are_sent(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"keep.txt": "k", "gone.txt": "g", "d/e/f.txt": "f", "l": Link("keep.txt")})
    anna.push()
    ben.pull()
    for name in ("gone.txt", "d/e/f.txt", "l"):
        anna.remove(name)
    os.rmdir(anna.path("d/e"))
    os.rmdir(anna.path("d"))

    assert anna.push().plan.counts == {"delete": 5}
    ben.pull()

    assert_same(anna.tree, ben.tree)
    assert ben.contents() == {"keep.txt": b"k"}


def test_a_move_sends_no_content_again(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    big = secrets.token_bytes(1 << 20)
    anna.fill({"old.bin": big, "dir/one.bin": big[::-1], "other.txt": "o"})
    assert anna.push().transfer.bytes_sent > 2 << 20
    ben.pull()
    os.rename(anna.path("old.bin"), anna.path("new.bin"))
    os.rename(anna.path("dir"), anna.path("moved"))

    moved = anna.push()

    assert moved.plan.counts == {"add": 1, "delete": 1, "move": 2}
    assert moved.transfer.bytes_sent < 8192
    assert moved.transfer.packs == 0
    newest = {v.path: v for v in anna.fleet.log(limit=20).versions}
    assert newest["new.bin"].moved_from == "old.bin"
    assert newest["moved/one.bin"].moved_from == "dir/one.bin"
    ben.pull()
    assert_same(anna.tree, ben.tree)


# 4: empty files, v1 manifests


def test_an_empty_file_is_pushed_and_pulled(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"empty": b"", "d/also": b""})
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    # Growing and shrinking to nothing again travel too.
    ben.fill({"empty": "now full"})
    ben.push()
    anna.pull()
    anna.fill({"empty": b""})
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_v1_manifests_parse_and_broken_json_is_no_v1_manifest() -> None:
    ids = ["ab" * 32, "cd" * 32]
    text = "\n".join(ids) + "\n"
    assert is_manifest_v1(text)
    assert [chunk.hex() for chunk in parse_manifest_v1(text)] == ids
    assert parse_manifest_v1("") == ()
    assert not is_manifest_v1('{"version": 2, "chu')


# 5: edits that times alone do not show


def test_an_edit_of_the_same_size_within_the_same_second_is_noticed(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "aaaa"})
    anna.push()
    anna.fill({"a.txt": "bbbb"})
    assert anna.push().plan.counts == {"change": 1}
    ben.pull()
    assert ben.read("a.txt") == b"bbbb"


def test_an_edit_of_the_same_size_is_noticed_although_its_mtime_was_put_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "aaaa"})
    anna.push()
    before = os.stat(anna.path("a.txt")).st_mtime_ns
    anna.fill({"a.txt": "bbbb"})
    os.utime(anna.path("a.txt"), ns=(before, before))

    assert anna.push().plan.counts == {"change": 1}
    ben.pull()

    assert ben.read("a.txt") == b"bbbb"


def test_an_edit_while_a_pull_had_just_ended_is_noticed(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "aaaa"})
    anna.push()
    ben.pull()
    at = os.stat(ben.path("a.txt")).st_mtime_ns
    ben.fill({"a.txt": "bbbb"})
    os.utime(ben.path("a.txt"), ns=(at, at))
    ben.push()
    anna.pull()
    assert anna.read("a.txt") == b"bbbb"


# 6: what else a tree has


def test_modes_times_links_empty_directories_and_odd_names_survive(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    odd = [b"\xff\xfe.bin", b"line\nbreak", b"tab\there", b"quote\"'", b"back\\slash", b" ", b"-x"]
    odd += ["ünï¢ødé".encode(), "e\u0301".encode(), "\u202eevil".encode(), b"a" * 255]
    odd += [b"*?[x]", b"~", b"con", b"nul.txt", b"\xff" * 200, b"\xff" * 255]
    anna.fill({name: name for name in odd})
    anna.fill({b"d\xffr/" + name: b"" for name in odd[:3]})
    anna.fill({"run.sh": "#!/bin/sh\n", "secret": "s", "empty/": None, "deep/a/b/c/": None})
    anna.fill(
        {"l1": Link("run.sh"), "l2": Link("/nowhere"), "l3": Link(b"../\xff"), "l4": Link(".")}
    )
    os.chmod(anna.path("run.sh"), 0o755)
    os.chmod(anna.path("secret"), 0o600)
    os.chmod(anna.path("empty"), 0o700)
    os.chmod(anna.path("deep/a"), 0o2775)
    for number, (name, kind) in enumerate((("run.sh", 1), ("secret", 1), ("l1", 0), ("l2", 0))):
        when = 1_234_567_890_123_456_789 + number if kind else -123_456_789
        os.utime(anna.path(name), ns=(when, when), follow_symlinks=False)

    assert anna.push().problems == ()
    assert ben.pull().problems == ()

    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0
    assert anna.pull().plan.total == 0


# 7: paths


@pytest.mark.parametrize(
    "remote",
    ["../evil", "a/../../evil", "/etc/passwd", "tcfs/default/../x", "a//b", "./a", "a/.tcfs/root"],
)
def test_a_remote_path_that_leaves_the_namespace_is_refused(world: World, remote: str) -> None:
    (anna,) = world.devices("anna")
    anna.fill({"a.txt": "a"})
    with pytest.raises(UsageError):
        anna.push("a.txt", as_remote=remote)
    with pytest.raises(UsageError):
        anna.fleet.pull(remote, path_of(world.top / "out"))
    assert not (world.top / "evil").exists()


@pytest.mark.parametrize("hostile", [b"../evil", b"d/../../evil", b"/tmp/evil", b".tcfs/root"])
def test_a_path_that_a_hostile_device_wrote_reaches_no_disk(world: World, hostile: bytes) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    context = ben.fleet._context
    ben.pull()
    marker = anna.read(".tcfs/root")
    with context.host.lock(session.lock_path(ben.loaded), False):
        committer = Committer(context, context.namespace)
        manifest = SyncManifest(RelPath(hostile), "symlink", VectorClock(), (), "", 0, target=b"x")
        committer.add([Draft("write", manifest, VectorClock())])
        committer.flush()
    anna.fill({"b.txt": "b"})

    anna.pull()
    assert anna.push().segment
    assert not os.path.lexists(world.top / "anna" / "evil")
    assert not os.path.lexists("/tmp/evil")
    assert anna.read(".tcfs/root") == marker
    assert any("refused" in w or "damaged" in w for w in anna.fleet.status().warnings)


def test_symlinks_are_not_followed_out_of_a_root(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    outside = world.top / "outside"
    fill(outside, {"precious.txt": "p"})
    anna.fill({"d/f.txt": "f"})
    anna.push()
    ben.pull()
    # On ben's disk a link now stands where the fleet has a directory.
    os.unlink(ben.path("d/f.txt"))
    os.rmdir(ben.path("d"))
    ben.fill({"d": Link(outside)})
    anna.fill({"d/f.txt": "new", "d/precious.txt": "overwritten?"})
    anna.push()

    ben.pull()

    assert snapshot(outside)[b"precious.txt"].data == b"p"
    assert not (outside / "f.txt").exists()


def test_pushing_an_absolute_path_leaves_its_source_alone(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    source = world.top / "elsewhere" / "report.txt"
    fill(source.parent, {"report.txt": "r"})
    before = (source.read_bytes(), os.lstat(source))

    result = anna.fleet.push([path_of(source)])

    after = (source.read_bytes(), os.lstat(source))
    assert before == after
    assert result.remote == "tcfs/default/report.txt"
    ben.pull()
    assert ben.read("report.txt") == b"r"


# 8: keep_local


def test_what_keep_local_kept_can_be_read_everywhere(world: World) -> None:
    anna, ben, cleo = world.devices("anna", "ben", "cleo", TCFS_SYNC_CONFLICT_MODE="defer")
    ours, theirs = secrets.token_bytes(300_000), secrets.token_bytes(300_000)
    anna.fill({"a.bin": ours})
    anna.push()
    ben.fill({"a.bin": theirs})
    ben.push()

    ben.fleet.resolve("a.bin", "keep_local")

    for device in (anna, ben, cleo):
        device.pull()
        assert device.read("a.bin") == theirs
        assert device.fleet.conflicts().total == 0


# 9: memory


@pytest.mark.slow
def test_a_large_file_is_pushed_and_pulled_in_bounded_memory(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    chunk = secrets.token_bytes(1 << 20)
    with open(anna.path("big.bin"), "wb") as file:
        for number in range(200):
            file.write(number.to_bytes(8, "big") + chunk[8:])
    anna.close()
    ben.close()
    code = (
        "import re, sys\n"
        "from tcfs.config.load import load_config\n"
        "from tcfs.sync.session import open_fleet\n"
        "fleet = open_fleet(load_config(), actor='test')\n"
        "result = getattr(fleet, sys.argv[1])(*([[]] if sys.argv[1] == 'push' else []))\n"
        "assert not result.problems, result.problems\n"
        # Not ru_maxrss: that remembers the process that was forked to start this one.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    for device, verb in ((anna, "push"), (ben, "pull")):
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(device.home),
            "TCFS_HOME": str(device.home),
            "TCFS_REMOTE": world.endpoint,
            "TCFS_SYNC_SYNC_ROOT": str(device.tree),
        }
        done = subprocess.run(
            [sys.executable, "-c", code, verb], env=environ, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        peak_kib = int(done.stdout)
        assert peak_kib < 220 << 10, f"{verb} took {peak_kib >> 10} MiB"
    sizes = {os.path.getsize(d.path("big.bin")) for d in (anna, ben)}
    assert sizes == {200 << 20}
    assert anna.read("big.bin") == ben.read("big.bin")


# 10: temporary names


def test_names_that_look_alike_do_not_collide_on_their_way_to_disk(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    names = ["a.txt", "a.md", "a", "a.tmp", ".a.txt.tmp", "1", "2", "tmp/1", "A.TXT", "a.txt.tmp"]
    anna.fill({name: f"this is {name}" for name in names})
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    anna.fill({name: f"that is {name}" for name in names})
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    assert ben.contents() == {name: f"that is {name}".encode() for name in names}


# 11: the fleet's members


def test_devices_that_enroll_at_the_same_time_are_all_in_the_registry(world: World) -> None:
    anna = world.device("anna")
    names = ["ben", "cleo", "dora", "emil", "fay"]
    codes = {name: anna.fleet.invite().code for name in names}
    joining = [world.device(name, join=False) for name in names]
    gate = threading.Barrier(len(names), timeout=60)
    failures: list[BaseException] = []

    def join(device) -> None:
        try:
            gate.wait()
            session.enroll_fleet(device.loaded, name=device.name, invite=codes[device.name])
        except BaseException as error:  # noqa: BLE001 - the test shows it
            failures.append(error)

    threads = [threading.Thread(target=join, args=(device,)) for device in joining]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    registry = orjson.loads((world.store_dir / "tcfs-meta" / "devices.json").read_bytes())
    assert {d["name"] for d in registry["devices"]} == {"anna", *names}
    assert {d.name for d in anna.fleet.devices()} == {"anna", *names}


def test_a_revoked_device_can_neither_push_nor_have_what_it_forced_in_believed(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    ben.fill({"before.txt": "fine"})
    ben.push()
    revoked = anna.fleet.revoke("ben")
    assert revoked.revoked

    ben.fill({"after.txt": "not fine"})
    with pytest.raises(AccessError, match="revoked") as caught:
        ben.push()
    assert caught.value.exit_code == 12
    assert "new-identity" in caught.value.remedy

    # A client that does not care: it commits all the same.
    context = ben.fleet._context
    with pytest.raises(AccessError):
        Committer(context, context.namespace)
    anna.pull()
    assert anna.contents() == {"before.txt": b"fine"}
    listed = {d.name: d.revoked for d in anna.fleet.devices()}
    assert listed == {"anna": False, "ben": True}
    registry = orjson.loads((world.store_dir / "tcfs-meta" / "devices.json").read_bytes())
    assert {d["name"]: d["revoked"] for d in registry["devices"]} == listed


# 12: encryption


def test_neither_content_nor_names_nor_keys_are_readable_in_the_store(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    secret = b"a very secret sentence that must not be readable"
    anna.fill({"tax-return-2024.txt": secret, "family/letter.txt": secret * 50})
    mixed = secret + secrets.token_bytes(500_000) + secret
    anna.fill({"big.bin": mixed, "shortcut": Link("family/letter.txt")})
    anna.push()
    ben.pull()
    ben.fill({"family/letter.txt": secret + b" edited"})
    ben.push()

    stored = {str(path): path.read_bytes() for path in world.objects()}
    assert any("/packs/" in name for name in stored)
    for name, data in stored.items():
        for plain in (b"very secret", b"tax-return", b"letter", b"shortcut", b"family"):
            assert plain not in data, name
            assert plain.decode() not in name


def test_without_encryption_the_same_search_finds_them(world: World) -> None:
    anna = world.device("anna", join=False, TCFS_CRYPTO_ENABLED="false")
    session.init_fleet(anna.loaded, name="anna")
    anna.fill({"tax-return-2024.bin": b"a very secret sentence" + secrets.token_bytes(3000)})
    anna.push()
    assert any(b"very secret" in path.read_bytes() for path in world.objects())


def test_the_recovery_phrase_restores_everything_on_a_new_machine(world: World) -> None:
    anna = world.device("anna", join=False)
    phrase = session.init_fleet(anna.loaded, name="anna").phrase
    assert len(phrase.split()) == 24
    anna.fill({"only.txt": "the only copy", "d/e.bin": secrets.token_bytes(50_000)})
    anna.push()
    ben = world.device("ben", join=True)  # an epoch and an invite later
    ben.fill({"ben.txt": "b"})
    ben.push()
    anna.fleet.revoke("ben")
    anna.fill({"later.txt": "after a new epoch"})
    anna.push()

    new = world.device("new", join=False)
    session.recover_fleet(new.loaded, phrase=phrase, name="new")
    assert new.pull().problems == ()

    anna.pull()
    assert_same(anna.tree, new.tree)
    assert new.contents()["later.txt"] == b"after a new epoch"
    # It is an admin, and what it writes counts.
    new.fill({"new.txt": "n"})
    new.push()
    anna.pull()
    assert anna.read("new.txt") == b"n"
    new.fleet.revoke("anna")
    assert {d.name for d in new.fleet.devices() if not d.revoked} == {"new"}


def test_another_phrase_does_not_restore(world: World, tmp_path: Path) -> None:
    anna = world.device("anna", join=False)
    session.init_fleet(anna.loaded, name="anna")
    elsewhere = World(tmp_path / "elsewhere")
    other = elsewhere.device("other", join=False)
    phrase = session.init_fleet(other.loaded, name="other").phrase
    new = world.device("new", join=False)
    with pytest.raises(AccessError, match="not that of this repository"):
        session.recover_fleet(new.loaded, phrase=phrase, name="new")
    with pytest.raises(UsageError):
        session.recover_fleet(new.loaded, phrase="abandon " * 24, name="new")


def test_a_push_asks_the_store_seldom(world: World) -> None:
    """Upstream's ninth failure: one request for each small chunk, one after the other."""
    (anna,) = world.devices("anna")
    counting = CountStore(open_store(world.endpoint))
    anna.reopen(store=counting)
    anna.fill({f"d{n % 7}/f{n}.txt": f"content {n}" * 100 for n in range(300)})
    anna.push()
    assert sum(count.requests for count in counting.counts().values()) < 40
    counting.reset()
    anna.fill({"d0/f0.txt": "a save"})
    anna.push("d0/f0.txt")
    assert counting.count("put").requests == 1


def test_a_push_without_changes_opens_no_file_and_writes_nothing(world: World) -> None:
    anna = world.device("anna")
    anna.fill({f"d{n % 3}/f{n}.txt": f"content {n}" for n in range(30)})
    anna.push()
    host, files = watched_host()
    counting = CountStore(open_store(world.endpoint))
    anna.reopen(host=host, store=counting)

    result = anna.push()

    assert result.plan.total == 0
    opened = {path for name, path in files.calls if name == "open"}
    assert {path for path in opened if path.startswith(path_of(anna.tree))} == {
        anna.path(".tcfs/root")
    }
    assert counting.count("put").requests == 0
    assert counting.count("delete").requests == 0
