"""Nix text: what is written is what Nix reads, and an edit changes its value alone."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from tcfs.errors import UsageError
from tcfs.rollout.nixtext import HostText, new_file, nix_name, nix_value
from tests.nix.support import TEXT, needs_nix, run_nix

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.integers(-99_999, 99_999).map(lambda n: n / 100),
    TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@needs_nix
@how(max_examples=8, deadline=None)
@given(st.lists(VALUES, min_size=4, max_size=12))
def test_any_value_is_read_by_nix_as_it_was_written(values: list):
    assert run_nix("--expr", nix_value(values)) == values


@pytest.mark.parametrize("value", [math.inf, math.nan, "a\0b", object()])
def test_what_nix_has_no_form_for_is_refused(value: object):
    with pytest.raises(UsageError):
        nix_value(value)


def test_names_have_quotes_where_they_need_them():
    assert [nix_name(name) for name in ("a", "a-b", "1a", "a.b", "if")] == [
        "a",
        "a-b",
        '"1a"',
        '"a.b"',
        '"if"',
    ]


HOST = """\
# A comment that stays.
{
  platform = "x86_64-linux"; # so does this
  storage = {
    endpoint = "http://a;b}"; /* and } this */
  };
  excludePatterns = [ "a;" ] ++ map (x: x) [ "b" ];
  sync-note = ''
    text with ; and }
  '';
}
"""


def test_an_edit_changes_its_value_and_nothing_else():
    text = HostText(HOST, "h.nix").with_value("platform", "aarch64-linux")
    assert text == HOST.replace("x86_64-linux", "aarch64-linux")
    text = HostText(HOST, "h.nix").with_value("excludePatterns", ["x"])
    assert text == HOST.replace('[ "a;" ] ++ map (x: x) [ "b" ]', '[ "x" ]')


def test_a_new_value_goes_into_the_set_that_is_there():
    text = HostText(HOST, "h.nix").with_value("storage.bucket", "b")
    assert text == HOST.replace("/* and } this */\n", '/* and } this */\n    bucket = "b";\n')
    text = HostText(HOST, "h.nix").with_value("crypto.enabled", True)
    assert text.endswith("  '';\n  crypto.enabled = true;\n}\n")


def test_an_edit_twice_is_an_edit_once():
    once = HostText(HOST, "h.nix").with_value("jobs", 3)
    assert HostText(once, "h.nix").with_value("jobs", 3) == once


def test_a_set_on_one_line_is_edited_too():
    text = HostText('{ platform = "x"; }\n', "h.nix").with_value("jobs", 3)
    assert text == '{ platform = "x"; jobs = 3; }\n'


def test_a_long_list_gets_a_line_for_each_entry():
    text = new_file({"excludePatterns": ["x" * 60, "y" * 60]})
    assert text == (f'{{\n  excludePatterns = [\n    "{"x" * 60}"\n    "{"y" * 60}"\n  ];\n}}\n')


@pytest.mark.parametrize(
    "text",
    [
        "{ pkgs }: { a = 1; }",
        "let x = 1; in { a = x; }",
        "{ a = 1; } // { b = 2; }",
        '{ a = "${x};"; }',
        "{ a = 1 }",
        "{ a = 1;",
        "{ ${x} = 1; }",
        "{ a = with x; y; }",
        "",
        "[ ]",
    ],
)
def test_a_file_that_is_more_than_a_plain_set_is_not_touched(text: str):
    with pytest.raises(UsageError, match="more than a plain set"):
        HostText(text, "h.nix")


def test_a_value_in_the_place_of_a_set_is_refused():
    with pytest.raises(UsageError, match="storage is a set there"):
        HostText(HOST, "h.nix").with_value("storage", "x")


@how(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("{}[]();=\"'$./# ab1\n"), max_size=30))
def test_any_text_is_read_or_refused(text: str):
    try:
        HostText(text, "h.nix")
    except UsageError:
        return
    assert text.lstrip().startswith(("{", "#")) or "{" in text
