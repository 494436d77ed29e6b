"""Segments: what a device signs, and what a reader believes of it.

Formats are those of FORMAT.md, section History. ``open_segment`` verifies one segment by itself;
its place in the chain and in causal order is for ``tcfs.ledger.walk``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from tcfs.content.address import ChunkAddress
from tcfs.content.frame import compress, decompress
from tcfs.content.keys import KeyRing
from tcfs.content.seal import NO_EPOCH, SEGMENT_KIND, Binding, Cipher, Sealer
from tcfs.errors import IntegrityError, LimitError
from tcfs.ledger.body import (
    MAX_BODY,
    MAX_SINGLE_BODY,
    decode_body,
    decode_control_body,
    encode_body,
    encode_control_body,
)
from tcfs.ledger.header import MAX_INLINE_PACK, MAX_SEGMENT, encode_header, parse_header
from tcfs.ledger.keys import SegmentRef, key_of, parse_key
from tcfs.model.abridged import ToldEvent, as_told
from tcfs.model.event import ChainHead, InlinePack, SegmentHeader
from tcfs.model.ids import (
    CONTROL,
    ChunkId,
    DeviceId,
    EpochId,
    NamespaceId,
    PackId,
    SegmentHash,
    StoreKey,
)

MAGIC: Final = b"TCFSSEG1"
SIGNATURE_SIZE: Final = 64
_LEVEL: Final = 1
"""Of zstd. Bodies are full of hashes: who looks harder for matches finds false ones there, and
needs more space (50,000 events of new files: 1.17 MB at level 3, 1.07 MB at level 1)."""

_DOMAIN = b"tcfs segment v1\0"
_PREFIX = len(MAGIC) + 4


class Signer(Protocol):
    """Whoever signs a chain: this device, or the root. ``repr`` shows no secret."""

    @property
    def device_id(self) -> DeviceId:
        """The chain that it signs."""
        ...

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message that names its own domain."""
        ...


class Place(Struct, frozen=True):
    """Where the next segment of a chain stands; see ``tcfs.ledger.chain.next_place``."""

    namespace: NamespaceId
    seq: int
    prev: str
    lamport: int
    seen: Mapping[DeviceId, ChainHead]
    control: Mapping[DeviceId, ChainHead]


