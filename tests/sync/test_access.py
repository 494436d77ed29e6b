"""Access rules on real fleets: what is not sent, and what nobody takes from whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tcfs.errors import AccessError, UsageError
from tcfs.model.ids import NamespaceId
from tcfs.sync import judge
from tcfs.sync.commit import Draft
from tests.sync.kit import Device, World, assert_same

SPACE = NamespaceId("default")


@contextmanager
def lawless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program that ignores the rules when it writes, and believes itself."""
    with monkeypatch.context() as patch:
        patch.setattr(judge.Permit, "unlimited", property(lambda self: True))
        patch.setattr(judge.Permit, "require", lambda self, op, path: None)
        patch.setattr("tcfs.sync.commit.accept", lambda context, header, events: events)
        patch.setattr("tcfs.sync.receive.rejudge", lambda context: None)
        yield


def three(world: World) -> tuple[Device, Device, Device]:
    anna, ben, cara = world.devices("anna", "ben", "cara")
    anna.fill({"docs/a.txt": "a", "docs/b.txt": "b", "free.txt": "f"})
    anna.push()
    ben.pull()
    cara.pull()
    return anna, ben, cara


def refused(device: Device) -> list[tuple[bytes, str]]:
    found = device.fleet._context.state.refused.all(SPACE)
    return [(bytes(e.version.manifest.rel_path), e.reason) for e in found]


def test_what_a_device_may_not_write_stays_on_its_disk_and_the_rest_is_sent(world: World) -> None:
    anna, ben, cara = three(world)
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    ben.fill({"docs/a.txt": "mine", "docs/new.txt": "n", "free.txt": "f2"})
    ben.remove("docs/b.txt")
    result = ben.push()
    assert sorted(p.path for p in result.problems) == ["docs/a.txt", "docs/b.txt", "docs/new.txt"]
    assert {p.code for p in result.problems} == {"access"}
    assert result.plan.counts == {"change": 1}
    assert ben.read("docs/a.txt") == b"mine"
    cara.pull()
    assert cara.contents() == {"docs/a.txt": b"a", "docs/b.txt": b"b", "free.txt": b"f2"}


def test_a_device_that_ignores_its_rules_is_ignored_by_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben, cara = three(world)
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    ben.fill({"docs/a.txt": "forced", "docs/new.txt": "n", "free.txt": "f2"})
    ben.remove("docs/b.txt")
    with lawless(monkeypatch):
        assert not ben.push().problems
    for device in (anna, cara):
        device.pull()
        assert device.contents() == {"docs/a.txt": b"a", "docs/b.txt": b"b", "free.txt": b"f2"}
        assert [path for path, _ in refused(device)] == [
            b"docs/a.txt",
            b"docs/new.txt",
            b"docs/b.txt",
        ]
    # One who reads everything from the store later sees the same.
    dora = world.device("dora")
    dora.pull()
    assert_same(dora.tree, cara.tree)
    cara.fleet.rebuild_index()
    cara.sync()
    assert_same(dora.tree, cara.tree)
    assert len(refused(cara)) == 3


def test_a_write_elsewhere_does_not_end_a_version_that_its_author_may_not_touch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben, cara = three(world)
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    history = ben.fleet._context.state.history
    from tcfs.model.ids import RelPath
    from tcfs.sync import sending

    protected = history.head(SPACE, RelPath(b"docs/a.txt")).ids
    real = sending._draft_of

    def forged(op, base, manifest, local):
        from msgspec.structs import replace

        from tcfs.model.clock import VectorClock, merge

        clock = merge([*([base.clock] if base else []), VectorClock().with_version(protected[0])])
        draft = real(op, base, replace(manifest, parents=protected), local)
        return Draft(draft.op, draft.manifest, clock, draft.moved_from, draft.local)

    ben.fill({"innocent.txt": "x"})
    with lawless(monkeypatch):
        monkeypatch.setattr(sending, "_draft_of", forged)
        ben.push()
        monkeypatch.setattr(sending, "_draft_of", real)
    cara.pull()
    assert cara.read("docs/a.txt") == b"a"
    assert refused(cara) == [(b"innocent.txt", "it names a version of another path as its parent")]


