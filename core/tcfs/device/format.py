"""What a repository is: ``format.json``, strictly read. Format: FORMAT.md, section Objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from blake3 import blake3
from pyrage import RecipientError, x25519

from tcfs.errors import IntegrityError, RepositoryError
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object, text
from tcfs.model.ids import StoreKey, is_uuid
from tcfs.store.base import BlobStore, ObjectMissing

FORMAT_KEY: Final = StoreKey("format.json")
FORMAT_VERSION: Final = 1
DEFAULT_SINGLE_MAX: Final = 131072

_MAX_FORMAT = 64 << 10


@dataclass(frozen=True, slots=True)
class RepositoryFormat:
    """The one object that every other hangs on.

    Attributes:
        single_max: bytes up to which a file is one chunk.
        root_public_key: Ed25519 key that signs the root chain, 32 bytes.
        recovery_recipient: age recipient derived from the recovery phrase.
        raw: the object's bytes as they are in the store.
    """

    repo: UUID
    encryption: bool
    single_max: int
    root_public_key: bytes
    recovery_recipient: str
    created_by: str
    raw: bytes = field(repr=False, compare=False)

    @property
    def hash(self) -> str:
        """The format hash: what a device records when it joins, and an invite carries."""
        return blake3(self.raw).hexdigest()


def make_format(
    repo: UUID,
    *,
    encryption: bool,
    root_public_key: bytes,
    recovery_recipient: str,
    created_by: str,
) -> RepositoryFormat:
    """A new repository's format. Equal arguments make equal bytes."""
    data: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "repo": str(repo),
        "encryption": encryption,
        "chunker": {"algorithm": "fastcdc", "single_max": DEFAULT_SINGLE_MAX},
        "root_public_key": root_public_key.hex(),
        "recovery_recipient": recovery_recipient,
        "created_by": created_by,
    }
    return parse_format(canonical(data))


def parse_format(data: bytes) -> RepositoryFormat:
    """Read ``format.json``.

    Raises:
        RepositoryError: of a format this version does not know, or damaged.
    """
    try:
        return _parse(data)
    except IntegrityError as error:
        raise RepositoryError(
            f"{FORMAT_KEY} cannot be used: {error.message}",
            remedy="Nothing was changed. If the object was damaged, restore it from a backup.",
        ) from None


def _parse(data: bytes) -> RepositoryFormat:
    if len(data) > _MAX_FORMAT:
        raise IntegrityError("it is too large")
    found = parse_object(data, "it")
    version = integer(found.get("format"), 1, 1 << 31, "its format")
    if version != FORMAT_VERSION:
        raise RepositoryError(
            f"the repository is of format {version}, and this tcfs knows {FORMAT_VERSION}",
            remedy="Install a newer tcfs.",
        )
    repo, encryption, chunker = (found.get(name) for name in ("repo", "encryption", "chunker"))
    if not isinstance(repo, str) or not is_uuid(repo):
        raise IntegrityError("its repo is no uuid")
    if not isinstance(encryption, bool):
        raise IntegrityError("its encryption is not true or false")
    if not isinstance(chunker, dict) or chunker.get("algorithm") != "fastcdc":
        raise IntegrityError("its chunker is unknown")
    recipient = text(found.get("recovery_recipient"), "its recovery recipient")
    try:
        x25519.Recipient.from_str(recipient)
    except RecipientError:
        raise IntegrityError("its recovery recipient is not one of age") from None
    return RepositoryFormat(
        repo=UUID(repo),
        encryption=encryption,
        single_max=integer(chunker.get("single_max"), 1, 64 << 20, "its single_max"),
        root_public_key=hex_bytes(found.get("root_public_key"), 32, "its root public key"),
        recovery_recipient=recipient,
        created_by=text(found.get("created_by"), "its created_by"),
        raw=data,
    )


def load_format(store: BlobStore, expected_hash: str | None = None) -> RepositoryFormat:
    """The format of the repository in a store.

    Args:
        expected_hash: the format hash that this device recorded, or that an invite carries.

    Raises:
        RepositoryError: there is none, it is another one, or it cannot be used.
        StoreError: the store failed.
    """
    try:
        data = store.get(FORMAT_KEY)
    except ObjectMissing:
        raise RepositoryError(f"there is no repository at {store.endpoint}") from None
    if expected_hash is not None and blake3(data).hexdigest() != expected_hash:
        raise RepositoryError(
            f"another repository is at {store.endpoint}: its {FORMAT_KEY} is not the one expected",
            details={"expected": expected_hash, "found": blake3(data).hexdigest()},
        )
    return parse_format(data)
