"""Packs: what is written can be read, and nothing else can."""

from __future__ import annotations

import hmac
import struct
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from uuid import UUID

import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.content.frame import Codec
from tcfs.content.pack import (
    FOOTER_SIZE,
    HEADER_READ,
    Pack,
    PackBuilder,
    PackHeader,
    PackScope,
    pack_id,
    trailer_length,
)
from tcfs.content.seal import Cipher
from tcfs.content.unpack import (
    PackReader,
    PackReaders,
    addresses,
    pack_problems,
    verify_pack,
)
from tcfs.errors import AccessError, IntegrityError
from tcfs.model.ids import ChunkId, EpochId, NamespaceId, PackId
from tests.content.support import (
    CHUNK_KEY,
    EPOCH_KEY,
    KEYS,
    REPO,
    SALT,
    SEALED,
    Keys,
    add,
    header,
    keys_of,
    named,
    reader_of,
    scope_of,
    small_pack,
    stored_pack,
    text,
)
from tests.values import replace

CIPHERS = list(Cipher)
chunk_lists = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5)


def verify(pack: Pack, cipher: Cipher = Cipher.AES_256_GCM) -> None:
    verify_pack(pack.id, pack.data, scope_of(cipher), keys_of(cipher))


@given(st.lists(chunk_lists, min_size=1, max_size=5), st.sampled_from(CIPHERS))
def test_every_chunk_of_a_pack_comes_back_from_its_address(
    frames: list[list[bytes]], cipher: Cipher
) -> None:
    pack = small_pack(frames, cipher)
    verify(pack, cipher)
    reader = reader_of(pack, keys_of(cipher), scope_of(cipher))
    plain = [chunk for chunks in frames for chunk in chunks]
    assert len(pack.chunks) == len(plain)
    for expected, (chunk, at) in zip(plain, pack.chunks, strict=True):
        assert at.pack == pack.id
        stored = pack.data[at.frame_offset : at.frame_offset + at.frame_length]
        data = reader.open_frame(at.frame_offset, stored)[at.offset : at.offset + at.length]
        assert bytes(data) == expected
        reader.check_chunk(chunk, data)


@given(st.lists(chunk_lists, min_size=1, max_size=5), st.sampled_from(CIPHERS))
def test_the_index_can_be_rebuilt_from_the_trailer_alone(
    frames: list[list[bytes]], cipher: Cipher
) -> None:
    pack = small_pack(frames, cipher)
    reader = PackReader(pack.id, pack.data[:HEADER_READ], scope_of(cipher), keys_of(cipher))
    length = trailer_length(pack.data[-FOOTER_SIZE:], pack.id)
    start = len(pack.data) - FOOTER_SIZE - length
    entries = reader.open_trailer(start, pack.data[start : start + length])
    assert list(addresses(pack.id, entries)) == pack.chunks


def test_the_builder_knows_the_size_of_the_pack_to_be() -> None:
    builder = PackBuilder(header(), EPOCH_KEY)
    for n in range(5):
        add(builder, [text(1000, n), b"x" * (n + 1)])
    size = builder.size
    assert len(builder.finish().data) == size


def test_a_pack_of_fixed_keys_is_the_same_for_ever() -> None:
    frames = [[b"alpha", b"beta"], [bytes(range(256))]]
    ids = {cipher.name: stored_pack(frames, cipher).id for cipher in CIPHERS}
    assert ids == {
        "NONE": "7205d71e5b47a250dbdb4aebbce8c854d404283c261a510932d47c363fdd2e13",
        "AES_256_GCM": "4f2d1ba47c5e2ba33b4d75e8531bc353c3028546d799ac8068a48e284990ffcf",
        "CHACHA20_POLY1305": "370213f3d5cc2cf41fe0e9dcd23ba326012aec5878cf9de8be44035a179c355a",
    }


