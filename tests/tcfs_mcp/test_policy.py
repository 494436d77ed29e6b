"""The operator's limits: a caller can narrow them, never widen them."""

import os
from pathlib import Path

import pytest

from tcfs.errors import AccessError, ToolError, UsageError
from tcfs_mcp.policy import Policy, make_policy
from tcfs_mcp.tools import TOOLS


def offered(policy: Policy) -> set[str]:
    return {spec.name for spec in TOOLS if not policy.refusal(spec)}


@pytest.fixture
def fenced(tmp_path: Path) -> tuple[Policy, Path]:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "outside").mkdir()
    return make_policy(roots=[str(allowed)]), allowed


def test_read_only_leaves_no_tool_that_changes_anything():
    left = offered(make_policy(read_only=True, known=TOOLS.names))
    assert left == {spec.name for spec in TOOLS if spec.read_only}
    assert "push" not in left


def test_read_only_wins_over_a_list_of_tools():
    policy = make_policy(read_only=True, tools=["push,log"], known=TOOLS.names)
    assert offered(policy) == {"log"}


def test_tools_and_toolsets_select_and_exclude():
    policy = make_policy(tools=["conflicts", "push"], exclude=["push"], known=TOOLS.names)
    assert offered(policy) == {"list_conflicts", "show_conflict", "resolve_conflict"}


def test_an_unknown_tool_in_an_option_is_an_error():
    with pytest.raises(UsageError, match="pusch"):
        make_policy(exclude=["pusch"], known=TOOLS.names)


def test_a_refused_tool_says_why():
    with pytest.raises(ToolError, match="read-only"):
        make_policy(read_only=True).check_tool(TOOLS.get("undo"))


def test_a_path_inside_an_allowed_directory_passes(fenced):
    policy, allowed = fenced
    assert policy.local_path(str(allowed)) == os.fsencode(allowed)
    assert policy.local_path(f"{allowed}/a/b/../c") == os.fsencode(allowed / "a" / "c")


@pytest.mark.parametrize(
    "path", ["../outside", "../outside/new/file", "..", "/etc/passwd", "../allowed2"]
)
def test_a_path_outside_is_refused_with_the_path_and_the_allowed_directories(fenced, path: str):
    policy, allowed = fenced
    with pytest.raises(AccessError) as caught:
        policy.local_path(os.path.join(allowed, path))
    assert str(allowed) in caught.value.message
    assert os.path.normpath(os.path.join(allowed, path)) in caught.value.message


def test_a_symlink_that_leads_out_is_refused_in_any_place(fenced):
    policy, allowed = fenced
    (allowed / "link").symlink_to(allowed.parent / "outside")
    (allowed / "dangling").symlink_to(allowed.parent / "outside" / "not-yet")
    for path in ("link", "link/file", "link/new/deep", "dangling", "link/../secret"):
        with pytest.raises(AccessError):
            policy.local_path(os.path.join(allowed, path))


def test_a_symlink_that_stays_inside_passes(fenced):
    policy, allowed = fenced
    (allowed / "real").mkdir()
    (allowed / "link").symlink_to("real")
    assert policy.local_path(f"{allowed}/link/x") == os.fsencode(allowed / "link" / "x")


def test_an_allowed_directory_behind_a_symlink_means_where_it_leads(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    policy = make_policy(roots=[str(tmp_path / "alias")])
    assert policy.local_path(str(tmp_path / "real" / "a"))
    assert policy.local_path(str(tmp_path / "alias" / "a"))


def test_a_path_is_read_as_it_was_shown(tmp_path: Path):
    assert Policy().local_path(f"{tmp_path}/a\\xff") == os.fsencode(tmp_path) + b"/a\xff"


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_an_empty_path_and_a_nul_are_usage_errors(path: str):
    with pytest.raises(UsageError):
        Policy().local_path(path)


def test_an_allowed_directory_must_exist(tmp_path: Path):
    with pytest.raises(UsageError):
        make_policy(roots=[str(tmp_path / "missing")])


def test_an_argument_lowers_a_limit_and_never_raises_it():
    policy = Policy(max_delete=10, max_bytes=100)
    assert policy.limits(5, 50).max_delete == 5
    assert policy.limits(5, 50).max_bytes == 50
    assert policy.limits(500, 500).max_delete == 10
    assert policy.limits(500, 500).max_bytes == 100


def test_without_an_argument_the_operators_limit_is_no_yes():
    limits = Policy(max_delete=10).limits(-1, -1)
    assert (limits.max_delete, limits.confirmed) == (10, False)


def test_an_explicit_number_of_deletions_is_a_yes():
    limits = Policy().limits(30, -1)
    assert (limits.max_delete, limits.confirmed) == (30, True)


def test_what_a_person_agreed_to_is_a_yes_to_that_number():
    limits = Policy().limits(-1, -1, approved_deletes=7)
    assert (limits.max_delete, limits.confirmed) == (7, True)
