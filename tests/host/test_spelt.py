"""A disk that takes several names for one, made to look like one that keeps them apart."""

from __future__ import annotations

import errno
import pickle
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.host.names import Names
from tcfs.host.spelt import SpeltFiles
from tcfs.model.spelling import own_name
from tests.sim.disk import EXACT, Disk, Gate, Naming, SimulatedFiles

MAC = Naming(ignores_case=True, normalises_unicode=True)
COMPOSED = unicodedata.normalize("NFC", "É").encode()
APART = unicodedata.normalize("NFD", "É").encode()
MIXED = unicodedata.normalize("NFD", "é").encode() + unicodedata.normalize("NFC", "é").encode()
NAMES = [
    *(b"a", b"A", b"b", b".Git", b".git", COMPOSED, APART, COMPOSED.lower(), MIXED),
    *(own_name(b"a"), own_name(b"A"), own_name(own_name(b"a")), own_name(APART)),
    *(b"n" * 250 + b".txt", b"N" * 250 + b".txt"),
]


class Hfs(SimulatedFiles):
    """Lists names decomposed."""

    def scan(self, directory: bytes) -> Any:
        listing = super().scan(directory)
        return [(unicodedata.normalize("NFD", n.decode()).encode(), stat) for n, stat in listing]

    def spelling(self, path: bytes) -> bytes:
        return unicodedata.normalize("NFD", super().spelling(path).decode()).encode()