def test_a_pack_opens_with_nothing_but_the_format_document() -> None:
    pack = small_pack([[b"one", b"two"], [text(3000)]])
    data = bytes(pack.data)
    assert data[:10] == b"TCFSPACK\x01\x01"
    (first,) = struct.unpack(">H", data[10:12])
    repo, device, seq = data[12:28], data[28:44], int.from_bytes(data[44:52], "big")
    epoch, salt, space = data[52:68], data[68:100], data[101 : 101 + data[100]]
    assert (UUID(bytes=repo), str(UUID(bytes=device)), seq) == (REPO, header().device, 7)
    assert (first, salt, space) == (101 + data[100], SALT, b"default")
    bind = b"tcfs/pack/v1\0" + repo + bytes([len(space)]) + space + epoch + b"\x01"
    extracted = hmac.digest(salt, EPOCH_KEY, "sha256")
    key = AESGCM(hmac.new(extracted, bind + b"\x01", sha256).digest())

    def opened(offset: int, length: int, kind: int) -> bytes:
        codec = data[offset]
        aad = bind + struct.pack(">BQBB", kind, offset, kind, codec)
        sealed = data[offset + 1 : offset + length]
        payload = key.decrypt(offset.to_bytes(12, "big"), sealed, aad)
        return zstandard.decompress(payload) if codec else payload

    assert data[-8:] == b"TCFSPEND"
    size = int.from_bytes(data[-12:-8], "big")
    trailer = opened(len(data) - 12 - size, size, 1)
    count, one, one_chunks, two, two_chunks = struct.unpack(">IIIII", trailer[:20])
    assert (count, one_chunks, two_chunks) == (2, 2, 1)
    assert first + one + two == len(data) - 12 - size
    assert opened(first, one, 0) == b"onetwo"
    assert opened(first + one, two, 0) == text(3000)
    hashes = [blake3(part, key=CHUNK_KEY).digest() for part in (b"one", b"two", text(3000))]
    listed = list(struct.iter_unpack(">32sI", trailer[20:]))
    assert listed == list(zip(hashes, [3, 3, 3000], strict=True))
    assert blake3(data).hexdigest() == pack.id


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_flipped_bit_is_found_and_the_pack_is_named(cipher: Cipher) -> None:
    pack = small_pack(cipher=cipher)
    for position in range(len(pack.data)):
        for bit in range(8):
            damaged = bytearray(pack.data)
            damaged[position] ^= 1 << bit
            found = list(pack_problems(pack.id, damaged, scope_of(cipher), keys_of(cipher)))
            assert found
            assert all(problem.details["pack"] == pack.id for problem in found)
            assert all(pack.id in problem.message for problem in found)


@pytest.mark.parametrize("cipher", [Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305])
def test_a_flipped_bit_is_found_without_the_pack_id_too(cipher: Cipher) -> None:
    # A puller reads ranges, and so never sees the whole whose hash is the id.
    pack = small_pack(cipher=cipher)
    device_and_seq = range(28, 52)
    for position in set(range(len(pack.data))) - set(device_and_seq):
        damaged = bytearray(pack.data)
        damaged[position] ^= 1 << position % 8
        try:
            reader = PackReader(pack.id, damaged, SEALED, KEYS)
        except (IntegrityError, AccessError):
            continue
        assert list(reader.frame_problems(damaged)), position


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_truncated_pack_is_found_at_every_length(cipher: Cipher) -> None:
    pack = small_pack(cipher=cipher)
    for size in range(len(pack.data)):
        with pytest.raises(IntegrityError, match=pack.id):
            verify_pack(pack.id, pack.data[:size], scope_of(cipher), keys_of(cipher))
        # The same where the shorter pack has been given an id of its own.
        short = pack.data[:size]
        with pytest.raises(IntegrityError):
            verify_pack(pack_id(short), short, scope_of(cipher), keys_of(cipher))


def test_a_longer_pack_is_found() -> None:
    longer = bytes(small_pack().data) + b"x"
    with pytest.raises(IntegrityError):
        verify_pack(pack_id(longer), longer, SEALED, KEYS)


def test_the_damaged_chunk_is_named_and_the_others_are_not() -> None:
    pack = small_pack([[b"one"], [b"two"], [b"three"]], Cipher.NONE)
    chunk, at = pack.chunks[1]
    pack.data[at.frame_offset + 1] ^= 1
    whole, one = list(pack_problems(pack.id, pack.data, scope_of(Cipher.NONE), Keys(None)))
    assert "do not have its id" in whole.message
    assert one.details == {"pack": pack.id, "chunk": chunk.hex()}