@dataclass(frozen=True, slots=True)
class SegmentDraft:
    """What is to become a segment.

    Attributes:
        events: content events; empty in a control segment.
        control_events: JSON values of control events; empty elsewhere.
        addresses: where the events' chunks lie, as far as readers do not know it yet.
        packs: packs to commit although no address may lie in them.
        inline_pack: a whole pack of at most 256 KiB that travels inside.
        written_at: unix seconds, for people.
    """

    place: Place
    written_at: int
    events: Sequence[ToldEvent] = ()
    control_events: Sequence[Mapping[str, Any]] = ()
    addresses: Mapping[ChunkId, ChunkAddress] = field(default_factory=dict, repr=False)
    packs: Sequence[PackId] = field(default=(), repr=False)
    inline_pack: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A finished segment: these bytes under this key, whenever and however often it is sent."""

    key: StoreKey
    hash: SegmentHash
    header: SegmentHeader
    data: bytes = field(repr=False)

    @property
    def head(self) -> ChainHead:
        """The chain's head once this segment is in the store."""
        return ChainHead(self.header.seq, self.hash)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that verified by itself.

    Attributes:
        size: bytes of the object.
        addresses: where chunks lie that are new in it.
        packs: all that it commits, those of the addresses among them; not the inline one unless
            an address lies in it.
        inline_pack: the bytes of the pack that travels inside; its id is verified.
    """

    key: StoreKey
    hash: SegmentHash
    header: SegmentHeader
    size: int
    events: tuple[ToldEvent, ...] = field(repr=False)
    control_events: tuple[dict[str, Any], ...] = field(repr=False)
    addresses: list[tuple[ChunkId, ChunkAddress]] = field(repr=False)
    packs: tuple[PackId, ...] = field(repr=False)
    inline_pack: bytes | None = field(repr=False)

    @property
    def head(self) -> ChainHead:
        """This segment as the head of its chain."""
        return ChainHead(self.header.seq, self.hash)


def seal_segment(
    draft: SegmentDraft,
    *,
    repo: UUID,
    signer: Signer,
    salt: bytes,
    keyring: KeyRing | None = None,
    epoch: EpochId = NO_EPOCH,
    cipher: Cipher = Cipher.NONE,
) -> SealedSegment:
    """Make the segment. Equal arguments make equal bytes.

    Args:
        salt: 32 fresh random bytes; one salt must never seal two different drafts.
        keyring: holds ``epoch``; None if ``cipher`` is NONE.

    Raises:
        ValueError: the draft breaks a rule of the format: a mistake of the caller.
        LimitError: one event alone is larger than a segment may be.
    """
    place = draft.place
    control = place.namespace == CONTROL
    if control != bool(draft.control_events) or (
        control and (draft.events or draft.addresses or draft.packs)
    ):
        raise ValueError("content and control events do not share a segment")
    if (control and cipher is not Cipher.NONE) or (cipher is Cipher.NONE) != (keyring is None):
        raise ValueError("a control segment is not sealed, any other as its key ring says")
    try:
        _check_events(draft.events, signer.device_id)
    except IntegrityError as error:
        raise ValueError(error.message) from None
    plain = (
        encode_control_body(draft.control_events)
        if control
        else encode_body(draft.events, draft.addresses, draft.packs)
    )
    if len(plain) > MAX_SINGLE_BODY:
        raise LimitError("one change is larger than a segment of history may be")
    if len(plain) > MAX_BODY and len(draft.events) + len(draft.control_events) > 1:
        raise ValueError("the events of a segment are more than 8 MiB: split them")
    inline = draft.inline_pack
    if inline is not None and not 0 < len(inline) <= MAX_INLINE_PACK:
        raise ValueError("a pack inside a segment has 1 byte to 256 KiB")

    codec, payload = compress(plain, _LEVEL)
    binding = Binding(SEGMENT_KIND, repo, place.namespace, epoch, cipher)
    sealer = Sealer(binding, keyring.epoch_key(epoch) if keyring else b"", salt)
    body = bytes((codec,)) + sealer.seal(0, _aad(signer.device_id, place.seq, codec), payload)
    header = SegmentHeader(
        repo=str(repo),
        namespace=place.namespace,
        device=signer.device_id,
        seq=place.seq,
        prev=place.prev,
        lamport=place.lamport,
        epoch=epoch,
        salt=salt,
        cipher=cipher,
        seen=place.seen,
        control=place.control,
        first=as_told(draft.events[0]).counter if draft.events else 0,
        last=as_told(draft.events[-1]).counter if draft.events else 0,
        body_size=len(body),
        body_hash=blake3(body).hexdigest(),
        pack=None if inline is None else InlinePack(_pack_id(inline), len(inline)),
        written_at=draft.written_at,
    )
    raw = encode_header(header)
    data = b"".join(
        (MAGIC, len(raw).to_bytes(4, "big"), raw, signer.sign(_DOMAIN + raw), body, inline or b"")
    )
    if len(data) > MAX_SEGMENT:
        raise LimitError("a segment of history would be larger than 48 MiB")
    digest = SegmentHash(blake3(data).hexdigest())
    key = key_of(place.namespace, signer.device_id, place.seq, digest)
    return SealedSegment(key, digest, header, data)


def open_segment(
    key: StoreKey,
    data: bytes,
    *,
    repo: UUID,
    sign_key: bytes,
    encryption: bool,
    keyring: KeyRing | Callable[[], KeyRing] | None,
) -> Segment:
    """Verify a segment against its key and read it.

    The namespace, device and seq that the caller expects are those of ``key``. Nothing of a
    stranger is parsed before the signature holds.

    Args:
        sign_key: the 32-byte public key of the key's device.
        encryption: whether the repository seals its namespaces.
        keyring: the namespace's keys, or what opens them once they are needed; None for control
            segments, or without encryption.

    Raises:
        IntegrityError: damaged, forged, moved, or against the format; names the key.
        AccessError: the key of its epoch was not given to this device.
    """
    ref = parse_key(key)
    try:
        return _open(ref, memoryview(data), repo, sign_key, encryption, keyring)
    except IntegrityError as error:
        raise IntegrityError(
            f"{key}: {error.message}", details={"key": key, "reason": error.message}
        ) from None


def _open(
    ref: SegmentRef,
    data: memoryview,
    repo: UUID,
    sign_key: bytes,
    encryption: bool,
    keyring: KeyRing | Callable[[], KeyRing] | None,
) -> Segment:
    if len(data) > MAX_SEGMENT:
        raise IntegrityError("it is larger than any segment may be")
    if blake3(data).hexdigest() != ref.hash:
        raise IntegrityError("its bytes are not those its key names")
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise IntegrityError("it is no segment")
    at = _PREFIX + int.from_bytes(data[len(MAGIC) : _PREFIX], "big")
    raw, signature = data[_PREFIX:at], data[at : at + SIGNATURE_SIZE]
    at += SIGNATURE_SIZE
    if len(data) < at:
        raise IntegrityError("it ends early")
    _verify(sign_key, bytes(signature), _DOMAIN + raw)
    header = parse_header(raw)
    _check_agreement(ref, header, repo, encryption)

    body, inline = data[at : at + header.body_size], data[at + header.body_size :]
    if len(body) != header.body_size or blake3(body).hexdigest() != header.body_hash:
        raise IntegrityError("its body is not the one its header names")
    promised = header.pack.size if header.pack else 0
    if len(inline) != promised or (header.pack and _pack_id(inline) != header.pack.id):
        raise IntegrityError("its inline pack is not the one its header names")

    epoch_key = b""
    if header.cipher != Cipher.NONE:
        ring = keyring() if callable(keyring) else keyring
        if ring is None:
            raise IntegrityError("it is sealed and no keys are for it")
        epoch_key = ring.epoch_key(header.epoch)
    binding = Binding(SEGMENT_KIND, repo, ref.namespace, header.epoch, Cipher(header.cipher))
    codec = body[0]
    payload = Sealer(binding, epoch_key, header.salt).open(
        0, _aad(ref.device, ref.seq, codec), body[1:]
    )
    plain = decompress(codec, payload, limit=MAX_SINGLE_BODY)
    control: tuple[dict[str, Any], ...] = ()
    events: tuple[ToldEvent, ...] = ()
    addresses: list[tuple[ChunkId, ChunkAddress]] = []
    packs: tuple[PackId, ...] = ()
    if ref.namespace == CONTROL:
        control = decode_control_body(plain)
    else:
        events, addresses, packs = decode_body(plain)
    if len(plain) > MAX_BODY and len(events) + len(control) > 1:
        raise IntegrityError("its body is larger than that of many events may be")
    _check_counters(header, events)
    return Segment(
        key=ref.key,
        hash=ref.hash,
        header=header,
        size=len(data),
        events=events,
        control_events=control,
        addresses=addresses,
        packs=packs,
        inline_pack=bytes(inline) if header.pack else None,
    )


def _verify(sign_key: bytes, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(sign_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise IntegrityError("its signature is not its device's") from None


def _check_agreement(ref: SegmentRef, header: SegmentHeader, repo: UUID, encryption: bool) -> None:
    if header.repo != str(repo):
        raise IntegrityError("it is of another repository")
    if (header.namespace, header.device, header.seq) != ref[:3]:
        raise IntegrityError("it was signed for another place in history")
    if (header.cipher != Cipher.NONE) != (encryption and ref.namespace != CONTROL):
        raise IntegrityError("it is not sealed as this repository seals")
    if header.device in header.seen:
        raise IntegrityError("its 'seen' names its own chain")
    if ref.namespace == CONTROL and header.pack is not None:
        raise IntegrityError("a control segment has an inline pack")


def _check_counters(header: SegmentHeader, events: Sequence[ToldEvent]) -> None:
    _check_events(events, header.device)
    ends = (as_told(events[0]).counter, as_told(events[-1]).counter) if events else (0, 0)
    if (header.first, header.last) != ends:
        raise IntegrityError("its counters are not those of its events")


def _check_events(events: Sequence[ToldEvent], device: DeviceId) -> None:
    previous = 0
    for event in map(as_told, events):
        counter, manifest = event.counter, event.manifest
        if counter <= previous:
            raise IntegrityError("its events' counters do not rise")
        previous = counter
        clock = manifest.vclock.clocks
        if clock.get(device) != counter:
            raise IntegrityError("an event's clock does not name its own version")
        for parent, count in manifest.parents:
            if count > clock.get(parent, 0) or (parent == device and count >= counter):
                raise IntegrityError("an event's parent is not before it")


def _aad(device: DeviceId, seq: int, codec: int) -> bytes:
    return b"".join((device.encode(), b"\0", seq.to_bytes(8, "big"), bytes((codec,))))


def _pack_id(data: bytes | memoryview) -> PackId:
    return PackId(blake3(data).hexdigest())
