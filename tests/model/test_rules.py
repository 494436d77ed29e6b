"""Access rules: who may do what at which path, whatever order changes arrived in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.errors import UsageError
from tcfs.ledger.control import acl_event, admit_event, group_event
from tcfs.model.access import ControlEntry, DeviceRecord
from tcfs.model.ids import CONTROL, ROOT_DEVICE, NamespaceId
from tcfs.model.membership import fold_control
from tcfs.model.rules import (
    ANY,
    PERMISSIONS,
    Rule,
    RuleChange,
    Ruleset,
    check_pattern,
    check_subject,
)
from tests.model.values import DEVICES, rel_paths

SPACE = NamespaceId("default")
ANNA, BEN, CARA, DORA = DEVICES
ROLES = {ANNA: "admin", BEN: "writer", CARA: "writer", DORA: "reader"}


def rule(path, given=(), subject=ANY, since=0, author=None):
    chains = {SPACE: dict.fromkeys(DEVICES, since), CONTROL: {}}
    permissions = None if given is None else frozenset(given)
    return RuleChange(SPACE, subject, path, permissions, chains, author)


def may(changes, device, path, permission="write", seq=9):
    view = Ruleset(tuple(changes)).at(SPACE, device, seq)
    return view.decide(device, ROLES[device], path, permission).allowed


@pytest.mark.parametrize(
    ("pattern", "covers", "leaves"),
    [
        (b"docs/**", [b"docs", b"docs/a", b"docs/a/b"], [b"docs2", b"a/docs", b"do"]),
        (b"**", [b"a", b"a/b/c"], []),
        (b"*.md", [b"a.md", b".md"], [b"d/a.md", b"a.mdx"]),
        (b"**/*.md", [b"a.md", b"d/a.md", b"d/e/a.md"], [b"a.txt", b"a.md/b"]),
        (b"a/**/z", [b"a/z", b"a/b/z", b"a/b/c/z"], [b"az", b"a/zz", b"b/a/z"]),
        (b"a/**/z/**", [b"a/z", b"a/b/z/q/r"], [b"a/b"]),
        (b"a?c", [b"abc", b"a\nc"], [b"a/c", b"ac"]),
        (b"a/b", [b"a/b"], [b"a/b/c", b"a"]),
        (b"\xff*", [b"\xff", b"\xffa"], [b"a"]),
        (b"[a].txt", [b"[a].txt"], [b"a.txt"]),
    ],
)
def test_a_glob_covers_what_it_says(pattern, covers, leaves):
    made = Rule(ANY, check_pattern(pattern), frozenset())
    assert [p for p in covers if not made.matches(p)] == []
    assert [p for p in leaves if made.matches(p)] == []


@pytest.mark.parametrize(
    "pattern",
    [b"", b"/a", b"a/", b"a//b", b"../a", b"a/./b", b"a**", b"**/a/**/b/**", b"a*b*c*d*", b"a\0"],
)
def test_a_glob_that_could_take_for_ever_or_leads_out_is_refused(pattern):
    with pytest.raises(UsageError):
        check_pattern(pattern)


def test_the_worst_glob_that_is_allowed_is_matched_quickly():
    made = Rule(ANY, check_pattern(b"**/*a*a*b/**"), frozenset())
    # 2,000 components, and single ones of 255 letters: bounded by their length, not exponential.
    assert not made.matches(b"/".join([b"a"] * 2000))
    assert not made.matches(b"/".join([b"a" * 255] * 15))


def test_without_a_rule_the_role_decides():
    assert may([], BEN, b"a")
    assert not may([], DORA, b"a")
    assert may([], DORA, b"a", "read")
    assert may([rule(b"docs/**")], BEN, b"other")


def test_a_covered_path_is_for_those_alone_who_are_named():
    rules = [rule(b"docs/**", ["read", "write"], f"device:{BEN}")]
    assert may(rules, BEN, b"docs/a")
    assert not may(rules, BEN, b"docs/a", "delete")
    assert not may(rules, CARA, b"docs/a")
    assert not may(rules, ANNA, b"docs/a")


def test_the_most_specific_globs_decide_alone_and_together():
    rules = [
        rule(b"docs/**", ["read", "write", "delete"]),
        rule(b"docs/private/**", ["read"]),
        rule(b"docs/private/**", ["write"], f"device:{BEN}"),
    ]
    assert may(rules, CARA, b"docs/a")
    assert not may(rules, CARA, b"docs/private/a")
    assert may(rules, BEN, b"docs/private/a")
    assert may(rules, BEN, b"docs/private/a", "read")
    assert not may(rules, BEN, b"docs/private/a", "delete")


def test_a_rule_gives_no_more_than_a_role():
    rules = [rule(b"**", PERMISSIONS)]
    assert [p for p in PERMISSIONS if may(rules, DORA, b"a", p)] == ["read"]


def test_a_rule_holds_from_its_place_on_and_judges_nothing_before():
    rules = [rule(b"**", [], since=5)]
    assert may(rules, BEN, b"a", seq=5)
    assert not may(rules, BEN, b"a", seq=6)


def test_a_removed_rule_covers_nothing():
    rules = [rule(b"docs/**", []), rule(b"docs/**", None)]
    assert may(rules, BEN, b"docs/a")


# Through the control fold


def record(device, role):
    recipient = "age1" + "q" * 58
    return DeviceRecord(device, "d" + device[-4:], b"k" * 31 + bytes([int(device[-1])]), recipient,
                        role, 1)  # fmt: skip


def fleet_entries():
    admits = [admit_event(record(device, role)) for device, role in ROLES.items()]
    return [ControlEntry(1, ROOT_DEVICE, 1, i, event) for i, event in enumerate(admits)]


def say(device, lamport, event, seq=1):
    return ControlEntry(lamport, device, seq, 0, event)


def nothing_yet():
    return {SPACE: {}, CONTROL: {}}


def state_of(*entries):
    return fold_control([*fleet_entries(), *entries], [])


def test_a_writer_who_is_no_delegate_sets_no_rules():
    state = state_of(say(BEN, 2, acl_event(SPACE, ANY, b"**", ["read"], nothing_yet())))
    assert state.rules == Ruleset()
    assert [r.reason for r in state.refused] == ["no rule lets its author set rules"]


def test_a_reader_sets_no_rules_even_if_a_rule_says_so():
    state = state_of(
        say(ANNA, 2, acl_event(SPACE, ANY, b"**", ["admin"], nothing_yet())),
        say(DORA, 3, acl_event(SPACE, ANY, b"a", [], nothing_yet())),
    )
    assert len(state.rules.changes) == 1
    assert len(state.refused) == 1


def delegated(*more):
    return state_of(
        say(
            ANNA,
            2,
            acl_event(SPACE, f"device:{BEN}", b"proj/**", PERMISSIONS, nothing_yet()),
        ),
        *more,
    )


def decide(state, device, path, permission="write"):
    view = state.rules.at(SPACE, device, 9)
    return view.decide(device, ROLES[device], path, permission).allowed


def test_a_delegate_opens_its_subtree_to_others_and_nothing_else():
    state = delegated(say(BEN, 3, acl_event(SPACE, f"device:{CARA}", b"**", ["write"], {})))
    # Less specific than the admin's own rule: it does not even decide there.
    assert not decide(state, CARA, b"proj/a")
    state = delegated(say(BEN, 3, acl_event(SPACE, f"device:{CARA}", b"proj/x/**", ["write"], {})))
    assert decide(state, CARA, b"proj/x/a")
    assert not decide(state, CARA, b"proj/a")
    other = delegated(say(BEN, 3, acl_event(SPACE, ANY, b"other/**", [], {})))
    assert decide(other, CARA, b"other/a")


def test_a_delegate_does_not_pass_its_right_on():
    state = delegated(
        say(BEN, 3, acl_event(SPACE, f"device:{CARA}", b"proj/x/**", PERMISSIONS, {})),
        say(CARA, 4, acl_event(SPACE, f"device:{CARA}", b"proj/x/y", ["write"], {})),
    )
    assert not decide(state, CARA, b"proj/x/a", "admin")
    assert [r.device for r in state.refused] == [CARA]


def test_a_narrow_glob_of_a_delegate_does_not_reach_what_admins_keep_inside_its_subtree():
    state = delegated(
        say(ANNA, 3, acl_event(SPACE, ANY, b"proj/*.key", ["read"], nothing_yet()), seq=2),
        say(BEN, 4, acl_event(SPACE, f"device:{BEN}", b"proj/abc.k*", ["write"], {})),
    )
    assert not decide(state, BEN, b"proj/abc.key")
    assert decide(state, BEN, b"proj/abc.kex")


def test_a_delegate_who_lost_its_right_cannot_speak_from_the_past():
    removal = {SPACE: {}, CONTROL: {BEN: 1}}
    entries = [
        say(ANNA, 9, acl_event(SPACE, f"device:{BEN}", b"proj/**", None, removal), seq=2),
        # Later in its chain than what the removal had seen, with an older time.
        say(BEN, 3, acl_event(SPACE, ANY, b"proj/x", ["write"], {}), seq=2),
    ]
    state = delegated(*entries)
    assert [r.device for r in state.refused] == [BEN]


def test_a_group_has_the_members_it_had_at_each_place():
    chains = {SPACE: {CARA: 3}, CONTROL: {}}
    state = state_of(
        say(ANNA, 2, group_event("ops", [CARA], nothing_yet())),
        say(ANNA, 3, acl_event(SPACE, "group:ops", b"etc/**", ["write"], nothing_yet()), seq=2),
        say(ANNA, 4, group_event("ops", [BEN], chains), seq=3),
    )
    at = state.rules.at
    assert at(SPACE, CARA, 3).decide(CARA, "writer", b"etc/a", "write").allowed
    assert not at(SPACE, CARA, 4).decide(CARA, "writer", b"etc/a", "write").allowed
    assert at(SPACE, BEN, 1).decide(BEN, "writer", b"etc/a", "write").allowed


def test_a_closed_namespace_is_read_by_those_alone_whom_a_rule_names():
    state = state_of(
        say(ANNA, 2, acl_event(SPACE, ANY, b"**", [], nothing_yet())),
        say(ANNA, 3, acl_event(SPACE, f"device:{BEN}", b"**", ["read"], nothing_yet()), seq=2),
    )
    assert state.readers(SPACE) == {BEN}
    assert not state.rules.now(SPACE).any_device_may_read()
    assert state_of().readers(SPACE) == set(ROLES)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "device:nobody"},
        {"subject": "public"},
        {"permissions": ["fly"]},
        {"permissions": "write"},
        {"path": "../a"},
        {"path": 7},
        {"since": None},
        {"since": {"default": {"x": -1}}},
        {"since": {"default": [1]}},
        {"namespace": "_control"},
    ],
)
def test_a_rule_that_is_not_as_it_must_be_is_refused_and_reported(change):
    event = acl_event(SPACE, ANY, b"a", ["read"], nothing_yet()) | change
    state = state_of(say(ANNA, 2, event))
    assert state.rules == Ruleset()
    assert len(state.refused) == 1


subjects = st.sampled_from([ANY, f"device:{BEN}", f"device:{CARA}", "group:ops"])
patterns = st.sampled_from([b"**", b"a/**", b"a/*", b"a/b", b"*", b"a/b/**"])
permissions = st.none() | st.lists(st.sampled_from(PERMISSIONS), unique=True)
since = st.fixed_dictionaries(
    {
        SPACE: st.dictionaries(st.sampled_from(DEVICES), st.integers(0, 4)),
        CONTROL: st.dictionaries(st.sampled_from(DEVICES), st.integers(0, 4)),
    }
)
events = st.one_of(
    st.builds(acl_event, st.just(SPACE), subjects, patterns, permissions, since),
    st.builds(group_event, st.just("ops"), st.lists(st.sampled_from(DEVICES)), since),
)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_decisions_are_the_same_whatever_order_changes_arrived_in(data):
    said = data.draw(st.lists(events, max_size=8))
    entries = [
        ControlEntry(
            data.draw(st.integers(2, 6)), data.draw(st.sampled_from(DEVICES)), n // 2 + 1, n, event
        )
        for n, event in enumerate(said)
    ]
    one = state_of(*entries)
    other = fold_control(data.draw(st.permutations([*entries, *fleet_entries(), *entries])), [])
    assert one.rules == other.rules
    assert sorted(r.reason for r in one.refused) == sorted(r.reason for r in other.refused)


@settings(max_examples=120, deadline=None)
@given(st.lists(events, max_size=6), rel_paths, st.sampled_from(DEVICES), st.integers(1, 5))
def test_nobody_gets_more_than_its_role_and_every_refusal_has_a_reason(said, path, device, seq):
    entries = [say(ANNA, n + 2, event, n + 1) for n, event in enumerate(said)]
    view = state_of(*entries).rules.at(SPACE, device, seq)
    for permission in PERMISSIONS:
        found = view.decide(device, ROLES[device], path, permission)
        assert found.reason
        if ROLES[device] == "reader" and permission != "read":
            assert not found.allowed
        for deciding in found.rules:
            assert deciding.matches(path)


@pytest.mark.parametrize("text", ["", "device:", "device:x", "group:", "group:a b", "role:admin"])
def test_a_subject_that_is_none_is_refused(text):
    with pytest.raises(UsageError):
        check_subject(text)
