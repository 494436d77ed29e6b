"""Names of their own: what they look like, and what they stand for."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tcfs.model.paths import MAX_NAME, path_problem
from tcfs.model.spelling import composed, folded, own_name, true_of_own

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)


def test_a_name_of_its_own_is_read_by_people() -> None:
    assert own_name(b"Report.final.txt") == b"Report.final.case-64df5e00.txt"
    assert own_name(b"notes.txt") == b"notes.case-e39538e7.txt", "as docs/shell.md says"
    assert own_name(b".bashrc") == b".bashrc.case-b7cf3e96"
    assert own_name(b"Makefile") == b"Makefile.case-76ed074a"


@given(TEXT)
def test_a_composed_name_is_told_by_its_own_name(text: str) -> None:
    name = unicodedata.normalize("NFC", text).encode()
    assume(path_problem(name) is None and len(name) < 200)
    own = own_name(name)
    assert true_of_own(own) == name
    assert composed(own) == own
    assert true_of_own(own_name(own)) == own


@given(TEXT)
def test_a_decomposed_name_is_told_by_its_own_name(text: str) -> None:
    name = unicodedata.normalize("NFD", text).encode()
    assume(path_problem(name) is None and len(name) < 200)
    assert true_of_own(own_name(name)) == name


@given(TEXT, TEXT)
def test_no_two_names_share_one_of_their_own(one: str, other: str) -> None:
    a, b = one.encode(), other.encode()
    assume(a != b)
    assert folded(own_name(a)) != folded(own_name(b))


@given(
    st.binary(min_size=1, max_size=255).map(lambda n: n.replace(b"/", b"x").replace(b"\0", b"x"))
)
def test_any_bytes_have_a_name_of_their_own_that_a_disk_takes(name: bytes) -> None:
    assume(path_problem(name) is None)
    own = own_name(name)
    assert len(own) <= MAX_NAME
    assert path_problem(own) is None


@pytest.mark.parametrize(
    "name",
    [
        b"a.case-00000000.txt",
        b"a.case-.txt",
        own_name(b"a.txt").upper(),
        own_name(b"."),
        own_name(b".tcfs"),
        own_name(b"n" * 250),
        b"\xff.case-12345678",
    ],
)
def test_what_only_looks_like_one_stands_for_itself(name: bytes) -> None:
    assert true_of_own(name) is None


def test_folding_takes_for_one_what_any_disk_does() -> None:
    assert folded("Straße".encode()) == folded(b"STRASSE")
    assert folded("É".encode()) == folded(unicodedata.normalize("NFD", "é").encode())
    assert folded(".g\u200cit".encode()) == b".git"
    assert folded(b"\xff\xfe") == b"\xff\xfe"
