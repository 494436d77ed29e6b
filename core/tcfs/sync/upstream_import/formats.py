"""Index entries, manifests and encrypted chunks of the Rust tcfs.

- ``index/{rel_path}``: lines ``name=value``, of which ``manifest_hash`` is needed.
- ``manifests/{BLAKE3 of the whole content}``: version 2 is JSON; version 1 just the chunks' hashes,
  one a line.
- ``chunks/{BLAKE3}``: raw bytes, or sealed: nonce (24), ciphertext, tag (16), XChaCha20-Poly1305
  (draft-irtf-cfrg-xchacha-03), the additional data being the chunk's number (8 bytes, big-endian)
  and the file's hash. The file's key is wrapped in the same way by the master key, without
  additional data.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from tcfs.errors import IntegrityError
from tcfs.model.manifest import is_manifest_v1, parse_manifest_v1

KEY_SIZE: Final = 32
_NONCE: Final = 24
_TAG: Final = 16
_WRAPPED: Final = _NONCE + KEY_SIZE + _TAG
_MAX_MANIFEST: Final = 256 << 20
_SIGMA: Final = struct.unpack("<4I", b"expand 32-byte k")


@dataclass(frozen=True, slots=True)
class UpstreamManifest:
    """What one upstream manifest says of a file.

    Attributes:
        chunks: the chunks' hashes, hex, in order.
        size: bytes; -1 where a version 1 manifest does not say.
        clocks: its vector clock: how often each device had written it.
        rel_path: "" where it does not say.
        written_at: unix seconds; 0 where it does not say.
        wrapped_key: the file's key, sealed with the master key; empty for a plain file.
    """

    version: int
    chunks: tuple[str, ...]
    size: int = -1
    clocks: dict[str, int] = field(default_factory=dict)
    rel_path: str = ""
    written_by: str = ""
    written_at: int = 0
    wrapped_key: bytes = b""


def parse_index_entry(data: bytes, name: str) -> str:
    """The manifest's hash, hex. Raises IntegrityError."""
    for line in data.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == "manifest_hash":
            return checked_hash(value.strip(), name)
    raise IntegrityError(f"{name} names no manifest")


def parse_manifest(data: bytes, name: str) -> UpstreamManifest:
    """Read a manifest of either version. Raises IntegrityError: corrupt JSON is not version 1."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise IntegrityError(f"{name} is no manifest") from None
    if len(data) > _MAX_MANIFEST:
        raise IntegrityError(f"{name} is too large for a manifest")
    if is_manifest_v1(text):
        return UpstreamManifest(1, tuple(chunk.hex() for chunk in parse_manifest_v1(text)))
    try:
        return _version_2(json.loads(text), name)
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise IntegrityError(f"{name} is a damaged manifest") from None


def _version_2(found: dict[str, Any], name: str) -> UpstreamManifest:
    clocks = (found.get("vclock") or {}).get("clocks") or {}
    wrapped = base64.b64decode(found.get("encrypted_file_key") or "", validate=True)
    size = found["file_size"]
    if (
        found["version"] != 2
        or type(size) is not int
        or size < 0
        or len(wrapped) not in (0, _WRAPPED)
        or not all(type(n) is int and n >= 0 for n in clocks.values())
    ):
        raise IntegrityError(f"{name} is not a version 2 manifest")
    return UpstreamManifest(
        version=2,
        chunks=tuple(checked_hash(chunk, name) for chunk in found["chunks"]),
        size=size,
        clocks={str(device): count for device, count in clocks.items()},
        rel_path=str(found.get("rel_path") or ""),
        written_by=str(found.get("written_by") or ""),
        written_at=max(0, int(found.get("written_at") or 0)),
        wrapped_key=wrapped,
    )


def checked_hash(text: object, name: str) -> str:
    """A BLAKE3 hash in hex. Raises IntegrityError."""
    if isinstance(text, str) and len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        return text
    raise IntegrityError(f"{name} holds a hash that is none")


def unwrap_key(wrapped: bytes, master: bytes, name: str) -> bytes:
    """The key of a file. Raises IntegrityError: not sealed with this master key."""
    return _open(master, wrapped, b"", f"the key of {name}")


def open_chunk(key: bytes, sealed: bytes, number: int, file_hash: bytes, name: str) -> bytes:
    """The bytes of a sealed chunk. Raises IntegrityError: another key, place, file, or damage."""
    return _open(key, sealed, struct.pack(">Q", number) + file_hash, name)


def seal(key: bytes, nonce: bytes, data: bytes, extra: bytes) -> bytes:
    """What upstream stores for ``data``; for tests, and to read is all that is asked of us."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return nonce + cipher.encrypt(bytes(4) + nonce[16:], data, extra)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The key that XChaCha20 derives from a key of 32 bytes and a nonce of 16.

    It is the ChaCha20 block without its final addition, half of its words (draft-irtf-cfrg-xchacha,
    2.2): so the block, with what was added taken away again.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    # This library's ChaCha20 takes counter and nonce in one: the last four words of the state.
    block = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    words = struct.unpack("<16I", block)
    first = [(word - added) % 2**32 for word, added in zip(words[:4], _SIGMA, strict=True)]
    added = struct.unpack("<4I", nonce)
    last = [(word - more) % 2**32 for word, more in zip(words[12:], added, strict=True)]
    return struct.pack("<8I", *first, *last)


def _open(key: bytes, sealed: bytes, extra: bytes, name: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    if len(sealed) < _NONCE + _TAG:
        raise IntegrityError(f"{name} is too short to be sealed")
    cipher = ChaCha20Poly1305(hchacha20(key, sealed[:16]))
    try:
        return cipher.decrypt(bytes(4) + sealed[16:_NONCE], sealed[_NONCE:], extra)
    except InvalidTag:
        raise IntegrityError(
            f"{name} does not open: it is damaged, or sealed with another master key"
        ) from None
