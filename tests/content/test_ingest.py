"""The CPU stage of a push, for small files and for large ones."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcfs.content.fetch import OpenedChunk, open_frames, plan_ranges
from tcfs.content.frame import Frame, decompress
from tcfs.content.ids import ChunkHasher
from tcfs.content.ingest import (
    Recipe,
    RefusedFile,
    SmallBatch,
    SmallResult,
    SourceFile,
    StoredFile,
    ingest_small,
)
from tcfs.content.ingest_large import ingest_large
from tcfs.content.known import KnownChunks, NothingKnown
from tcfs.content.pack import Pack, PackBuilder
from tcfs.content.packer import Packer
from tcfs.host.base import FileSystem
from tcfs.model.ids import ChunkId
from tests.content.support import (
    CHUNK_KEY,
    EPOCH_KEY,
    disk,
    header,
    lstat,
    noise,
    reader_of,
    text,
)

KIB, MIB = 1 << 10, 1 << 20
RECIPE = Recipe(CHUNK_KEY)
NOTHING = NothingKnown()


@dataclass(frozen=True)
class Known:
    chunks: frozenset[ChunkId]

    def contains_many(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        return set(self.chunks.intersection(chunks))


def source(path: Path, ref: int = 0, previous: int | None = None) -> SourceFile:
    return SourceFile(os.fsencode(path), lstat(path), ref, previous)


def write(path: Path, data: bytes, ref: int = 0, previous: int | None = None) -> SourceFile:
    path.write_bytes(data)
    return source(path, ref, previous)


def small(
    sources: list[SourceFile],
    known: KnownChunks = NOTHING,
    recipe: Recipe = RECIPE,
    files: FileSystem | None = None,
) -> SmallResult:
    return ingest_small(SmallBatch(files or disk(), sources, recipe, known))


def large(
    file: SourceFile,
    known: KnownChunks = NOTHING,
    recipe: Recipe = RECIPE,
    files: FileSystem | None = None,
    window: int = 1 * MIB,
) -> tuple[list[Frame], StoredFile | RefusedFile]:
    items = list(ingest_large(files or disk(), file, recipe, known, window=window))
    frames = [item for item in items if isinstance(item, Frame)]
    (end,) = [item for item in items[-1:] if not isinstance(item, Frame)]
    assert len(frames) == len(items) - 1
    return frames, end


def either(
    file: SourceFile, files: FileSystem, size: int
) -> tuple[list[Frame], StoredFile | RefusedFile]:
    """What the stage for this size of file makes of it."""
    if size > 4 * MIB:
        return large(file, files=files)
    result = small([file], files=files)
    ends: list[StoredFile | RefusedFile] = [*result.stored, *result.refused]
    assert len(ends) == 1
    return result.frames, ends[0]


def chunks_in(frames: list[Frame]) -> dict[ChunkId, bytes]:
    """What the frames hold. No chunk is there twice, and each has its id."""
    found: dict[ChunkId, bytes] = {}
    hasher = ChunkHasher(CHUNK_KEY)
    for codec, payload, chunks in frames:
        plain = bytes(decompress(codec, payload))
        start = 0
        for chunk, length in chunks:
            data = plain[start : start + length]
            assert hasher.chunk_id(data) == chunk
            assert chunk not in found
            found[chunk] = data
            start += length
        assert start == len(plain)
    return found


def assembled(file: StoredFile, found: dict[ChunkId, bytes]) -> bytes:
    return b"".join(found[chunk] for chunk in file.chunks)


def test_small_files_come_as_one_chunk_each_in_shared_frames(tmp_path: Path) -> None:
    data = [text(500 + 977 * n, seed=n) for n in range(100)]
    result = small([write(tmp_path / f"{n}", part, n) for n, part in enumerate(data)])
    assert result.refused == []
    assert len(result.frames) < 8
    found = chunks_in(result.frames)
    for file, part in zip(result.stored, data, strict=True):
        assert (file.size_class, file.size, len(file.chunks)) == (0, len(part), 1)
        assert file.file_hash == blake3(part).digest()
        assert assembled(file, found) == part
        assert data[file.ref] == part


def test_an_empty_file_has_a_hash_and_no_chunks(tmp_path: Path) -> None:
    file = write(tmp_path / "empty", b"")
    expected = StoredFile(0, blake3(b"").digest(), 0, [], 0)
    assert small([file]) == SmallResult([expected], [], [])
    assert large(file) == ([], expected)


def test_the_same_content_twice_is_compressed_once(tmp_path: Path) -> None:
    result = small([write(tmp_path / f"{n}", b"same", n) for n in range(5)])
    assert len(result.stored) == 5
    assert len(chunks_in(result.frames)) == 1


def test_known_chunks_are_in_no_frame(tmp_path: Path) -> None:
    known = Known(frozenset([ChunkHasher(CHUNK_KEY).chunk_id(b"old")]))
    files = [write(tmp_path / "old", b"old"), write(tmp_path / "new", b"new", 1)]
    result = small(files, known)
    assert len(result.stored) == 2
    assert list(chunks_in(result.frames).values()) == [b"new"]


def test_a_file_over_the_limit_in_a_batch_is_cut_like_a_large_one(tmp_path: Path) -> None:
    file = write(tmp_path / "file", text(900 * KIB))
    result = small([file])
    frames, end = large(file)
    assert [end] == result.stored
    assert isinstance(end, StoredFile)
    assert end.size_class == 14
    assert len(end.chunks) > 10
    assert chunks_in(result.frames) == chunks_in(frames)


def test_without_encryption_a_chunk_is_named_by_its_plain_hash(tmp_path: Path) -> None:
    (file,) = small([write(tmp_path / "a", b"abc")], recipe=Recipe(None)).stored
    assert file.chunks == [file.file_hash]


def test_with_encryption_it_is_not(tmp_path: Path) -> None:
    (file,) = small([write(tmp_path / "a", b"abc")]).stored
    assert file.chunks != [file.file_hash]


def test_batches_run_in_other_processes(tmp_path: Path) -> None:
    batches = [
        SmallBatch(
            disk(),
            [write(tmp_path / f"{b}-{n}", noise(2000, 10 * b + n), n) for n in range(3)],
            RECIPE,
            NOTHING,
        )
        for b in range(2)
    ]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(ingest_small, batches)) == [ingest_small(batch) for batch in batches]


def test_a_result_is_about_as_large_as_what_it_carries(tmp_path: Path) -> None:
    result = small([write(tmp_path / f"{n}", noise(1000, n), n) for n in range(100)])
    assert len(pickle.dumps(result)) < 100 * (1000 + 200)


def test_a_single_chunk_larger_than_the_format_allows_is_not_configured() -> None:
    with pytest.raises(ValueError, match="single_max"):
        Recipe(None, single_max=(64 << 20) + 1)


def test_the_chunk_key_does_not_show_in_a_recipe() -> None:
    assert CHUNK_KEY.hex() not in repr(RECIPE)
    assert repr(CHUNK_KEY) not in repr(RECIPE)
    assert repr(CHUNK_KEY) not in repr(ChunkHasher(CHUNK_KEY))


CLASSES = [
    (text, 5 * MIB, 14),
    (text, 90 * MIB, 17),
    (noise, 5 * MIB, -14),
    (noise, 24 * MIB + 1, -15),
]


@pytest.mark.parametrize(("make", "size", "expected"), CLASSES)
def test_a_large_file_comes_back_whole(
    tmp_path: Path, make: Callable[[int], bytes], size: int, expected: int
) -> None:
    data = make(size)
    frames, end = large(write(tmp_path / "file", data, 3))
    assert isinstance(end, StoredFile)
    assert (end.ref, end.size, end.size_class) == (3, size, expected)
    assert end.file_hash == blake3(data).digest()
    assert assembled(end, chunks_in(frames)) == data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    size=st.integers(0, 3 * MIB),
    kind=st.sampled_from([text, noise, lambda size: bytes(size)]),
    previous=st.sampled_from([None, 0, 14, 15, -14, -15]),
    window=st.integers(1, 2 * MIB),
)
def test_any_file_goes_through_packs_and_comes_back(
    tmp_path: Path,
    size: int,
    kind: Callable[[int], bytes],
    previous: int | None,
    window: int,
) -> None:
    data = kind(size)
    packs: list[Pack] = []
    packer = Packer(
        lambda: PackBuilder(header(salt=os.urandom(32)), EPOCH_KEY), packs.append, target=1 * MIB
    )
    frames, end = large(write(tmp_path / "file", data, 0, previous), packer, window=window)
    for frame in frames:
        packer.add(frame)
    packer.flush()
    assert isinstance(end, StoredFile)
    wanted = []
    for chunk in end.chunks:
        address = packer.address_of(chunk)
        assert address is not None
        wanted.append((chunk, address))
    by_id = {pack.id: pack for pack in packs}
    found: dict[ChunkId, bytes] = {}
    for plan in plan_ranges(wanted).ranges:
        pack = by_id[plan.pack]
        part = pack.data[plan.offset : plan.offset + plan.length]
        for item in open_frames(part, plan, reader_of(pack)):
            assert isinstance(item, OpenedChunk)
            found[item.id] = bytes(item.data)
    assert assembled(end, found) == data


def test_a_large_file_that_is_known_makes_no_frames(tmp_path: Path) -> None:
    file = write(tmp_path / "file", text(5 * MIB))
    _, end = large(file)
    assert isinstance(end, StoredFile)
    assert large(file, Known(frozenset(end.chunks))) == ([], end)
    half = frozenset(end.chunks[::2])
    again, _ = large(file, Known(half))
    assert chunks_in(again).keys() == set(end.chunks) - half


def test_a_file_of_zeros_is_one_frame(tmp_path: Path) -> None:
    frames, end = large(write(tmp_path / "file", bytes(9 * MIB)))
    assert isinstance(end, StoredFile)
    assert len(frames) == 1
    assert assembled(end, chunks_in(frames)) == bytes(9 * MIB)


def test_a_growing_log_keeps_its_cuts(tmp_path: Path) -> None:
    log = text(20 * MIB)
    _, before = large(write(tmp_path / "log", log))
    assert isinstance(before, StoredFile)
    grown = write(tmp_path / "log", log + text(10 * MIB, 1), 0, before.size_class)
    frames, after = large(grown, Known(frozenset(before.chunks)))
    assert isinstance(after, StoredFile)
    assert after.size_class == before.size_class
    assert sum(map(len, chunks_in(frames).values())) < 11 * MIB


@pytest.mark.parametrize("size", [100 * KIB, 9 * MIB])
class TestAFileThatIsNotWhatTheScanSaw:
    """It is reported and not stored, whenever it changed."""

    def check(self, path: Path, size: int, meddle: Callable[[Path], None], *, at: int) -> None:
        file = write(path, text(size), 7)

        def before_read(reads: int) -> None:
            if reads == at:
                meddle(path)

        if at < 0:
            meddle(path)
        _, end = either(file, disk(before_read), size)
        assert end == RefusedFile(7, None)

    @pytest.mark.parametrize("at", [-1, 0])
    def test_it_grew(self, tmp_path: Path, size: int, at: int) -> None:
        self.check(tmp_path / "file", size, lambda path: _append(path), at=at)

    @pytest.mark.parametrize("at", [-1, 0])
    def test_it_shrank(self, tmp_path: Path, size: int, at: int) -> None:
        self.check(tmp_path / "file", size, lambda path: os.truncate(path, 1000), at=at)

    @pytest.mark.parametrize("at", [-1, 0])
    def test_it_was_emptied(self, tmp_path: Path, size: int, at: int) -> None:
        self.check(tmp_path / "file", size, lambda path: os.truncate(path, 0), at=at)

    @pytest.mark.parametrize("at", [-1, 0])
    def test_it_was_written_over(self, tmp_path: Path, size: int, at: int) -> None:
        self.check(tmp_path / "file", size, lambda path: _overwrite(path), at=at)

    @pytest.mark.parametrize("at", [-1, 0])
    def test_it_was_written_over_and_its_mtime_put_back(
        self, tmp_path: Path, size: int, at: int
    ) -> None:
        def meddle(path: Path) -> None:
            found = os.stat(path)
            _overwrite(path)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

        self.check(tmp_path / "file", size, meddle, at=at)

    def test_it_was_replaced_by_one_with_the_same_size_and_mtime(
        self, tmp_path: Path, size: int
    ) -> None:
        def meddle(path: Path) -> None:
            found = os.stat(path)
            other = path.with_name("other")
            other.write_bytes(text(size, 1))
            os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.rename(other, path)

        self.check(tmp_path / "file", size, meddle, at=-1)

    def test_it_became_a_fifo_which_is_not_waited_for(self, tmp_path: Path, size: int) -> None:
        def meddle(path: Path) -> None:
            path.unlink()
            os.mkfifo(path)

        self.check(tmp_path / "file", size, meddle, at=-1)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _overwrite(path: Path) -> None:
    # As a program in the same tick of the file system's clock would.
    os.utime(path, ns=(1, 1))
    with path.open("r+b") as file:
        file.write(b"XXXX")


@pytest.mark.parametrize("size", [100 * KIB, 9 * MIB])
@pytest.mark.parametrize(
    ("meddle", "expected"),
    [
        (lambda path: path.unlink(), errno.ENOENT),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), errno.ELOOP),
    ],
)
def test_a_file_that_cannot_be_opened_says_why(
    tmp_path: Path, size: int, meddle: Callable[[Path], object], expected: int
) -> None:
    file = write(tmp_path / "file", text(size), 7)
    meddle(tmp_path / "file")
    assert either(file, disk(), size) == ([], RefusedFile(7, expected))


@pytest.mark.parametrize("size", [100 * KIB, 9 * MIB])
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, size: int, code: int) -> None:
    def fail(reads: int) -> None:
        if reads == (2 if size > MIB else 0):
            raise OSError(code, os.strerror(code))

    file = write(tmp_path / "file", text(size), 7)
    _, end = either(file, disk(fail), size)
    assert end == RefusedFile(7, code)


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}", noise(100, n), n) for n in range(5)]
    (tmp_path / "1").unlink()
    _append(tmp_path / "3")
    result = small(files)
    assert result.refused == [RefusedFile(1, errno.ENOENT), RefusedFile(3, None)]
    assert [file.ref for file in result.stored] == [0, 2, 4]
    assert list(chunks_in(result.frames).values()) == [noise(100, n) for n in (0, 2, 4)]


def test_a_file_larger_than_the_format_allows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    try:
        os.truncate(path, (4 << 40) + 1)
    except OSError:
        pytest.skip("this file system has no such large files")
    assert large(source(path, 7)) == ([], RefusedFile(7, errno.EFBIG))


def test_what_was_read_before_a_failure_can_still_be_stored(tmp_path: Path) -> None:
    def fail(reads: int) -> None:
        if reads == 8:
            raise OSError(errno.EIO, "bad sector")

    data = text(9 * MIB)
    frames, end = large(write(tmp_path / "file", data), files=disk(fail))
    assert isinstance(end, RefusedFile)
    assert sum(map(len, chunks_in(frames).values())) > 4 * MIB


def test_a_consumer_that_stops_early_leaves_nothing_open(tmp_path: Path) -> None:
    file = write(tmp_path / "file", text(9 * MIB))
    before = set(os.listdir("/dev/fd"))
    items = ingest_large(disk(), file, RECIPE, NOTHING, window=1 * MIB)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert set(os.listdir("/dev/fd")) == before
