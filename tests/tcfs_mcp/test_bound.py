"""Answers are escaped and never longer than their budget, whatever is in them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.model.paths import show, unshow
from tcfs_mcp.bound import BUDGET, OMITTED, clean, plain, render, size
from tests.tcfs_mcp.fake import result, version

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=200),
    lambda inner: (
        st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=9), inner, max_size=9)
    ),
    max_leaves=60,
)


@pytest.mark.parametrize(
    "char",
    # Written with escapes: they could not be seen.
    [
        "\x1b",
        "\x00",
        "\x7f",
        "\x9b",
        "\u00ad",
        "\u115f",
        "\u200b",
        "\u202e",
        "\u2028",
        "\u2066",
        "\u3164",
        "\ud800",
        "\ue000",
        "\ufe0e",
        "\ufeff",
        "\U000e0041",
        "\U000e0100",
    ],
)
def test_what_cannot_be_seen_or_steers_a_terminal_is_escaped(char: str):
    assert clean(f"a{char}b") in (f"a\\u{ord(char):04x}b", f"a\\U{ord(char):08x}b")


def test_text_in_any_script_stays_as_it_is():
    text = "Grüße, 世界, שלום, नमस्ते, 👋"
    assert clean(text) == text


def test_line_feeds_and_tabs_stay_in_content_and_not_in_names():
    assert clean("a\n\tb") == "a\n\tb"
    assert clean("a\n\tb", multiline=False) == "a\\u000a\\u0009b"


@given(st.binary(max_size=60))
def test_a_shown_path_can_still_be_given_back_after_cleaning(path: bytes):
    assert unshow(clean(show(path), multiline=False)) == path


@settings(max_examples=60, deadline=None)
@given(JSON, st.integers(600, 3000))
def test_any_answer_with_small_keys_fits_its_budget_and_is_json(value, budget):
    data = render({"value": value}, budget)
    assert json.loads(json.dumps(data)) == data
    if size(data) > budget:
        # Only an object with many keys of its own, which no schema of ours has, is left as it is.
        assert not _shrinkable(data["value"])


def _shrinkable(data) -> bool:
    if isinstance(data, list):
        return bool(data)
    return isinstance(data, dict) and any(_shrinkable(item) for item in data.values())


def test_a_whole_answer_says_that_nothing_was_omitted():
    assert render(result())[OMITTED] == {}


def test_a_thousand_changes_with_hostile_names_fit_and_the_rest_is_counted():
    from tcfs.sync.results import PlannedChange
    from tests.values import replace

    changes = tuple(PlannedChange("add", show(b"\xff\x01\\" * 300)) for _ in range(1000))
    big = result(plan=replace(result().plan, changes=changes, total=1000))
    data = render(big)
    assert size(data) <= BUDGET
    assert data["plan"]["total"] == 1000
    assert data[OMITTED]["plan.changes"] == 1000 - len(data["plan"]["changes"])


def test_a_clock_of_a_thousand_devices_is_shortened():
    clock = {f"{n:036d}": n for n in range(1000)}
    data = render(version(vclock=clock))
    assert size(data) <= BUDGET
    assert data[OMITTED]["vclock"] > 0


def test_one_absurdly_long_name_is_cut_and_says_so():
    data = render(version(path="x" * 100_000))
    assert size(data) <= BUDGET
    assert data["path"].endswith("more characters]")
    assert data[OMITTED]["path"] > 90_000


def test_a_value_of_another_kind_is_its_text():
    assert plain({"place": Path("a\x1b")}) == {"place": clean("a\x1b")}
