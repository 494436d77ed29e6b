"""Who this machine is: a signing key and an age identity, kept in one private file."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from pyrage import IdentityError as AgeIdentityError
from pyrage import x25519

from tcfs.device.phrase import SigningKey, identity_text
from tcfs.errors import AccessError, IntegrityError, LocalFileError, NotFoundError, TcfsError
from tcfs.host.base import Entropy, FileSystem
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object, text
from tcfs.model.access import DeviceRecord, Role
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.ids import DeviceId, check_device_name, is_uuid
from tcfs.model.paths import TEMP_PREFIX, show

MAX_IDENTITY: Final = 64 << 10
"""Bytes of the largest identity file."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """This device, with its secrets; a ``Signer``. Never shown, never pickled.

    Attributes:
        created_at: unix seconds.
    """

    device_id: DeviceId
    name: str
    created_at: int
    signing_seed: bytes = field(repr=False)
    age_secret: str = field(repr=False)
    _signer: SigningKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_signer", SigningKey(self.device_id, self.signing_seed))

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return self._signer.public_key

    @property
    def age(self) -> x25519.Identity:
        """The age identity; its ``str`` is the secret."""
        return x25519.Identity.from_str(self.age_secret)

    @property
    def recipient(self) -> str:
        """The age recipient that others seal to."""
        return str(self.age.to_public())

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message that names its own domain."""
        return self._signer.sign(message)

    def record(self, role: Role, *, description: str = "") -> DeviceRecord:
        """What others are told of this device."""
        return DeviceRecord(
            device_id=self.device_id,
            name=self.name,
            sign_key=self.public_key,
            recipient=self.recipient,
            role=role,
            enrolled_at=self.created_at,
            description=description,
        )

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("an identity does not travel between processes")


def generate(name: str, entropy: Entropy, now: float) -> DeviceIdentity:
    """A new identity. ``now`` in unix seconds.

    Raises:
        UsageError: the name cannot be one.
    """
    check_device_name(name)
    device_id = DeviceId(str(uuid.UUID(bytes=entropy.token(16), version=4)))
    return DeviceIdentity(
        device_id, name, int(now), entropy.token(32), identity_text(entropy.token(32))
    )


class KeyProtection(Protocol):
    """Where private material is kept between runs, and what guards it there."""

    def save(self, material: bytes) -> None:
        """Keep it, durably, where nothing is kept yet.

        Raises:
            LocalFileError: it cannot be written, or something is kept there already.
        """
        ...

    def load(self) -> bytes:
        """What was kept.

        Raises:
            NotFoundError: nothing is kept there.
            AccessError: it is not guarded as it must be.
            LocalFileError: it cannot be read.
        """
        ...


class FileProtection:
    """A file that its owner alone may read; the guard is the system's account."""

    def __init__(self, files: FileSystem, path: bytes, entropy: Entropy) -> None:
        self._files = files
        self._path = path
        self._entropy = entropy

    def save(self, material: bytes) -> None:
        """See ``KeyProtection``. The name appears only once the bytes are durable."""
        self._put(material, self._files.rename_new)

    def replace(self, material: bytes) -> None:
        """Put this in the place of what is kept, in one step.

        Raises:
            LocalFileError: it cannot be written; what was kept is kept still.
        """
        self._put(material, self._files.rename)

    def _put(self, material: bytes, rename: Callable[[bytes, bytes], None]) -> None:
        directory, _, _ = self._path.rpartition(b"/")
        token = self._entropy.token(8).hex().encode()
        temporary = directory + b"/" + TEMP_PREFIX + token
        try:
            self._remove_torn(directory)
            self._files.write_new(temporary, [material], 0o600, self._mtime(directory))
            try:
                self._files.barrier(directory)
                rename(temporary, self._path)
            except BaseException:
                self._files.unlink(temporary)
                raise
            self._files.barrier(directory)
        except FileExistsError:
            raise LocalFileError(
                f"there is a device identity already: {show(self._path)}",
                remedy="Use it, or move it away if this machine is to be a new device.",
            ) from None
        except OSError as error:
            raise _failed("write", self._path, error) from None

    def _remove_torn(self, directory: bytes) -> None:
        """What a run that was cut off left: the caller holds the device's lock."""
        for name, _ in self._files.scan(directory):
            if name.startswith(TEMP_PREFIX):
                self._files.unlink(directory + b"/" + name)

    def _mtime(self, directory: bytes) -> int:
        return self._files.lstat(directory).mtime_ns

    def load(self) -> bytes:
        """See ``KeyProtection``."""
        try:
            with self._files.open(self._path) as reader:
                stat = reader.fstat()
                if stat.mode & 0o077:
                    raise AccessError(
                        f"others on this machine may read {show(self._path)}",
                        remedy=f"Run: chmod 600 {show(self._path)}; and if anyone may have read "
                        "it, revoke this device and enroll it again.",
                    )
                if stat.size > MAX_IDENTITY:
                    raise IntegrityError(f"not a device identity: {show(self._path)}")
                return b"".join(iter(lambda: reader.read(MAX_IDENTITY), b""))
        except FileNotFoundError:
            raise NotFoundError(
                f"this machine has no identity yet: {show(self._path)}",
                remedy="Enroll it with: tcfs device enroll --invite CODE",
            ) from None
        except OSError as error:
            raise _failed("read", self._path, error) from None


def save_identity(identity: DeviceIdentity, protection: KeyProtection) -> None:
    """Keep an identity. Raises LocalFileError if there is one already."""
    protection.save(
        canonical(
            {
                "format": 1,
                "device_id": identity.device_id,
                "name": identity.name,
                "created_at": identity.created_at,
                "signing_seed": identity.signing_seed.hex(),
                "age_secret": identity.age_secret,
            }
        )
    )


def load_identity(protection: KeyProtection) -> DeviceIdentity:
    """The identity that was kept.

    Raises:
        NotFoundError: there is none.
        AccessError: others may read it.
        IntegrityError: it is damaged; the error shows nothing of it.
        LocalFileError: it cannot be read.
    """
    found = parse_object(protection.load(), "this machine's identity")
    try:
        device_id, name = found.get("device_id"), found.get("name")
        if found.get("format") != 1 or not isinstance(device_id, str) or not is_uuid(device_id):
            raise IntegrityError("its format or device id is unknown")
        identity = DeviceIdentity(
            DeviceId(device_id),
            check_device_name(text(name, "its name")),
            integer(found.get("created_at"), 0, MAX_COUNTER, "its time"),
            hex_bytes(found.get("signing_seed"), 32, "its signing key"),
            text(found.get("age_secret"), "its age identity"),
        )
        _ = identity.recipient
    except (TcfsError, AgeIdentityError):
        raise IntegrityError(
            "this machine's identity file is damaged",
            remedy="Restore it from this machine's backup, or enroll again as a new device.",
        ) from None
    return identity


def _failed(what: str, path: bytes, error: OSError) -> LocalFileError:
    return LocalFileError(f"cannot {what} {show(path)}: {error.strerror or error}")
