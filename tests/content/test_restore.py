"""Files from frames: verified, written, and told of one by one."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from tcfs.content.frame import compress
from tcfs.content.ids import ChunkHasher
from tcfs.content.restore import (
    FileOrder,
    OtherContent,
    Outcome,
    Part,
    PieceOrder,
    RestoreBatch,
    RestoredBatch,
    restore,
)
from tcfs.content.unpack import Unsealed
from tcfs.errors import IntegrityError
from tcfs.host.base import FileSystem, Stat
from tcfs.host.posix import PosixFileSystem
from tcfs.host.room import Room
from tcfs.model.ids import PackId
from tests.content.support import CHUNK_KEY

PACK = PackId("ab" * 32)
HASHER = ChunkHasher(CHUNK_KEY)
MTIME = 1_700_000_000_123_456_789


def unsealed(chunks: Sequence[bytes], offset: int = 99) -> Unsealed:
    return Unsealed(PACK, offset, *compress(b"".join(chunks)))


def order(path: Path, *parts: tuple[int, int, bytes], content: bytes | None = None) -> FileOrder:
    """A file made of (frame, offset, chunk), signed as ``content`` or as what they are."""
    data = b"".join(chunk for _, _, chunk in parts) if content is None else content
    return FileOrder(
        os.fsencode(path),
        0o640,
        MTIME,
        len(data),
        blake3(data).digest(),
        [Part(f, at, len(chunk), HASHER.chunk_id(chunk)) for f, at, chunk in parts],
    )


def batch_of(
    orders: list[FileOrder],
    frames: list[Unsealed],
    *,
    files: FileSystem | None = None,
    serial: int = 5,
    piece: PieceOrder | None = None,
) -> RestoreBatch:
    payloads = b"".join(frame.payload for frame in frames)
    room = Room(memoryview(payloads + b"what is behind them"))
    return RestoreBatch(serial, files or PosixFileSystem(), HASHER, room, frames, orders, piece)


def run(orders: list[FileOrder], frames: list[Unsealed]) -> list[Outcome]:
    done = restore(pickle.loads(pickle.dumps(batch_of(orders, frames))))
    assert done.serial == 5
    return done.outcomes


def test_files_are_written_with_their_attributes_from_parts_of_several_frames(tmp_path: Path):
    frames = [unsealed([b"one", b"two"]), unsealed([b"three" * 500], 200)]
    link = FileOrder(os.fsencode(tmp_path / "link"), 0, MTIME, 0, b"", [], b"to/\xff")
    outcomes = run(
        [
            order(tmp_path / "a", (0, 3, b"two"), (1, 0, b"three" * 500)),
            order(tmp_path / "b", (0, 0, b"one")),
            order(tmp_path / "empty"),
            link,
        ],
        frames,
    )
    assert (tmp_path / "a").read_bytes() == b"two" + b"three" * 500
    assert (tmp_path / "b").read_bytes() == b"one"
    assert (tmp_path / "empty").read_bytes() == b""
    assert os.readlink(os.fsencode(tmp_path / "link")) == b"to/\xff"
    stat = outcomes[0]
    assert isinstance(stat, Stat)
    assert (stat.mode, stat.mtime_ns, stat.size) == (0o640, MTIME, 2503)
    assert stat == PosixFileSystem().lstat(os.fsencode(tmp_path / "a"))
    assert all(isinstance(outcome, Stat) for outcome in outcomes)


def test_a_chunk_with_other_bytes_is_named_and_its_file_not_written(tmp_path: Path):
    wrong = order(tmp_path / "a", (0, 0, b"one"))
    good = order(tmp_path / "b", (0, 3, b"two"))
    found, other = run([wrong, good], [unsealed([b"0ne", b"two"])])
    assert isinstance(found, IntegrityError)
    assert not isinstance(found, OtherContent)
    assert HASHER.chunk_id(b"one").hex() in found.message
    assert isinstance(other, Stat)
    assert os.listdir(tmp_path) == ["b"]


@pytest.mark.parametrize("content", [b"signed", b"one", b"onetwo!", b""])
def test_right_chunks_that_are_not_the_signed_file_are_refused(tmp_path: Path, content: bytes):
    wrong = order(tmp_path / "a", (0, 0, b"one"), (0, 3, b"two"), content=content)
    (found,) = run([wrong], [unsealed([b"one", b"two"])])
    assert isinstance(found, OtherContent)
    assert os.listdir(tmp_path) == []


def test_a_frame_that_does_not_decompress_fails_each_file_that_needs_it(tmp_path: Path):
    frames = [Unsealed(PACK, 7, 1, b"no zstd"), unsealed([b"one"])]
    outcomes = run(
        [
            order(tmp_path / "a", (0, 0, b"x")),
            order(tmp_path / "b", (1, 0, b"one")),
            order(tmp_path / "c", (0, 1, b"y")),
        ],
        frames,
    )
    assert [isinstance(o, Stat) for o in outcomes] == [False, True, False]
    assert all("frame at 7" in str(o) for o in outcomes if isinstance(o, IntegrityError))


class Full(PosixFileSystem):
    """A disk that takes no file whose name ends in ``full``."""

    def write_new(self, path, parts, mode, mtime_ns):
        if path.endswith(b"full"):
            raise OSError(errno.ENOSPC, "no space")
        if path.endswith(b"odd"):
            raise OSError(errno.EIO, "bad block")
        return super().write_new(path, parts, mode, mtime_ns)


def test_a_failing_disk_is_told_of_and_a_full_one_ends_the_batch(tmp_path: Path):
    names = ("odd", "a", "full", "b")
    orders = [order(tmp_path / name, (0, 0, b"one")) for name in names]
    done = restore(batch_of(orders, [unsealed([b"one"])], files=Full()))
    odd, fine, full = pickle.loads(pickle.dumps(done)).outcomes
    assert isinstance(odd, OSError)
    assert odd.errno == errno.EIO
    assert isinstance(fine, Stat)
    assert isinstance(full, OSError)
    assert full.errno == errno.ENOSPC
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_results_and_views_of_bytes_travel_between_processes():
    view = Unsealed(PACK, 3, 0, memoryview(b"some bytes")[5:])
    batch = batch_of([], [view])
    assert pickle.loads(pickle.dumps(batch)).frames == [Unsealed(PACK, 3, 0, b"bytes")]
    stat = Stat("file", 1, 2, 3, 4, 2**64 - 1, 6)
    assert pickle.loads(pickle.dumps(RestoredBatch(2, [stat]))) == RestoredBatch(2, [stat])


def piece(path: Path, start: int, *parts: tuple[int, int, int]) -> PieceOrder:
    """Bytes of a file made of (frame, offset, length)."""
    name = HASHER.chunk_id(b"not looked at")
    return PieceOrder(os.fsencode(path), start, [Part(f, at, n, name) for f, at, n in parts])


def test_a_piece_is_written_at_its_place_from_parts_in_any_order(tmp_path: Path):
    (tmp_path / "large").write_bytes(b"before")
    frames = [unsealed([b"one", b"two"]), unsealed([b"three" * 500], 200)]
    wanted = piece(tmp_path / "large", 8, (0, 0, 3), (0, 3, 3), (1, 0, 2500), (0, 3, 3), (0, 0, 3))
    done = restore(pickle.loads(pickle.dumps(batch_of([], frames, piece=wanted))))
    assert done.outcomes == []
    written = b"before\0\0onetwo" + b"three" * 500 + b"twoone"
    assert (tmp_path / "large").read_bytes() == written


@pytest.mark.parametrize(
    ("frame", "length"), [(Unsealed(PACK, 7, 1, b"no zstd"), 1), (unsealed([b"one"], 7), 4)]
)
def test_a_piece_whose_frame_is_wrong_names_the_pack(tmp_path: Path, frame: Unsealed, length: int):
    (tmp_path / "large").touch()
    batch = batch_of([], [frame], piece=piece(tmp_path / "large", 0, (0, 0, length)))
    (wrong,) = restore(pickle.loads(pickle.dumps(batch))).outcomes
    assert isinstance(wrong, IntegrityError)
    assert wrong.details["pack"] == PACK
    assert wrong.__traceback__ is None
    assert (tmp_path / "large").read_bytes() == b""


def test_a_piece_of_a_file_that_is_gone_is_told_of(tmp_path: Path):
    batch = batch_of([], [unsealed([b"one"])], piece=piece(tmp_path / "large", 0, (0, 0, 3)))
    (wrong,) = restore(batch).outcomes
    assert isinstance(wrong, FileNotFoundError)
    assert os.listdir(tmp_path) == []