def test_a_frame_opens_only_in_its_own_place() -> None:
    pack = small_pack([[b"11111"], [b"22222"]])
    one, two = (at for _, at in pack.chunks)
    reader = reader_of(pack)
    stored = [pack.data[at.frame_offset : at.frame_offset + at.frame_length] for at in (one, two)]
    assert bytes(reader.open_frame(one.frame_offset, stored[0])) == b"11111"
    with pytest.raises(IntegrityError, match=pack.id):
        reader.open_frame(one.frame_offset, stored[1])
    with pytest.raises(IntegrityError):
        reader.open_frame(two.frame_offset, stored[0])


def test_a_frame_of_another_pack_does_not_open() -> None:
    # Same device, epoch, place and bytes: the salt alone differs.
    pack, other = small_pack(), small_pack(salt=bytes(32))
    _, at = pack.chunks[0]
    stored = other.data[at.frame_offset : at.frame_offset + at.frame_length]
    with pytest.raises(IntegrityError):
        reader_of(pack).open_frame(at.frame_offset, stored)


def test_the_trailer_does_not_open_as_a_frame_nor_a_frame_as_the_trailer() -> None:
    pack = small_pack()
    reader = reader_of(pack)
    length = trailer_length(pack.data[-FOOTER_SIZE:], pack.id)
    start = len(pack.data) - FOOTER_SIZE - length
    with pytest.raises(IntegrityError):
        reader.open_frame(start, pack.data[start : start + length])
    _, at = pack.chunks[0]
    stored = pack.data[at.frame_offset : at.frame_offset + at.frame_length]
    with pytest.raises(IntegrityError):
        reader.open_trailer(at.frame_offset, stored)


def test_the_codec_byte_is_bound_to_the_frame() -> None:
    pack = stored_pack([[zstandard.compress(b"abc")]], Cipher.AES_256_GCM)
    _, at = pack.chunks[0]
    pack.data[at.frame_offset] = Codec.ZSTD
    with pytest.raises(IntegrityError, match="do not open"):
        reader_of(pack).open_frame(
            at.frame_offset, pack.data[at.frame_offset : at.frame_offset + at.frame_length]
        )


def test_a_wrong_epoch_key_opens_nothing() -> None:
    wrong = Keys(epochs={header().epoch: bytes(32)})
    pack = small_pack()
    with pytest.raises(IntegrityError):
        verify_pack(pack.id, pack.data, SEALED, wrong)


def test_an_epoch_that_was_not_given_is_refused_as_such() -> None:
    pack = small_pack(epoch=EpochId("ab" * 16))
    with pytest.raises(AccessError):
        verify_pack(pack.id, pack.data, SEALED, KEYS)


def test_a_wrong_chunk_key_is_found() -> None:
    pack = small_pack()
    with pytest.raises(IntegrityError, match="other bytes than its id"):
        verify_pack(pack.id, pack.data, SEALED, Keys(chunk_key=bytes(32)))


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        (replace(SEALED, namespace=NamespaceId("other")), "namespace"),
        (replace(SEALED, repo=UUID(int=5)), "repository"),
        (replace(SEALED, encrypted=False), "cipher"),
    ],
)
def test_a_pack_of_elsewhere_is_refused(scope: PackScope, why: str) -> None:
    pack = small_pack()
    with pytest.raises(IntegrityError, match=why) as caught:
        verify_pack(pack.id, pack.data, scope, KEYS)
    assert caught.value.details["pack"] == pack.id


def test_a_pack_that_is_not_sealed_is_refused_where_packs_are() -> None:
    pack = small_pack(cipher=Cipher.NONE)
    with pytest.raises(IntegrityError, match="cipher 0 is not allowed"):
        verify_pack(pack.id, pack.data, SEALED, KEYS)


def test_a_header_relabelled_for_another_namespace_opens_nothing() -> None:
    pack = small_pack()
    relabelled = bytes(pack.data).replace(b"default", b"another")
    scope = replace(SEALED, namespace=NamespaceId("another"))
    with pytest.raises(IntegrityError, match="do not open"):
        verify_pack(pack_id(relabelled), relabelled, scope, KEYS)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_what_is_no_pack_is_refused(data: bytes, begins_well: bool) -> None:
    if begins_well:
        data = header(Cipher.NONE).encode() + data + b"TCFSPEND"
    with pytest.raises(IntegrityError):
        verify_pack(pack_id(data), data, scope_of(Cipher.NONE), Keys(None))


