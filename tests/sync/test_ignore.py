"""What patterns leave out, and how it is told quickly that they leave nothing out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcfs.errors import ConfigError
from tcfs.sync.ignore import PatternSet, exclusion

PIECE = st.sampled_from(["a", "b.o", "*", "**", "?", "[ab]", "[!a]", "x y", "\\*", "\\", "ü", "#"])
LINE = st.builds(
    lambda start, parts, end: start + "".join(parts) + end,
    st.sampled_from(["", "", "!", "/", " ", "\\!", "\\#"]),
    st.lists(st.one_of(PIECE, st.just("/")), min_size=1, max_size=5),
    st.sampled_from(["", "", "/", " ", "\\ "]),
)
NAME = st.text("ab.oxy ü*#!\\", min_size=1, max_size=5).filter(lambda name: name[0] != ".")


@given(st.lists(LINE, max_size=3), st.lists(NAME, max_size=2), st.lists(NAME, max_size=4))
def test_where_no_pattern_may_match_none_does(lines, above, names):
    try:
        exclude = exclusion(lines, hidden_dirs=True, git_dirs=False)
    except ConfigError:
        return
    directory = "/".join(above).encode()
    found = [name.encode() for name in names]
    if not exclude.may_leave_out(directory, found):
        for name in found:
            path = directory + b"/" + name if directory else name
            assert not exclude.leaves_out(path, name, is_dir=False), (lines, path)
            assert not exclude.leaves_out(path, name, is_dir=True), (lines, path)


def test_a_directory_without_the_words_of_a_pattern_is_passed_quickly():
    exclude = exclusion(("*.swp", ".direnv", "/build/"), hidden_dirs=True, git_dirs=False)
    assert not exclude.may_leave_out(b"src", [b"main.py", b"test.py"])
    assert exclude.may_leave_out(b"src", [b"main.py", b"main.swp"])
    assert exclude.may_leave_out(b"", [b"build"])
    assert exclude.may_leave_out(b"build", [b"main.py"])


def test_a_pattern_without_words_of_its_own_may_match_anything():
    for pattern in ("*", "?", "[ab]c", "**/*"):
        assert PatternSet([pattern], "test").words is None
    assert PatternSet(["a[bc]defg", "# no", "", "!kept"], "test").words == frozenset([b"a"])