def test_a_write_that_was_on_its_way_when_the_rule_came_is_refused_everywhere_and_kept_here(
    world: World,
) -> None:
    anna, ben, cara = three(world)
    # Ben and Cara know of no rule when Ben writes; Anna sets it without having seen that.
    ben.fill({"docs/a.txt": "ben", "docs/new.txt": "n"})
    anna_saw = anna.fleet._context.state.history.heads(SPACE)
    assert ben.fleet._context.identity.device_id not in anna_saw
    with world_of_before(anna):
        ben.push()
        cara.pull()
        assert cara.read("docs/a.txt") == b"ben"

    for device in (ben, cara, anna):
        device.pull()
    assert anna.contents() == {"docs/a.txt": b"a", "docs/b.txt": b"b", "free.txt": b"f"}
    # Cara had it on disk: its bytes are in the store, so the tree's are put in their place.
    assert_same(cara.tree, anna.tree)
    # Ben wrote it, and keeps it beside the file.
    assert sorted(ben.contents().values()) == sorted([b"a", b"b", b"f", b"ben", b"n"])
    assert ben.read("docs/a.txt") == b"a"
    assert [path for path, _ in refused(ben)] == [path for path, _ in refused(anna)]
    # Nothing of it comes back by way of somebody who may not write there.
    for device in (ben, cara, anna):
        device.sync()
    assert anna.contents() == {"docs/a.txt": b"a", "docs/b.txt": b"b", "free.txt": b"f"}


@contextmanager
def world_of_before(admin: Device) -> Iterator[None]:
    """Set a rule with what is known before the block, and publish it after the block."""
    context = admin.fleet._context
    from tcfs.device.change import prepare
    from tcfs.ledger.control import acl_event
    from tcfs.model.ids import CONTROL
    from tcfs.sync.control import publish_change

    heads = {device: head.seq for device, head in context.state.history.heads(SPACE).items()}
    control = {device: head.seq for device, head in context.control_heads.items()}
    event = acl_event(SPACE, "any", b"docs/**", ["read"], {SPACE: heads, CONTROL: control})
    change = prepare(
        context.view,
        context.format,
        context.identity,
        [event],
        [],
        entropy=context.host.entropy,
        now=context.host.clock.now(),
    )
    yield
    publish_change(context, change)


def test_a_rule_from_the_start_brings_refused_changes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben, cara = three(world)
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    ben.fill({"docs/a.txt": "two"})
    with lawless(monkeypatch):
        ben.push()
    cara.pull()
    assert cara.read("docs/a.txt") == b"a"
    anna.fleet.access.set("docs/**", ["read", "write"], devices=["anna", "ben"], from_start=True)
    for device in (anna, ben, cara):
        device.pull()
        assert device.read("docs/a.txt") == b"two"
        assert refused(device) == []


def test_a_removed_rule_lets_the_role_decide_again(world: World) -> None:
    anna, ben, cara = three(world)
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    anna.fleet.access.set("docs/**", None, everyone=True)
    assert anna.fleet.access.rules().rules == ()
    ben.fill({"docs/a.txt": "two"})
    assert not ben.push().problems
    cara.pull()
    assert cara.read("docs/a.txt") == b"two"


def test_explain_names_the_rules_that_decide(world: World) -> None:
    anna, ben, _ = three(world)
    access = anna.fleet.access
    access.set_group("writers", ["ben"])
    access.set("docs/**", ["read"], everyone=True)
    access.set("docs/**", ["write"], groups=["writers"])
    found = access.explain("docs/a.txt", device="ben")
    assert {a.permission: a.allowed for a in found.answers} == {
        "read": True,
        "write": True,
        "delete": False,
        "admin": False,
    }
    assert {r.subject for r in found.answers[1].rules} == {"any", "group:writers"}
    assert found.holds_key
    own = ben.fleet.access.explain("docs/a.txt")
    assert own.device == "ben"
    assert own.answers == found.answers
    assert access.rules().groups == {"writers": ("ben",)}
    # Leaving the group takes what it gave.
    access.set_group("writers", [])
    assert not access.explain("docs/a.txt", device="ben").answers[1].allowed