@pytest.mark.parametrize(
    ("position", "value", "why"),
    [(0, 0, "begin like"), (8, 2, "version is 2"), (11, 99, "length of its header")],
)
def test_a_header_that_is_wrong_says_what_is_wrong(position: int, value: int, why: str) -> None:
    data = bytearray(small_pack().data)
    data[position] = value
    with pytest.raises(IntegrityError, match=why):
        PackHeader.parse(data, PackId("p"), SEALED)


def test_no_pack_is_shorter_than_what_holds_any_header() -> None:
    shortest = header(Cipher.NONE, namespace=NamespaceId("a"))
    builder = PackBuilder(shortest, b"")
    add(builder, [b"x"], None)
    assert len(builder.finish().data) >= HEADER_READ
    longest = header(namespace=NamespaceId("a" * 63))
    assert longest.size == HEADER_READ
    parsed = PackHeader.parse(
        longest.encode(), PackId("p"), replace(SEALED, namespace=longest.namespace)
    )
    assert parsed == longest


@given(
    cipher=st.sampled_from(CIPHERS),
    seq=st.integers(1, 2**64 - 1),
    space=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    salt=st.binary(min_size=32, max_size=32),
)
def test_a_header_comes_back_as_it_was(cipher: Cipher, seq: int, space: str, salt: bytes) -> None:
    made = header(cipher, seq=seq, namespace=NamespaceId(space), salt=salt)
    scope = PackScope(REPO, made.namespace, encrypted=cipher is not Cipher.NONE)
    assert PackHeader.parse(made.encode().ljust(HEADER_READ), PackId("p"), scope) == made


@pytest.mark.parametrize(
    "chunks", [[], [(ChunkId(bytes(32)), 3)], [(ChunkId(bytes(32)), 4), (ChunkId(bytes(32)), 0)]]
)
def test_the_builder_refuses_chunks_that_are_not_the_payload(
    chunks: list[tuple[ChunkId, int]],
) -> None:
    builder = PackBuilder(header(), EPOCH_KEY)
    before = builder.size
    with pytest.raises(ValueError, match="frame"):
        builder.add_frame(Codec.STORED, b"four", chunks)
    assert builder.size == before


def test_the_builder_keeps_a_pack_within_its_limit() -> None:
    builder = PackBuilder(header(), EPOCH_KEY)
    big = bytes(60 << 20)
    builder.add_frame(Codec.STORED, big, named([big]))
    with pytest.raises(ValueError, match="cannot hold"):
        builder.add_frame(Codec.STORED, big, named([big]))


def test_the_builder_knows_whether_it_holds_anything() -> None:
    builder = PackBuilder(header(), EPOCH_KEY)
    seen = [builder.empty]
    add(builder, [b"x"])
    seen.append(builder.empty)
    assert seen == [True, False]


def test_a_pack_is_finished_once_and_never_empty() -> None:
    builder = PackBuilder(header(), EPOCH_KEY)
    with pytest.raises(ValueError, match="finished once"):
        builder.finish()
    add(builder, [b"x"])
    builder.finish()
    with pytest.raises(ValueError, match="finished once"):
        builder.finish()


def test_a_header_that_does_not_fit_the_format_is_not_written() -> None:
    for wrong in ({"salt": b"short"}, {"device": "root"}, {"seq": 0}, {"epoch": EpochId("")}):
        with pytest.raises(ValueError, match="pack"):
            header(**wrong).encode()


@pytest.mark.parametrize("total", [(64 << 20) + 1, 1 << 40])
def test_a_trailer_that_lists_too_large_a_frame_is_refused(total: int) -> None:
    pack = _with_trailer([(20, 1)], [(bytes(32), min(total, 2**32 - 1))])
    with pytest.raises(IntegrityError, match="impossible frame"):
        verify_pack(pack.id, pack.data, scope_of(Cipher.NONE), Keys(None))


