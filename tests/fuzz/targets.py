"""Every parser of bytes that strangers write, as a function that may raise TcfsError alone.

``TARGETS`` has for each a few inputs that are right, from which others are made by small changes.
Where a signature or hash guards a format, the target is what stands behind the guard: whoever can
sign is a stranger too. ``script/fuzz`` runs them for hours, guided by coverage.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import orjson
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from tcfs.config.load import load_config
from tcfs.content.address import ChunkAddress
from tcfs.content.frame import compress, decompress
from tcfs.content.pack import PackHeader, decode_trailer, trailer_length
from tcfs.content.seal import Cipher
from tcfs.content.unpack import PackReader
from tcfs.device.format import parse_format
from tcfs.device.invite import PREFIX, parse_code
from tcfs.device.registry import registry_json
from tcfs.device.tokens import open_tokens
from tcfs.errors import IntegrityError, TcfsError
from tcfs.ledger.body import decode_body, decode_control_body, encode_body, encode_control_body
from tcfs.ledger.claim import parse_claim
from tcfs.ledger.header import parse_header
from tcfs.ledger.keys import parse_key
from tcfs.ledger.reading import read_event
from tcfs.ledger.segment import open_segment
from tcfs.ledger.snapshot import (
    PackRecord,
    ProgressRecord,
    SegmentRecord,
    SnapshotHead,
    SnapshotScope,
    VersionRecord,
    decode_head,
    decode_part,
    encode_head,
    encode_parts,
    open_object,
)
from tcfs.model.abridged import AbridgedEvent, read_told
from tcfs.model.access import ControlEntry, ControlState
from tcfs.model.clock import VectorClock
from tcfs.model.event import ChainHead, ContentEvent, Version
from tcfs.model.ids import (
    ChunkId,
    DeviceId,
    NamespaceId,
    PackId,
    RelPath,
    SegmentHash,
    StoreKey,
    VersionId,
)
from tcfs.model.manifest import SyncManifest, is_manifest_v1, parse_manifest_v1
from tcfs.model.membership import fold_control
from tcfs.model.paths import parse_remote, path_problem, show, unshow
from tcfs.secrets.oidc import Verifier, groups_of
from tcfs.secrets.redirect import _parameters as redirected
from tcfs.sync.git import report
from tcfs.sync.git.bundle import pack_offset
from tcfs.sync.git.names import is_register, is_value, oids_of, split
from tcfs.sync.git.registers import bundle_info
from tcfs.sync.ignore import exclusion
from tcfs.sync.signin import kept_of
from tcfs_mcp.oidc import actor_of
from tests.content.support import NO_KEYS, PLAIN, small_pack

REPO = UUID("11111111-2222-4333-8444-555555555555")
DEVICE = DeviceId("99999999-8888-4777-8666-555555555555")
HASH = "ab" * 32
RECIPIENT = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        run: parses; raises TcfsError if it must.
        seeds: inputs that it takes.
        json: whether a seed is a JSON object whose values are worth changing.
    """

    run: Callable[[bytes], object]
    seeds: Sequence[bytes] = ()
    json: bool = False


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def manifest() -> SyncManifest:
    version = VersionId(DEVICE, 3)
    return SyncManifest(
        rel_path=RelPath(b"docs/a.txt"),
        kind="file",
        vclock=VectorClock({DEVICE: 3}).with_version(version),
        parents=(VersionId(DEVICE, 2),),
        written_by="yoga",
        written_at=1_700_000_000,
        file_hash=blake3(b"x").digest(),
        file_size=1,
        chunks=(ChunkId(blake3(b"x").digest()),),
        mode=0o644,
        mtime_ns=5,
        actor="cli",
    )


