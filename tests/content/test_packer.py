"""From frames to packs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tcfs.content.frame import Codec, Frame, compress
from tcfs.content.pack import Pack, PackBuilder
from tcfs.content.packer import Packer
from tcfs.content.unpack import verify_pack
from tcfs.model.ids import ChunkId
from tests.content.support import EPOCH_KEY, KEYS, SEALED, header, named, noise

MIB = 1 << 20


def frame(*chunks: bytes) -> Frame:
    return Frame(*compress(b"".join(chunks)), named(chunks))


class Known:
    def __init__(self, known: set[ChunkId]) -> None:
        self.known = known
        self.asked: list[ChunkId] = []

    def contains_many(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        self.asked += chunks
        return self.known.intersection(chunks)


class Run:
    """A packer whose packs are kept."""

    def __init__(self, target: int = 4 * MIB, known: Known | None = None) -> None:
        self.packs: list[Pack] = []
        self.salts = 0
        self.packer = Packer(self.begin, self.packs.append, target=target, known=known)

    def begin(self) -> PackBuilder:
        self.salts += 1
        return PackBuilder(header(salt=bytes([self.salts]) * 32), EPOCH_KEY)


def test_every_chunk_has_an_address_once_its_pack_is_finished() -> None:
    run = Run()
    frames = [frame(noise(600_000, seed), noise(1000, seed + 100)) for seed in range(20)]
    for each in frames:
        run.packer.add(each)
    run.packer.flush()
    assert 3 <= len(run.packs) <= 4
    assert run.salts == len(run.packs)
    assert all(len(pack.data) < 6 * MIB for pack in run.packs)
    written = {chunk: at for pack in run.packs for chunk, at in pack.chunks}
    for each in frames:
        for chunk, _ in each.chunks:
            assert run.packer.address_of(chunk) == written[chunk]
    for pack in run.packs:
        verify_pack(pack.id, pack.data, SEALED, KEYS)


def test_a_chunk_of_an_unfinished_pack_has_no_address_yet() -> None:
    run = Run()
    run.packer.add(frame(b"abc"))
    ((chunk, _),) = named([b"abc"])
    assert run.packer.address_of(chunk) is None
    run.packer.flush()
    assert run.packer.address_of(chunk) is not None


def test_a_frame_whose_chunks_were_all_added_before_is_dropped() -> None:
    run = Run()
    run.packer.add(frame(b"one", b"two"))
    run.packer.add(frame(b"two"))
    run.packer.flush()
    run.packer.add(frame(b"two", b"one"))
    run.packer.flush()
    assert [len(pack.chunks) for pack in run.packs] == [2]


def test_the_first_of_two_copies_keeps_the_address() -> None:
    run = Run()
    run.packer.add(frame(b"one"))
    run.packer.flush()
    ((chunk, _),) = named([b"one"])
    first = run.packer.address_of(chunk)
    run.packer.add(frame(b"one", b"new"))
    run.packer.flush()
    assert run.packer.address_of(chunk) == first
    assert len(run.packs) == 2


def test_no_pack_grows_past_32_mib_unless_one_frame_does() -> None:
    run = Run(target=24 * MIB)
    for seed in range(3):
        big = noise(15 * MIB, seed)
        run.packer.add(Frame(Codec.STORED, big, named([big])))
    large = noise(40 * MIB, 9)
    run.packer.add(Frame(Codec.STORED, large, named([large])))
    run.packer.flush()
    assert [len(pack.data) // MIB for pack in run.packs] == [30, 15, 40]


def test_the_packer_knows_what_was_added_and_what_was_known_before() -> None:
    (before, _), (added, _), (new, _) = named([b"before", b"added", b"new"])
    known = Known({before})
    run = Run(known=known)
    run.packer.add(frame(b"added"))
    assert run.packer.contains_many([before, added, new]) == {before, added}
    run.packer.flush()
    assert run.packer.contains_many([before, added, new]) == {before, added}
    assert added not in known.asked


def test_addresses_can_be_taken_away_to_bound_memory() -> None:
    run = Run()
    run.packer.add(frame(b"one"))
    run.packer.flush()
    run.packer.add(frame(b"two"))
    (one, _), (two, _) = named([b"one", b"two"])
    assert list(run.packer.cut()) == [one]
    assert run.packer.address_of(one) is None
    run.packer.flush()
    run.packer.forget()
    assert list(run.packer.cut()) == [two]


def test_what_was_handed_over_is_known_until_it_is_forgotten() -> None:
    run = Run()
    run.packer.add(frame(b"one"))
    run.packer.flush()
    ((one, _),) = named([b"one"])
    assert list(run.packer.cut()) == [one]
    run.packer.add(frame(b"one"))
    assert run.packer.contains_many([one]) == {one}
    run.packer.flush()
    assert len(run.packs) == 1
    run.packer.forget()
    assert run.packer.contains_many([one]) == set()
    run.packer.add(frame(b"one"))
    run.packer.flush()
    assert len(run.packs) == 2


def test_nothing_added_makes_no_pack() -> None:
    run = Run()
    run.packer.flush()
    assert run.packs == []
    assert run.salts == 0


def test_a_pack_that_could_not_be_emitted_leaves_no_address() -> None:
    def fail(pack: Pack) -> None:
        raise OSError("no space")

    packer = Packer(lambda: PackBuilder(header(), EPOCH_KEY), fail)
    packer.add(frame(b"one"))
    with pytest.raises(OSError, match="no space"):
        packer.flush()
    ((chunk, _),) = named([b"one"])
    assert packer.address_of(chunk) is None
    assert packer.contains_many([chunk]) == set()