def _with_trailer(frames: list[tuple[int, int]], chunks: list[tuple[bytes, int]]) -> Pack:
    """A pack without sealing whose trailer says what it is told to."""
    plain = len(frames).to_bytes(4, "big")
    plain += b"".join(struct.pack(">II", *frame) for frame in frames)
    plain += b"".join(struct.pack(">32sI", *chunk) for chunk in chunks)
    trailer = b"\0" + plain
    body = b"".join(bytes(length) for length, _ in frames)
    data = bytearray(header(Cipher.NONE).encode() + body + trailer)
    data += struct.pack(">I8s", len(trailer), b"TCFSPEND")
    return Pack(pack_id(data), data, [])


def test_a_decompression_bomb_in_a_pack_is_refused_by_what_its_trailer_says() -> None:
    bomb = b"\1" + zstandard.compress(bytes(32 << 20))
    pack = _with_trailer([(len(bomb), 1)], [(blake3(b"abc").digest(), 3)])
    size = header(Cipher.NONE).size
    pack.data[size : size + len(bomb)] = bomb
    name = pack_id(pack.data)
    with pytest.raises(IntegrityError, match="more than 3"):
        verify_pack(name, pack.data, scope_of(Cipher.NONE), Keys(None))


def test_one_reader_serves_several_threads() -> None:
    pack = small_pack([[text(50_000, seed)] for seed in range(20)])
    reader = reader_of(pack)

    def opened(index: int) -> None:
        chunk, at = pack.chunks[index % 20]
        stored = pack.data[at.frame_offset : at.frame_offset + at.frame_length]
        reader.check_chunk(chunk, reader.open_frame(at.frame_offset, stored))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(opened, range(400)))


def test_headers_are_fetched_once_and_not_at_all_when_they_came_along() -> None:
    packs = {pack.id: pack for pack in (small_pack(), small_pack(salt=bytes(32)))}
    asked: list[PackId] = []

    def fetch(pack: PackId) -> bytes:
        asked.append(pack)
        return bytes(packs[pack].data[:HEADER_READ])

    one, two = packs
    readers = PackReaders(SEALED, KEYS, fetch)
    assert readers.reader(one) is readers.reader(one)
    readers.reader(two, packs[two].data)
    readers.reader(two)
    assert asked == [one]


def test_a_header_that_was_damaged_on_its_way_is_fetched_again() -> None:
    pack = small_pack()
    chunk, address = pack.chunks[0]
    heads = [bytearray(pack.data[:HEADER_READ]), pack.data[:HEADER_READ]]
    place = bytes(heads[0]).index(PackHeader.parse(pack.data[:HEADER_READ], pack.id, SEALED).salt)
    heads[0][place] ^= 1
    readers = PackReaders(SEALED, KEYS, lambda _pack: bytes(heads.pop(0)))
    frame = pack.data[address.frame_offset : address.frame_offset + address.frame_length]
    with pytest.raises(IntegrityError):
        readers.reader(pack.id).open_frame(address.frame_offset, frame)
    again = readers.reader(pack.id)
    plain = again.open_frame(address.frame_offset, frame)
    again.check_chunk(chunk, plain[address.offset : address.offset + address.length])
    # Once a frame was right, a damaged one says nothing of the header.
    with pytest.raises(IntegrityError):
        again.open_frame(address.frame_offset, bytes(len(frame)))
    assert readers.reader(pack.id) is again


def test_the_cache_of_headers_is_bounded() -> None:
    pack = small_pack()
    asked: list[PackId] = []

    def fetch(name: PackId) -> bytes:
        asked.append(name)
        return bytes(pack.data[:HEADER_READ])

    readers = PackReaders(SEALED, KEYS, fetch, capacity=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        readers.reader(PackId(name))
    assert asked == ["a", "b", "c", "b"]


def test_secrets_do_not_show_in_what_errors_say() -> None:
    pack = small_pack()
    pack.data[-50] ^= 1
    for problem in pack_problems(pack.id, pack.data, SEALED, KEYS):
        shown = f"{problem!r} {problem.to_json()}"
        assert CHUNK_KEY.hex() not in shown
        assert EPOCH_KEY.hex() not in shown