class Memory:
    """A ``Record``."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def stamp(self) -> object:
        return 1

    def roots(self) -> list[bytes]:
        return [b"/r"]

    def all(self) -> dict[bytes, bytes]:
        return dict(self.rows)

    def record(self, names: Mapping[bytes, bytes]) -> None:
        self.rows |= names

    def forget(self, paths: Collection[bytes]) -> None:
        for path in paths:
            del self.rows[path]


def disk_of(naming: Naming, kind: type[SimulatedFiles] = SimulatedFiles) -> SimulatedFiles:
    ticks = iter(range(1, 1 << 30))
    disk = Disk(lambda: next(ticks), naming)
    disk.create(b"/r", "dir", 0o755)
    return kind(disk, Gate())


def apart(naming: Naming = MAC, kind: type[SimulatedFiles] = SimulatedFiles) -> SpeltFiles:
    files = SpeltFiles(disk_of(naming, kind), Names(Memory()))
    files.cover(b"/r")
    return files


def tree(files: SpeltFiles | SimulatedFiles, top: bytes = b"/r") -> dict[bytes, bytes]:
    found = {}
    for name, stat in files.scan(top):
        path = top + b"/" + name
        if stat.kind == "dir":
            found[path] = b"dir"
            found |= tree(files, path)
        else:
            with files.open(path) as reader:
                found[path] = reader.read(100)
    return found


PATHS = st.builds(
    lambda names: b"/r/" + b"/".join(names),
    st.lists(st.sampled_from(NAMES[:9]), max_size=1).flatmap(
        lambda above: st.sampled_from(NAMES).map(lambda name: [*above, name])
    ),
)
STEPS = st.one_of(
    st.tuples(st.just("write_new"), PATHS),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("rename_new"), PATHS, PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("exchange"), PATHS, PATHS),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rmdir"), PATHS),
)


def do(files: SpeltFiles | SimulatedFiles, step: tuple[str, ...], number: int) -> int | None:
    name, *values = step
    if name == "write_new":
        values += [[b"%d" % number], 0o644, 5]  # type: ignore[list-item]
    try:
        getattr(files, name)(*values)
    except OSError as error:
        # Where both paths of a rename are wrong, systems differ in what they say first.
        return errno.ENOENT if error.errno == errno.ENOTDIR else error.errno
    return None


@pytest.mark.parametrize(
    ("naming", "kind"),
    [
        (MAC, SimulatedFiles),
        (MAC, Hfs),
        (Naming(ignores_case=True), SimulatedFiles),
        (Naming(normalises_unicode=True), SimulatedFiles),
    ],
)
@settings(max_examples=100)
@given(steps=st.lists(STEPS, max_size=25))
def test_it_behaves_as_a_disk_that_keeps_names_apart(
    naming: Naming, kind: type[SimulatedFiles], steps: list[tuple[str, ...]]
) -> None:
    exact, spelt = disk_of(EXACT), apart(naming, kind)
    for number, step in enumerate(steps):
        assert do(spelt, step, number) == do(exact, step, number), step
        assert tree(spelt) == tree(exact), step
    # Another process, and a worker, see the same.
    again = SpeltFiles(spelt.inner, Names(spelt.names._record))
    again.cover(b"/r")
    assert tree(again) == tree(exact)
    names = pickle.loads(pickle.dumps(spelt.names))
    worker = SpeltFiles(spelt.inner, names)
    worker.cover(b"/r")
    assert tree(worker) == tree(exact)


USERS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("unlink"), st.sampled_from(NAMES)),
)


@pytest.mark.parametrize("kind", [SimulatedFiles, Hfs])
@settings(max_examples=100)
@given(steps=st.lists(st.one_of(STEPS.map(lambda s: ("engine", s)), USERS), max_size=25))
def test_whatever_people_do_every_entry_is_one_path_and_is_found_at_it(
    kind: type[SimulatedFiles], steps: list[Any]
) -> None:
    spelt = apart(MAC, kind)
    inner = spelt.inner
    for number, (name, *values) in enumerate(steps):
        if name == "engine":
            do(spelt, values[0], number)
            continue
        paths = [b"/r/" + value for value in values]
        try:
            if name == "write":
                inner.write_new(paths[0], [b"%d" % number], 0o644, 5)
            else:
                getattr(inner, name)(*paths)
        except OSError:
            continue
        listed, real = spelt.scan(b"/r"), inner.scan(b"/r")
        assert sorted(s.inode for _, s in listed) == sorted(s.inode for _, s in real)
        assert len({name for name, _ in listed}) == len(listed)
        for shown, stat in listed:
            assert spelt.lstat(b"/r/" + shown) == stat


def test_what_a_user_writes_for_a_path_is_found_however_it_is_spelt() -> None:
    files = apart()
    files.mkdir(b"/r/Docs")
    files.mkdir(b"/r/docs")
    for directory in (b"/r/Docs/", b"/r/docs/"):
        files.write_new(directory + APART, [b"1"], 0o644, 5)
    assert files.true(b"/r/dOCS/" + COMPOSED) == b"/r/Docs/" + APART
    assert files.true(b"/r/" + own_name(b"docs") + b"/" + COMPOSED) == b"/r/docs/" + APART
    assert files.true(b"/r/gone/" + APART) == b"/r/gone/" + COMPOSED
    assert files.true(b"/elsewhere/" + APART) == b"/elsewhere/" + APART


def test_nothing_is_recorded_for_names_that_are_as_they_are() -> None:
    files = apart()
    record = files.names._record
    assert isinstance(record, Memory)
    for name in (b"a", COMPOSED, b"x.case-12345678.txt"):
        files.write_new(b"/r/" + name, [b"1"], 0o644, 5)
    assert record.rows == {}
    files.write_new(b"/r/A", [b"2"], 0o644, 5)
    assert record.rows == {}, "its name tells it"
    files.names.keep_seen()
    assert record.rows == {b"/r/A": own_name(b"A")}
    files.write_new(b"/r/" + b"a" * 250, [b"3"], 0o644, 5)
    files.write_new(b"/r/" + b"A" * 250, [b"4"], 0o644, 5)
    assert len(record.rows) == 2, "a name that is too long to be told is recorded before it is used"


class Hasty(SimulatedFiles):
    """Somebody makes ``a`` of ``A`` in the moment before something is put beside it."""

    def _hurry(self, place: bytes) -> None:
        if place == b"/r/" + own_name(b"a"):
            super().rename(b"/r/A", b"/r/a")

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self._hurry(path)
        super().mkdir(path, mode)

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Any:
        self._hurry(path)
        return super().symlink(target, path, mtime_ns)

    def write_new(self, path: bytes, *values: Any) -> Any:
        self._hurry(path)
        return super().write_new(path, *values)

    def rename_new(self, source: bytes, target: bytes) -> None:
        self._hurry(target)
        super().rename_new(source, target)


@pytest.mark.parametrize(
    "step",
    [
        ("mkdir", b"/r/a"),
        ("symlink", b"there", b"/r/a", 5),
        ("write_new", b"/r/a", [b"new"], 0o644, 5),
        ("rename_new", b"/r/b", b"/r/a"),
        ("rename", b"/r/b", b"/r/a"),
    ],
    ids=lambda step: step[0],
)
def test_what_would_not_be_found_at_its_path_any_more_is_not_put_there(step: Any) -> None:
    files = apart(kind=Hasty)
    files.write_new(b"/r/A", [b"user's"], 0o644, 5)
    files.write_new(b"/r/b", [b"b"], 0o644, 5)
    name, *values = step
    with pytest.raises(FileExistsError):
        getattr(files, name)(*values)
    assert tree(files) == {b"/r/a": b"user's", b"/r/b": b"b"}
    assert {name for name, _ in files.inner.scan(b"/r")} == {b"a", b"b"}
    assert not files.names.given


def after_it_was_put(files: SpeltFiles, act: Callable[[SimulatedFiles, bytes], object]) -> None:
    """Somebody acts on what was put at a name of its own, before it is looked for there."""
    inner, place = files.inner, b"/r/" + own_name(b"a")
    assert isinstance(inner, SimulatedFiles)
    look = inner.spelling

    def spelling(path: bytes) -> bytes:
        if inner.disk.get(place) is not None:
            inner.spelling = look  # type: ignore[method-assign]
            act(inner, place)
        return look(path)

    inner.spelling = spelling  # type: ignore[method-assign]


def test_what_somebody_took_away_again_is_not_taken_back() -> None:
    files = apart()
    files.write_new(b"/r/A", [b"user's"], 0o644, 5)
    files.write_new(b"/r/b", [b"b"], 0o644, 5)
    after_it_was_put(files, lambda inner, place: inner.unlink(place))
    files.rename_new(b"/r/b", b"/r/a")
    assert tree(files) == {b"/r/A": b"user's"}


def test_what_somebody_wrote_to_meanwhile_stays_where_it_was_written() -> None:
    files = apart(kind=Hasty)
    files.write_new(b"/r/A", [b"user's"], 0o644, 5)
    files.write_new(b"/r/b", [b"b"], 0o644, 5)

    def act(inner: SimulatedFiles, place: bytes) -> None:
        edited = inner.disk.get(place)
        assert edited is not None
        inner.disk.write(edited, b"edited")

    after_it_was_put(files, act)
    with pytest.raises(FileExistsError):
        files.rename_new(b"/r/b", b"/r/a")
    assert tree(files) == {b"/r/a": b"user's", b"/r/" + own_name(b"a"): b"edited"}


@pytest.mark.parametrize(
    "step",
    [
        ("unlink", b"/r/a"),
        ("rename_new", b"/r/a", b"/r/b"),
        ("rename", b"/r/a", b"/r/b"),
        ("rename_new", b"/r/a", b"/r/A"),
    ],
    ids=["unlink", "rename_new", "rename", "another spelling"],
)
def test_what_a_user_called_as_another_might_be_is_not_taken_for_that_when_it_goes(
    step: Any,
) -> None:
    files = apart()
    files.write_new(b"/r/a", [b"a"], 0o644, 5)
    files.inner.write_new(b"/r/" + own_name(b"a"), [b"user's"], 0o644, 5)
    name, *values = step
    getattr(files, name)(*values)
    found = tree(files)
    assert b"/r/a" not in found
    assert found[b"/r/" + own_name(b"a")] == b"user's"


def test_a_directory_called_as_another_might_be_is_not_taken_for_that_when_it_goes() -> None:
    files = apart()
    files.mkdir(b"/r/a")
    files.inner.mkdir(b"/r/" + own_name(b"a"))
    files.rmdir(b"/r/a")
    assert tree(files) == {b"/r/" + own_name(b"a"): b"dir"}


def test_what_is_outside_of_covered_directories_is_passed_on() -> None:
    files = SpeltFiles(disk_of(MAC), Names())
    files.write_new(b"/r/" + APART, [b"1"], 0o644, 5)
    assert [name for name, _ in files.scan(b"/r")] == [APART]
    assert files.lstat(b"/r/" + COMPOSED).kind == "file"


def test_two_names_that_are_one_to_us_and_not_to_the_disk_are_refused_together() -> None:
    """A disk that was said to normalise, and does not."""
    inner = disk_of(EXACT)
    for name in (COMPOSED, APART):
        inner.write_new(b"/r/" + name, [b"1"], 0o644, 5)

    class Claims(SpeltFiles):
        composes = True

    files = Claims(inner, Names())
    files.composes = True
    files.cover(b"/r")
    with pytest.raises(OSError, match="Unicode") as caught:
        files.scan(b"/r")
    assert caught.value.errno == errno.EILSEQ
