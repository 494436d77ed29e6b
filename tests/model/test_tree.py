"""The fold depends on the set of accepted versions alone, and respects what came after what."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tcfs.model.clock import Ordering
from tcfs.model.event import Version
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.tree import Fold, settle
from tests.model.values import DEVICES, histories, version


def fold(versions):
    folded = Fold()
    for one in versions:
        folded.add(one)
    return folded.heads()


@given(histories(), st.randoms(use_true_random=False))
def test_versions_fold_alike_in_any_order_and_any_number_of_times(made, random):
    again = made + random.sample(made, len(made) // 2)
    random.shuffle(again)
    assert fold(again) == fold(made)


@given(histories(), st.integers(0, 12))
def test_folding_parts_and_then_the_rest_is_folding_all(made, cut):
    folded = Fold()
    for part in (made[cut:], made[:cut], made[cut:]):
        for one in part:
            folded.add(one)
    assert folded.heads() == fold(made)


@given(histories())
def test_live_versions_are_those_that_nothing_came_after(made):
    by_id = {one.id: one for one in made}

    def before(one: Version) -> set[VersionId]:
        found = set(one.manifest.parents)
        for parent in one.manifest.parents:
            found |= before(by_id[parent])
        return found

    overtaken = set().union(*(before(one) for one in made))
    for path, head in fold(made).items():
        mine = {one.id for one in made if one.manifest.rel_path == path}
        assert set(head.ids) == mine - overtaken


@given(histories())
def test_a_heads_clock_covers_every_version_of_its_path_that_was_ever_accepted(made):
    heads = fold(made)
    for one in made:
        order = one.manifest.vclock.compare(heads[one.manifest.rel_path].clock)
        assert order in (Ordering.BEFORE, Ordering.EQUAL)


@given(histories())
def test_a_path_is_absent_settled_or_in_conflict_by_its_live_contents(made):
    heads = fold(made)
    for path, head in heads.items():
        live = [one for one in made if one.id in head.ids]
        standing = [one for one in live if one.manifest.kind != "tombstone"]
        contents = {one.manifest.content for one in standing}
        assert head.path == path
        assert head.absent == (not contents)
        assert head.conflicted == (len(contents) > 1)
        assert (head.version is not None) == (len(contents) == 1)
        assert {one.id for group in head.groups for one in group} == {one.id for one in standing}
        for group in head.groups:
            assert {one.manifest.content for one in group} == {group[0].manifest.content}
            assert group[0] == max(group, key=lambda one: one.order)
            assert head.group_of(group[0].manifest.content) == group


def test_a_deletion_yields_to_a_concurrent_write():
    first = version(DEVICES[0], 1, content=1)
    deleted = version(DEVICES[0], 2, parents=[first])
    edited = version(DEVICES[1], 1, parents=[first], content=2)
    head = fold([deleted, edited, first])[RelPath(b"p")]
    assert head.version == edited
    assert set(head.ids) == {deleted.id, edited.id}


def test_equal_contents_coalesce_whatever_their_times():
    one = version(DEVICES[0], 1, content=1, mtime_ns=5)
    other = version(DEVICES[1], 1, content=1, mtime_ns=9)
    head = settle(RelPath(b"p"), [one, other])
    assert not head.conflicted
    assert head.version == other
    assert head.clock.clocks == {DEVICES[0]: 1, DEVICES[1]: 1}


def test_another_mode_is_another_content_but_for_symlinks():
    one = version(DEVICES[0], 1, content=1, mode=0o600)
    other = version(DEVICES[1], 1, content=1)
    assert settle(RelPath(b"p"), [one, other]).conflicted
    link: dict[str, Any] = {"kind": "symlink", "file_hash": b"", "target": b"to"}
    one = version(DEVICES[0], 1, content=1, mode=0o777, **link)
    other = version(DEVICES[1], 1, content=1, mode=0o755, **link)
    assert not settle(RelPath(b"p"), [one, other]).conflicted
