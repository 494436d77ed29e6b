"""The signed header of a segment, as text. Fields are those of FORMAT.md, section History."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from tcfs.content.seal import NO_EPOCH, SALT_SIZE, Cipher
from tcfs.errors import IntegrityError
from tcfs.ledger.keys import MAX_SEQ, is_device
from tcfs.ledger.strict import hex_bytes, integer, parse_object, text
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.event import ChainHead, InlinePack, SegmentHeader
from tcfs.model.ids import CONTROL, DeviceId, EpochId, NamespaceId, PackId, SegmentHash

MAX_SEGMENT: Final = 48 << 20
"""Bytes of the largest segment object."""
MAX_INLINE_PACK: Final = 256 << 10
"""Bytes of the largest pack that travels inside a segment."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"[0-9a-f]{32}")


def encode_header(header: SegmentHeader) -> bytes:
    """The header's bytes; equal headers make equal bytes."""
    data: dict[str, Any] = {
        "format": 1,
        "repo": header.repo,
        "namespace": header.namespace,
        "device": header.device,
        "seq": header.seq,
        "prev": header.prev,
        "lamport": header.lamport,
        "epoch": header.epoch,
        "salt": header.salt.hex(),
        "cipher": int(header.cipher),
        "seen": _heads_to_json(header.seen.items()),
        "control": _heads_to_json(header.control.items()),
        "first": header.first,
        "last": header.last,
        "body_size": header.body_size,
        "body_hash": header.body_hash,
        "pack": None if header.pack is None else {"id": header.pack.id, "size": header.pack.size},
        "written_at": header.written_at,
    }
    if header.namespace == CONTROL:
        del data["control"]
    return orjson.dumps(data)


def parse_header(data: bytes | memoryview) -> SegmentHeader:
    """Read and check a header by itself; whether it fits its key and chain is for the caller.

    Raises:
        IntegrityError: a field is missing, of the wrong type, or out of its bounds.
    """
    found = parse_object(data, "its header")
    if found.get("format") != 1 or type(found["format"]) is not int:
        raise IntegrityError("its header is of a format this version does not know")
    namespace = NamespaceId(text(found.get("namespace"), "its namespace", 63))
    control = namespace == CONTROL
    if control and found.get("control") is not None:
        raise IntegrityError("a control segment's header has a field 'control'")
    epoch = found.get("epoch")
    cipher = _cipher(found.get("cipher"))
    if not isinstance(epoch, str) or not (
        _EPOCH.fullmatch(epoch) if cipher is not Cipher.NONE else epoch == NO_EPOCH
    ):
        raise IntegrityError("its epoch does not fit its cipher")
    seq = integer(found.get("seq"), 1, MAX_SEQ, "its seq")
    prev = found.get("prev")
    if not isinstance(prev, str) or not (_DIGEST.fullmatch(prev) if seq > 1 else prev == ""):
        raise IntegrityError("its prev is not a hash")
    first = integer(found.get("first"), 0, MAX_COUNTER, "its first counter")
    return SegmentHeader(
        repo=text(found.get("repo"), "its repo", 36),
        namespace=namespace,
        device=DeviceId(text(found.get("device"), "its device", 36)),
        seq=seq,
        prev=prev,
        lamport=integer(found.get("lamport"), 1, MAX_COUNTER, "its Lamport time"),
        epoch=EpochId(epoch),
        salt=hex_bytes(found.get("salt"), SALT_SIZE, "its salt"),
        cipher=cipher,
        seen=_heads(found.get("seen"), "seen"),
        control={} if control else _heads(found.get("control"), "control"),
        first=first,
        last=integer(found.get("last"), first, MAX_COUNTER, "its last counter"),
        body_size=integer(found.get("body_size"), 1, MAX_SEGMENT, "its body's size"),
        body_hash=_digest(found.get("body_hash"), "its body's hash"),
        pack=_pack(found.get("pack")),
        written_at=integer(found.get("written_at"), 0, MAX_COUNTER, "its time"),
    )


def _heads_to_json(heads: Any) -> dict[str, Any]:
    return {device: list(head) for device, head in sorted(heads)}


def _heads(value: object, name: str) -> dict[DeviceId, ChainHead]:
    if not isinstance(value, dict):
        raise IntegrityError(f"its {name!r} is not an object")
    heads: dict[DeviceId, ChainHead] = {}
    for device, head in value.items():
        if not is_device(device) or not isinstance(head, list) or len(head) != 2:
            raise IntegrityError(f"its {name!r} names something that is no chain's head")
        heads[DeviceId(device)] = ChainHead(
            integer(head[0], 1, MAX_SEQ, f"a seq in its {name!r}"),
            SegmentHash(_digest(head[1], f"a hash in its {name!r}")),
        )
    return heads


def _digest(value: object, what: str) -> str:
    return hex_bytes(value, 32, what).hex()


def _cipher(value: object) -> Cipher:
    if type(value) is int:
        try:
            return Cipher(value)
        except ValueError:
            pass
    raise IntegrityError("its cipher is unknown")


def _pack(value: object) -> InlinePack | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise IntegrityError("its inline pack is not an object")
    return InlinePack(
        PackId(_digest(value.get("id"), "its inline pack's id")),
        integer(value.get("size"), 1, MAX_INLINE_PACK, "its inline pack's size"),
    )
