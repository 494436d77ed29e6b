"""Who this device is: state lost, restored from a backup, or a home used twice."""

from __future__ import annotations

import json
import shutil

import pytest

from tcfs.errors import (
    AccessError,
    IdentityError,
    LocalFileError,
    RepositoryError,
    TcfsError,
    UsageError,
)
from tcfs.model.ids import NamespaceId
from tcfs.store.failures import StoreUnreachable
from tcfs.sync import session
from tcfs.sync.context import Context
from tests.sync.kit import Device, World, assert_same, watched_host


def lose_state(device: Device) -> None:
    device.close()
    shutil.rmtree(device.home / "state")


def test_a_device_whose_state_is_gone_stops_until_its_index_is_rebuilt(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.fill({"b.txt": "b"})
    ben.push()
    lose_state(ben)

    with pytest.raises(IdentityError) as caught:
        ben.pull()
    assert caught.value.exit_code == 21
    assert "rebuild-index" in caught.value.remedy
    with pytest.raises(IdentityError):
        ben.push()

    ben.fleet.rebuild_index()
    ben.sync()
    anna.sync()
    assert_same(anna.tree, ben.tree)
    ben.fill({"b.txt": "b2"})
    ben.sync()
    anna.sync()
    assert_same(anna.tree, ben.tree)
    assert anna.contents() == {"a.txt": b"a", "b.txt": b"b2"}


def test_a_rebuild_that_was_cut_off_is_finished_before_anything_else_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = world.devices("anna", "ben")
    for text in ("1", "2", "3"):
        ben.fill({"b.txt": text})
        ben.push()
    before = len(world.objects("ledger/default"))

    def cut_off(context: Context, namespace: NamespaceId, *, rebuild: bool = False) -> int:
        raise StoreUnreachable("the line is cut")

    with monkeypatch.context() as patch:
        patch.setattr("tcfs.sync.rebuild.receive", cut_off)
        for work in (ben.fleet.rebuild_index, ben.push, ben.pull):
            with pytest.raises(StoreUnreachable, match="the line is cut"):
                work()
        # What only looks does so, with a word about it.
        assert any("not rebuilt to the end" in warning for warning in ben.fleet.status().warnings)
        assert ben.fleet.log().versions == ()
    ben.reopen()
    ben.fill({"c.txt": "4"})
    ben.push()
    assert len(world.objects("ledger/default")) == before + 1
    assert not any("rebuilt" in warning for warning in ben.fleet.status().warnings)
    anna.sync()
    assert_same(anna.tree, ben.tree)


def test_a_device_that_never_wrote_needs_no_rebuild_when_its_state_is_gone(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    lose_state(ben)
    ben.pull()
    assert ben.push().plan.total == 0
    assert_same(anna.tree, ben.tree)


def test_state_restored_from_an_old_backup_is_noticed_and_sends_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    ben.fill({"b.txt": "one"})
    ben.push()
    ben.close()
    shutil.copytree(ben.home / "state", world.top / "backup")
    ben.fill({"b.txt": "two"})
    ben.push()
    ben.close()
    shutil.rmtree(ben.home / "state")
    shutil.copytree(world.top / "backup", ben.home / "state")
    ben.fill({"b.txt": "three"})

    with pytest.raises(IdentityError) as caught:
        ben.push()
    assert "rebuild-index" in caught.value.remedy or "new-identity" in caught.value.remedy
    anna.pull()
    assert anna.read("b.txt") == b"two"

    ben.fleet.rebuild_index()
    ben.sync()
    anna.sync()
    assert set(anna.contents().values()) >= {b"three"}
    assert_same(anna.tree, ben.tree)


def test_a_home_used_twice_at_once_is_frozen_at_the_fork_and_others_go_on(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.fill({"b.txt": "before"})
    ben.push()
    ben.close()
    # A clone of ben's disk wakes up elsewhere, with a copy of the store as it was.
    twin = world.device("twin", join=False)
    shutil.rmtree(twin.home, ignore_errors=True)
    shutil.copytree(ben.home, twin.home)
    copy = world.top / "store-copy"
    shutil.copytree(world.store_dir, copy)
    twin.settings["TCFS_REMOTE"] = copy.as_uri()
    twin.fill({"twin.txt": "from the twin"})
    twin.push()
    ben.fill({"ben.txt": "from ben"})
    ben.push()
    # Then the two stores meet: both segments are there.
    for path in copy.rglob("*"):
        there = world.store_dir / path.relative_to(copy)
        if path.is_file() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, there)

    anna.fill({"a.txt": "a goes on"})
    anna.sync()
    cleo = world.device("cleo")
    cleo.pull()
    assert cleo.contents()["a.txt"] == b"a goes on"
    assert cleo.contents()["b.txt"] == b"before"
    assert "ben.txt" not in cleo.contents()
    assert any("fork" in w for w in cleo.fleet.status().warnings)
    with pytest.raises(IdentityError):
        ben.push()
    assert ben.read("ben.txt") == b"from ben"


@pytest.mark.parametrize("trusted_s", [60.0, 0.0])
def test_who_looked_at_its_history_long_ago_looks_again_before_it_appends(
    world: World, monkeypatch: pytest.MonkeyPatch, trusted_s: float
) -> None:
    """Else a push that takes hours would be put behind all that a clone wrote meanwhile."""
    monkeypatch.setattr("tcfs.sync.chains.LOOK_AGAIN_S", trusted_s)
    ben = world.devices("anna", "ben")[1]
    ben.fill({"b.txt": "before"})
    ben.push()
    ben.close()
    twin = world.device("twin", join=False)
    shutil.rmtree(twin.home, ignore_errors=True)
    shutil.copytree(ben.home, twin.home)
    twin.fill({"twin.txt": "from the twin"})
    ben.fill({"ben.txt": "from ben"})
    host, files = watched_host()
    ben.reopen(host=host)
    pushed: list[bytes] = []

    def meanwhile(method: str, path: bytes) -> None:
        if method == "open" and path.endswith(b"ben.txt") and not pushed:
            pushed.append(path)
            twin.push()

    files.before = meanwhile
    before = len(world.objects("ledger/default"))
    if trusted_s:
        ben.push()
    else:
        with pytest.raises(IdentityError):
            ben.push()
    assert pushed
    assert len(world.objects("ledger/default")) == before + (2 if trusted_s else 1)
    with pytest.raises(IdentityError):
        ben.push()


def test_a_device_that_stopped_comes_back_with_a_new_identity_and_loses_nothing(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.fill({"b.txt": "b"})
    ben.push()
    lose_state(ben)
    ben.fill({"unsent.txt": "only here"})
    code = anna.fleet.invite().code

    session.enroll_fleet(ben.loaded, name="ben2", invite=code, new_identity=True)
    ben.sync()
    anna.pull()

    assert_same(anna.tree, ben.tree)
    assert anna.contents() == {"a.txt": b"a", "b.txt": b"b", "unsent.txt": b"only here"}
    assert sorted(d.name for d in anna.fleet.devices()) == ["anna", "ben", "ben2"]


def test_a_revoked_device_comes_back_with_a_new_identity(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    anna.fleet.revoke("ben")
    code = anna.fleet.invite().code
    with pytest.raises(TcfsError):
        session.enroll_fleet(ben.loaded, name="ben", invite=code)
    ben.close()
    session.enroll_fleet(ben.loaded, name="ben", invite=code, new_identity=True)
    ben.fill({"b.txt": "b"})
    ben.sync()
    anna.pull()
    assert_same(anna.tree, ben.tree)


# Joining


def test_an_invite_works_once_and_not_after_its_time(world: World) -> None:
    anna = world.device("anna")
    code = anna.fleet.invite().code
    ben, cleo = (world.device(name, join=False) for name in ("ben", "cleo"))
    session.enroll_fleet(ben.loaded, name="ben", invite=code)
    with pytest.raises(AccessError, match="already used"):
        session.enroll_fleet(cleo.loaded, name="cleo", invite=code)
    with pytest.raises(UsageError):
        anna.fleet.invite(expires_s=0)
    stale = anna.fleet.invite(expires_s=1)

    from tcfs.host.base import Host
    from tcfs.host.system import SystemClock, system_host

    class Later(SystemClock):
        def now(self) -> float:
            return super().now() + 3600

    here = system_host()
    later = Host(here.files, Later(), here.entropy, here.executor, here.lock)
    with pytest.raises(AccessError, match="expired"):
        session.enroll_fleet(cleo.loaded, name="cleo", invite=stale.code, host=later)


def test_an_invite_ends_when_the_keys_change(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    code = anna.fleet.invite().code
    anna.fleet.revoke("ben")
    cleo = world.device("cleo", join=False)
    with pytest.raises(AccessError, match="ended"):
        session.enroll_fleet(cleo.loaded, name="cleo", invite=code)


def test_an_enrollment_that_was_cut_off_is_completed_by_the_same_command(world: World) -> None:
    anna = world.device("anna")
    code = anna.fleet.invite().code
    ben = world.device("ben", join=False)
    session.enroll_fleet(ben.loaded, name="ben", invite=code)
    # The machine died before it was written down which repository it had joined.
    (ben.home / "identity" / "repository.json").unlink()
    session.enroll_fleet(ben.loaded, name="ben", invite=code)
    ben.fill({"b.txt": "b"})
    ben.push()
    anna.pull()
    assert anna.contents() == {"b.txt": b"b"}


def test_a_device_belongs_to_one_repository(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    with pytest.raises(RepositoryError):
        session.init_fleet(anna.loaded, name="anna")
    with pytest.raises(RepositoryError):
        session.enroll_fleet(ben.loaded, name="ben", invite=anna.fleet.invite().code)


def test_what_a_later_version_recorded_of_the_repository_is_left_aside(world: World) -> None:
    anna = world.device("anna")
    file = anna.loaded.identity_dir / session.BINDING
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "told_later": {"a": [1]}}))
    anna.fill({"a.txt": "a"})
    anna.push()
    file.write_bytes(b'{"repo": 1}')
    with pytest.raises(LocalFileError, match="damaged"):
        anna.reopen()


def test_without_a_repository_everything_says_how_to_get_one(world: World) -> None:
    ben = world.device("ben", join=False)
    with pytest.raises(RepositoryError) as caught:
        ben.fleet.status()
    assert caught.value.exit_code == 15
    assert "tcfs init" in caught.value.remedy


def test_a_repository_is_not_made_over_something_else(world: World) -> None:
    world.store_dir.mkdir()
    (world.store_dir / "somebody.txt").write_bytes(b"else's")
    anna = world.device("anna", join=False)
    with pytest.raises(TcfsError):
        session.init_fleet(anna.loaded, name="anna")
    assert (world.store_dir / "somebody.txt").read_bytes() == b"else's"
