"""Paths: what is allowed, what is shown, and what users may write for a place."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcfs.errors import IntegrityError, UsageError
from tcfs.model.ids import DEFAULT_NAMESPACE, RelPath
from tcfs.model.paths import (
    MAX_NAME,
    MAX_PATH,
    ROOT,
    from_json_field,
    join,
    parents,
    parse_remote,
    path_problem,
    relative_to,
    remote_path,
    show,
    to_json_field,
    unshow,
    user_path,
)
from tests.model.values import names, rel_paths

raw_paths = st.one_of(
    st.binary(max_size=30),
    st.lists(names | st.sampled_from((b"", b".", b"..", b".tcfs", b".tcfs-tmp-1")), max_size=4).map(
        b"/".join
    ),
    st.sampled_from((b"x" * 256, b"/".join([b"y" * 200] * 21), b"a" * 255, b"a/" * 2047 + b"bb")),
)


def naive_problem(path: bytes) -> bool:
    """The rules of FORMAT.md, read literally, and the reserved names."""
    parts = path.split(b"/")
    return (
        not path
        or len(path) > MAX_PATH
        or b"\0" in path
        or any(part in (b"", b".", b"..") or len(part) > MAX_NAME for part in parts)
        or any(part == b".tcfs" or part.startswith(b".tcfs-tmp-") for part in parts)
    )


@given(raw_paths)
def test_a_path_is_refused_exactly_by_the_rules_of_the_format(path):
    assert (path_problem(path) is not None) == naive_problem(path)


@given(raw_paths)
def test_remote_and_user_paths_are_refused_with_errors_of_their_own(path):
    if path_problem(path) is None:
        assert remote_path(path) == user_path(path) == path
        return
    with pytest.raises(IntegrityError):
        remote_path(path)
    with pytest.raises(UsageError):
        user_path(path)


@given(st.binary())
@example(b"\xed\xa0\x80")
@example("\\x41\u202e\u200b\ue000\U000e0001\n".encode())
def test_what_is_shown_can_be_given_back(path):
    assert unshow(show(path)) == path


@given(st.binary() | st.text().map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_what_is_shown_is_one_harmless_line(path):
    shown = show(path)
    shown.encode()
    categories = {unicodedata.category(char) for char in shown}
    assert not categories & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(st.binary(), st.binary())
def test_two_paths_are_never_shown_alike(one, other):
    assert (show(one) == show(other)) == (one == other)


@given(st.text())
@example("\\U00110000")
@example("\\ud800")
@example("\\udc80")
@example("\\xzz\\")
def test_any_text_can_be_given_as_a_shown_path(text):
    assert isinstance(unshow(text), bytes)


@pytest.mark.parametrize("text", ["\ud800", "a/\udfff"])
def test_text_that_no_encoding_takes_is_refused_as_a_path(text):
    with pytest.raises(UsageError):
        unshow(text)
    with pytest.raises(UsageError):
        parse_remote(text, remote_name="tcfs")


@given(st.binary())
def test_bytes_read_back_from_their_json_field(value):
    data = to_json_field("rel_path", value)
    assert from_json_field("rel_path", data) == value
    assert len(data) == 1


@pytest.mark.parametrize(
    "data",
    [
        {"p": 1},
        {"p": ["a"]},
        {"p": "\ud800"},
        {"p_b64": 1},
        {"p_b64": "***"},
        {"p_b64": "é"},
        {"p_b64": "YQ"},
    ],
)
def test_a_malformed_field_is_refused(data):
    with pytest.raises(IntegrityError):
        from_json_field("p", data)


@given(rel_paths)
def test_a_path_with_and_without_the_remotes_name_is_one_place(path):
    place = (DEFAULT_NAMESPACE, path)
    assert parse_remote(b"fleet/default/" + path, remote_name="fleet") == place
    assert parse_remote(b"fleet/default/" + path + b"/", remote_name="fleet") == place
    if path.split(b"/")[0] != b"fleet":
        assert parse_remote(path, remote_name="fleet") == place


@pytest.mark.parametrize("text", ["", "fleet", "fleet/", "fleet/default", "fleet/default/"])
def test_the_remotes_name_alone_means_its_root(text):
    assert parse_remote(text, remote_name="fleet") == (DEFAULT_NAMESPACE, ROOT)


@pytest.mark.parametrize(
    "text", ["/", "/a", "../a", "a//b", "a/./b", "fleet/Default/a", "fleet//a", "fleet/default//a"]
)
def test_a_place_that_could_be_elsewhere_is_refused(text):
    with pytest.raises(UsageError):
        parse_remote(text, remote_name="fleet")


@given(raw_paths)
def test_any_bytes_are_a_place_or_a_usage_error(raw):
    try:
        _, path = parse_remote(raw, remote_name="fleet")
    except UsageError:
        return
    assert path == ROOT or path_problem(path) is None


@given(rel_paths | st.just(ROOT), rel_paths | st.just(ROOT))
def test_joining_and_looking_from_a_prefix_are_inverse(prefix, path):
    joined = join(prefix, path)
    assert relative_to(joined, prefix) == path
    if prefix and relative_to(RelPath(joined + b"x"), prefix) is not None:
        assert path  # A longer name beside the prefix is not below it.


@given(rel_paths)
def test_parents_are_every_directory_above_outermost_first(path):
    above = parents(path)
    assert list(above) == sorted(above, key=len)
    assert all(relative_to(path, directory) for directory in above)
    assert len(above) == path.count(b"/")