EVENT = ContentEvent("write", 3, manifest(), RelPath(b"old.txt"))
TOLD = (EVENT, AbridgedEvent(EVENT, 2, 1, 1))
HEADER = {
    "format": 1,
    "repo": str(REPO),
    "namespace": "default",
    "device": DEVICE,
    "seq": 2,
    "prev": HASH,
    "lamport": 7,
    "epoch": "",
    "salt": HASH,
    "cipher": 0,
    "seen": {DEVICE: [1, HASH]},
    "control": {"root": [1, HASH]},
    "first": 3,
    "last": 3,
    "body_size": 10,
    "body_hash": HASH,
    "pack": {"id": HASH, "size": 300},
    "written_at": 1_700_000_000,
}
ADMIT = {
    "device_id": DEVICE,
    "name": "yoga",
    "sign_key": HASH,
    "recipient": RECIPIENT,
    "role": "admin",
    "enrolled_at": 5,
    "description": "",
}
HEADS = {DEVICE: [1, HASH]}
CONTROL_EVENTS: Sequence[dict[str, Any]] = (
    {"op": "admit", "device": ADMIT},
    {
        "op": "invite",
        "invite_id": str(REPO),
        "public_key": HASH,
        "role": "writer",
        "expires_at": 5,
        "epochs": {"default": "ab" * 16},
    },
    {
        "op": "epoch",
        "namespace": "default",
        "epoch": "ab" * 16,
        "commitment": HASH,
        "members": [DEVICE],
    },
    {"op": "revoke", "device_id": DEVICE, "cut": {"default": [1, HASH]}, "expired": True},
    {"op": "policy", "namespace": "default", "strategy": "merge"},
    {"op": "mark", "namespace": "default", "packs": [HASH], "marked_at": 5},
    {"op": "ack", "control": HEADS, "heads": {"default": HEADS}},
    {"op": "retention", "namespace": "default", "keep_days": 9, "keep_versions": None},
    {"op": "hold", "namespace": "default", "tag": "v1", "heads": HEADS},
    {"op": "release", "namespace": "default", "tag": "v1"},
    {"op": "dismiss", "namespace": "default", "versions": [[DEVICE, 3]]},
    {"op": "snapshot", "namespace": "default", "id": HASH, "heads": HEADS, "taken_at": 5},
    {"op": "compact", "namespace": "default", "id": HASH},
)
CLAIM = {
    "format": 1,
    "repo": str(REPO),
    "invite_id": str(REPO),
    "device": {k: v for k, v in ADMIT.items() if k != "role"},
    "claimed_at": 5,
    "invite_signature": HASH * 2,
    "device_signature": HASH * 2,
}
FORMAT = {
    "format": 1,
    "repo": str(REPO),
    "encryption": True,
    "chunker": {"algorithm": "fastcdc", "single_max": 131072},
    "root_public_key": HASH,
    "recovery_recipient": RECIPIENT,
    "created_by": "tcfs",
}
INVITE = {"v": 1, "i": str(REPO), "s": HASH, "f": HASH, "e": "file:///srv", "x": 5}
TOML = b'[storage]\nendpoint = "file:///srv/tcfs"\n[sync]\nsync_root = "~/shared"\njobs = 3\n'


def segment(data: bytes) -> object:
    """A whole segment under the key of its own hash: the guard itself."""
    key = StoreKey(f"ledger/default/{DEVICE}/0000000001-{blake3(data).hexdigest()}")
    return open_segment(key, data, repo=REPO, sign_key=bytes(32), encryption=False, keyring=None)


def pack(data: bytes) -> object:
    """A whole pack of a repository that seals nothing."""
    reader = PackReader(PackId(HASH), data, PLAIN, NO_KEYS)
    reader.read_trailer(data)
    return list(reader.frame_problems(data))


def pack_ends(data: bytes) -> object:
    PackHeader.parse(data, PackId(HASH), PLAIN)
    return trailer_length(data[-12:], PackId(HASH))


def frame(data: bytes) -> object:
    return decompress(data[0] if data else 9, data[1:], limit=1 << 20)


def manifest_v2(data: bytes) -> object:
    return SyncManifest.from_json(_json(data))


def event(data: bytes) -> object:
    """Both readers of an event agree."""
    try:
        slow: object = read_told(_json(data))
    except TcfsError:
        slow = None
    try:
        fast: object = read_event(data)
    except TcfsError:
        fast = None
    assert fast == slow, (fast, slow)
    return fast