def test_a_writer_sets_no_rules_and_a_delegate_does_where_it_may(world: World) -> None:
    anna, ben, cara = three(world)
    with pytest.raises(AccessError):
        ben.fleet.access.set("docs/**", [], everyone=True)
    with pytest.raises(AccessError):
        ben.fleet.access.set_group("ops", ["ben"])
    anna.fleet.access.set("docs/**", ["read", "write", "delete", "admin"], devices=["ben"])
    ben.fleet.access.set("docs/open/**", ["read", "write"], devices=["cara"])
    with pytest.raises(AccessError):
        ben.fleet.access.set("free.txt", [], everyone=True)
    cara.fill({"docs/open/x": "x", "docs/shut": "s"})
    assert [p.path for p in cara.push().problems] == ["docs/shut"]
    anna.pull()
    assert anna.read("docs/open/x") == b"x"


@pytest.mark.parametrize("strategy", ["device-name", "last-write"])
def test_a_conflict_is_settled_by_those_who_may(world: World, strategy: str) -> None:
    anna, ben, cara = three(world)
    anna.fleet.set_strategy(strategy)
    anna.fleet.access.set("docs/**", ["read", "write"], devices=["anna", "ben"])
    for device in (anna, ben):
        device.fill({"docs/a.txt": device.name})
        device.push()
    # Cara may not settle it: she has what would win, and is told nothing is wrong with her pull.
    result = cara.pull()
    assert [c.path for c in result.conflicts] == ["docs/a.txt"]
    for device in (ben, anna, cara, ben):
        device.sync()
    assert_same(anna.tree, ben.tree)
    assert_same(anna.tree, cara.tree)


def test_a_closed_namespace_has_a_key_of_its_own_for_those_who_may_read(world: World) -> None:
    anna, ben, cara = world.devices("anna", "ben", "cara")
    made = anna.fleet.access.create_namespace("secret", only=["ben"])
    assert made.readers == ("anna", "ben")
    anna.fill({"s/plan.txt": "the plan"})
    anna.push("s", as_remote="tcfs/secret/s")
    pulled = ben.fleet.pull("tcfs/secret/s", ben.path("s"))
    assert not pulled.problems
    assert ben.read("s/plan.txt") == b"the plan"
    # Cara has no key: she can neither read names nor content, and is told so.
    result = cara.fleet.pull("tcfs/secret", cara.path("s"))
    assert [p.code for p in result.problems] == ["access"]
    assert not cara.contents()
    # A device that joins later gets no key of it, until a rule says so.
    dora = world.device("dora")
    assert not dora.fleet._context.keys(NamespaceId("secret")).epochs
    anna.fleet.access.set("**", ["read"], devices=["dora"], namespace="secret")
    assert not dora.fleet.pull("tcfs/secret/s", dora.path("s")).problems
    assert dora.read("s/plan.txt") == b"the plan"
    with pytest.raises(UsageError):
        anna.fleet.access.create_namespace("secret")


def test_who_may_not_read_any_more_gets_no_later_key(world: World) -> None:
    anna, ben, cara = three(world)
    anna.fleet.access.set("**", ["read", "write", "delete"], devices=["anna", "ben"])
    anna.fill({"free.txt": "after"})
    anna.push()
    ben.pull()
    assert ben.read("free.txt") == b"after"
    assert "access" in {p.code for p in cara.pull().problems}
    assert cara.read("free.txt") == b"f"
    control = anna.fleet._context.control
    assert cara.fleet._context.identity.device_id in control.devices, "it is a member still"
    # Given the right again, she reads what was written meanwhile.
    anna.fleet.access.set("**", ["read"], devices=["cara"])
    cara.pull()
    assert cara.read("free.txt") == b"after"


def test_rules_come_after_the_first_use_of_an_older_state(world: World, tmp_path) -> None:
    (anna,) = world.devices("anna")
    anna.fill({"a": "1"})
    anna.push()
    database = anna.fleet._context.state.database.connection
    database.execute("DROP TABLE refused")
    database.execute("DROP TABLE judged")
    database.execute("PRAGMA user_version = 2")
    anna.close()
    anna.fleet.access.set("a", ["read"], everyone=True)
    anna.fill({"a": "22"})
    assert [p.path for p in anna.push().problems] == ["a"]