def manifest_v1(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    return is_manifest_v1(text), parse_manifest_v1(text)


def control_event(data: bytes) -> ControlState:
    """An event of an admin, after what made it one, and a fold that never fails."""
    found = _json(data)
    if not isinstance(found, dict):
        found = {"op": found}
    events = [*CONTROL_EVENTS[:3], found]
    root = DeviceId("root")
    entries = [ControlEntry(1, root, 1, i, e) for i, e in enumerate(events[:3])]
    entries += [ControlEntry(2, DEVICE, 1, 0, found), ControlEntry(3, root, 2, 0, found)]
    return fold_control(entries, [])


def claim(data: bytes) -> object:
    return parse_claim(StoreKey(f"claims/{REPO}"), data, REPO, bytes(32))


def devices_json(data: bytes) -> object:
    return registry_json(ControlState(), data)


def invite(data: bytes) -> object:
    """An invite code's content, its checksum made right."""
    coded = base64.urlsafe_b64encode(data + blake3(data).digest()[:4]).rstrip(b"=")
    return parse_code(PREFIX + coded.decode())


def invite_text(data: bytes) -> object:
    return parse_code(data.decode("utf-8", "replace"))


def sign_in_file(data: bytes) -> object:
    return kept_of(open_tokens(data, None))


def redirect(data: bytes) -> object:
    """What a browser is sent back with."""
    return redirected(data.decode("latin-1"))


def token(data: bytes) -> object:
    """A bearer token that a stranger shows."""
    return _VERIFIER.check(data.decode("ascii", "replace"))


def token_claims(data: bytes) -> object:
    """The claims of a token that the provider signed."""
    signed = jwt.PyJWS().encode(data, _SIGNER, "EdDSA", {"kid": "k"})
    claims = _VERIFIER.check(signed)
    return groups_of(claims), actor_of(claims)


def toml(data: bytes) -> object:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        return load_config(config_file=Path(file.name), environ={"HOME": "/home/me"})


def remote_path(data: bytes) -> object:
    """What users and tools write; what is shown can be given back."""
    assert unshow(show(data)) == data
    path_problem(data)
    return parse_remote(data, remote_name="tcfs")


def shown_path(data: bytes) -> object:
    return unshow(data.decode("utf-8", "surrogateescape"))


def segment_key(data: bytes) -> object:
    return parse_key(data.decode("utf-8", "replace"))


def bundle_header(data: bytes) -> object:
    """The start of a git bundle of another device's."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return pack_offset(os.fsencode(file.name))


def bundle_facts(data: bytes) -> object:
    """What an event says of the bundle it carries."""
    extra = _json(data)
    told = replace(manifest(), extra={"git": extra})
    return bundle_info(Version(VersionId(DEVICE, 3), 1, 1, "write", told))


def git_report(data: bytes) -> object:
    return report.parse(data)


def git_register(data: bytes) -> object:
    """A name and a value that another device gave a register."""
    name, _, value = data.partition(b"\n")
    split(RelPath(name))
    if is_register(name) and is_value(name, value):
        return oids_of(name, value)
    return None


def ignore_file(data: bytes) -> object:
    """The lines of a ``.tcfsignore``, which are synced like any file."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    return exclusion(lines, hidden_dirs=True, git_dirs=False)


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise IntegrityError("not JSON") from None


def snapshot_head(data: bytes) -> object:
    return decode_head(data)


def snapshot_part(data: bytes) -> object:
    return list(decode_part(data))


def snapshot_record(data: bytes) -> object:
    return list(decode_part(data + b"\n"))


def snapshot_object(data: bytes) -> object:
    """An object under its own hash, of a repository that seals nothing."""
    scope = SnapshotScope(REPO, NamespaceId("default"), False, None)
    return open_object("part", blake3(data).hexdigest(), data, scope)


_SNAPSHOT = SnapshotHead({DEVICE: ChainHead(1, SegmentHash(HASH))}, (HASH,), 1, 1, 1)
_CHUNK = (ChunkId(bytes(32)), ChunkAddress(PackId(HASH), 100, 50, 0, 10))
_HEADS = {DEVICE: ChainHead(1, SegmentHash(HASH))}
_RECORDS = (
    SegmentRecord(DEVICE, 1, SegmentHash(HASH), 3, 3, 5, True),
    ProgressRecord(DEVICE, _HEADS, _HEADS),
    PackRecord(PackId(HASH), StoreKey(f"packs/ab/{HASH}"), 0, (_CHUNK,)),
    VersionRecord(DEVICE, 1, 3, EVENT),
)
_PARTS = [next(encode_parts([record])) for record in _RECORDS]
_PACK = bytes(small_pack(cipher=Cipher.NONE).data)
_SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
_VERIFIER = Verifier("https://gitlab.example", "tcfs-app")
_VERIFIER._keys = {
    "k": jwt.PyJWK.from_dict(
        {"kty": "OKP", "crv": "Ed25519", "x": _base64(_SIGNER.public_key().public_bytes_raw())}
    )
}
_VERIFIER._fetched = _VERIFIER._tried = float("inf")
CLAIMS = {
    "iss": "https://gitlab.example",
    "aud": "tcfs-app",
    "sub": "42",
    "exp": 4_000_000_000,
    "preferred_username": "anna",
    "groups_direct": ["org/team"],
}
SIGN_IN = {
    "format": 1,
    "issuer": "https://gitlab.example",
    "client_id": "tcfs-app",
    "resource": "",
    "signed_in_at": 1,
    "access": "a",
    "refresh": "r",
    "id_token": jwt.encode(CLAIMS, _SIGNER, "EdDSA", {"kid": "k"}),
    "expires_at": 5,
    "scope": "openid",
}

TARGETS: Mapping[str, Target] = {
    "segment": Target(segment, [b"TCFSSEG1" + (4).to_bytes(4, "big") + b"{}  " + bytes(70)]),
    "segment header": Target(parse_header, [orjson.dumps(HEADER)], json=True),
    "segment body": Target(decode_body, [encode_body([event], {}) for event in TOLD]),
    "control body": Target(decode_control_body, [encode_control_body(CONTROL_EVENTS)]),
    "segment key": Target(segment_key, [f"ledger/default/{DEVICE}/0000000001-{HASH}".encode()]),
    "event": Target(
        event,
        [orjson.dumps(e.to_json()) for e in TOLD],
        json=True,
    ),
    "manifest v2": Target(manifest_v2, [orjson.dumps(manifest().to_json())], json=True),
    "manifest v1": Target(manifest_v1, [f"{HASH}\n{HASH}\n".encode()]),
    "pack": Target(pack, [_PACK]),
    "pack ends": Target(pack_ends, [_PACK]),
    "pack trailer": Target(decode_trailer, [_PACK[-12 - 4 - 16 - 108 : -12]]),
    "frame": Target(frame, [bytes((c, *p)) for c, p in (compress(b"a" * 5000), compress(b"b"))]),
    "control event": Target(control_event, [orjson.dumps(e) for e in CONTROL_EVENTS], json=True),
    "snapshot": Target(
        snapshot_object, [b"TCFSSNAP" + bytes((1, 0)) + bytes(48) + b"\0" + _PARTS[0]]
    ),
    "snapshot head": Target(snapshot_head, [encode_head(_SNAPSHOT)], json=True),
    "snapshot record": Target(snapshot_record, [p.rstrip() for p in _PARTS], json=True),
    "snapshot part": Target(snapshot_part, [b"".join(_PARTS)]),
    "claim": Target(claim, [orjson.dumps(CLAIM)], json=True),
    "format.json": Target(parse_format, [orjson.dumps(FORMAT)], json=True),
    "devices.json": Target(
        devices_json,
        [orjson.dumps({"devices": [{"device_id": DEVICE, "last_nats_seq": 3}]})],
        json=True,
    ),
    "invite": Target(invite, [orjson.dumps(INVITE)], json=True),
    "invite text": Target(invite_text, [b"tcfs-invite-abcd"]),
    "sign-in file": Target(sign_in_file, [orjson.dumps(SIGN_IN)], json=True),
    "redirect": Target(redirect, [b"/callback?code=x&state=y&iss=https%3A%2F%2Fa", b"//[x"]),
    "bearer token": Target(token, [str(SIGN_IN["id_token"]).encode()]),
    "claims of a token": Target(token_claims, [orjson.dumps(CLAIMS)], json=True),
    "TOML": Target(toml, [TOML]),
    "remote path": Target(remote_path, [b"tcfs/default/docs/a.txt", b"a/../b", b"\xff\n\x1b"]),
    "shown path": Target(shown_path, [b"a\\x41\\\\b", b"\\u202e"]),
    "git bundle header": Target(
        bundle_header, [b"# v2 git bundle\n-" + b"a" * 40 + b"\n" + b"b" * 40 + b" refs/x\n\nPACK"]
    ),
    "git bundle facts": Target(
        bundle_facts, [orjson.dumps({"tips": ["a" * 40], "needs": ["b" * 64]})], json=True
    ),
    "git report": Target(
        git_report,
        [orjson.dumps({"head": "x", "branches": {"a": "b" * 40}, "paths": ["p"]})],
        json=True,
    ),
    "git register": Target(
        git_register,
        [b"HEAD\nref: refs/heads/main", b"refs/heads/a\n" + b"a" * 40, b"p/.git/tcfs/index\nx"],
    ),
    "ignore file": Target(ignore_file, [b"*.o\n!keep.o\n/build/\n# comment\n[a-z]?\n**/x\n"]),
}
