"""What guards a device's private keys on its disk, besides the file's mode.

The identity file holds either the keys themselves (protection ``file``), or an *envelope*: the
keys, sealed with a wrapping key that a ``Guard`` gives back: from a passphrase, from the system's
keyring, or from the TPM. What a guard needs for that and may be read by anyone stands in the
envelope, authenticated with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from msgspec import Struct

from tcfs.device.identity import MAX_IDENTITY, FileProtection
from tcfs.errors import AccessError, IntegrityError, NotFoundError, UsageError
from tcfs.host.base import Entropy
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object

Kind = Literal["file", "passphrase", "keyring", "tpm"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
KEY_SIZE: Final = 32

PASSPHRASE_VARIABLE: Final = "TCFS_DEVICE_PASSPHRASE"
NEW_PASSPHRASE_VARIABLE: Final = "TCFS_NEW_DEVICE_PASSPHRASE"
"""What a script changes the passphrase to."""
PASSPHRASE_CREDENTIAL: Final = "tcfs-device-passphrase"
"""The file in ``$CREDENTIALS_DIRECTORY`` that a service finds the passphrase in."""

MEMORY_KIB: Final = 65536
PASSES: Final = 3
LANES: Final = 4
"""Argon2id's parameters for new envelopes (those of upstream); old ones say their own."""
_MOST_MEMORY_KIB: Final = 1 << 21
_MOST_PASSES: Final = 64

Ask = Callable[[str], str]
"""Asks a person for a secret; empty if there is nobody."""


class Guard(Protocol):
    """Keeps a wrapping key where only this device's user, or this machine, gets at it."""

    kind: Kind

    def keep(self, entropy: Entropy) -> tuple[bytes, dict[str, Any]]:
        """A wrapping key of 32 bytes, and what ``find`` needs to give it back.

        Raises:
            AccessError, NotFoundError, UsageError: it cannot be kept there.
        """
        ...

    def find(self, params: Mapping[str, Any]) -> bytes:
        """The wrapping key.

        Raises:
            AccessError: not with this passphrase, this keyring, or this machine.
            NotFoundError: what the guard needs is not here.
        """
        ...

    def forget(self, params: Mapping[str, Any]) -> None:
        """Remove what was kept elsewhere, once no envelope needs it."""
        ...


class Options(Struct, frozen=True):
    """Where guards get what they need.

    Attributes:
        ask: for a passphrase that the environment does not have.
        environ: the process's environment.
        pcrs: the TPM's registers that new keys are sealed to.
    """

    ask: Ask = lambda question: ""
    environ: Mapping[str, str] | None = None
    pcrs: tuple[int, ...] = (7,)

    @property
    def env(self) -> Mapping[str, str]:
        """The environment."""
        return os.environ if self.environ is None else self.environ


def guard_of(kind: Kind, options: Options) -> Guard:
    """The guard of a kind; ``file`` has none."""
    if kind == "passphrase":
        return PassphraseGuard(options)
    if kind == "keyring":
        from tcfs.device.guard_keyring import KeyringGuard

        return KeyringGuard()
    if kind == "tpm":
        from tcfs.device.guard_tpm import TpmGuard

        return TpmGuard(options.env, options.pcrs)
    raise UsageError(f"not a protection of keys: {kind!r}", remedy=f"Use {', '.join(KINDS)}.")


class ProtectedFile:
    """A ``KeyProtection``: the identity file, with whatever envelope it is in.

    Args:
        kind: how new material is kept; what is there says its own.
    """

    def __init__(
        self, file: FileProtection, entropy: Entropy, options: Options, kind: Kind = "file"
    ) -> None:
        self._file = file
        self._entropy = entropy
        self._options = options
        self._kind: Kind = kind

    def save(self, material: bytes) -> None:
        """See ``KeyProtection``."""
        self._file.save(self._wrapped(material, self._kind))

    def load(self) -> bytes:
        """See ``KeyProtection``. Raises also as ``Guard.find`` does."""
        return self._open(self._file.load())

    def kind(self) -> Kind:
        """How the material that is kept is protected."""
        params = _envelope(self._file.load())
        return "file" if params is None else _kind(params)

    def change(self, kind: Kind) -> None:
        """Keep the same material another way, or anew in the same way with another secret.

        The new envelope is opened before it replaces the old one, in one step.
        """
        before = self._file.load()
        material = self._open(before)
        wrapped = self._wrapped(material, kind)
        # A passphrase was asked for twice; of a keyring or TPM only reading it back tells.
        if kind != "passphrase" and self._open(wrapped) != material:
            raise IntegrityError("the new protection does not give back what it was given")
        self._file.replace(wrapped)
        old = _envelope(before)
        if old is not None:
            guard_of(_kind(old), self._options).forget(old)

    def _wrapped(self, material: bytes, kind: Kind) -> bytes:
        if kind == "file":
            return material
        key, params = guard_of(kind, self._options).keep(self._entropy)
        return seal_envelope(material, key, kind, params, self._entropy.token(12))

    def _open(self, data: bytes) -> bytes:
        params = _envelope(data)
        if params is None:
            return data
        key = guard_of(_kind(params), self._options).find(params)
        return open_envelope(params, key)


def seal_envelope(
    material: bytes, key: bytes, kind: str, params: Mapping[str, Any], nonce: bytes
) -> bytes:
    """Material sealed with a wrapping key that is used for nothing else."""
    head = {"format": 2, "protection": kind, **params, "nonce": nonce.hex()}
    sealed = ChaCha20Poly1305(key).encrypt(nonce, material, canonical(head))
    return canonical(head | {"sealed": sealed.hex()})


def open_envelope(params: Mapping[str, Any], key: bytes) -> bytes:
    """What is in an envelope. Raises AccessError if the key is not its own."""
    head = {name: value for name, value in params.items() if name != "sealed"}
    sealed = params.get("sealed")
    try:
        data = bytes.fromhex(sealed) if isinstance(sealed, str) else b""
        if data.hex() != sealed:
            raise ValueError("not lower-case hex")
        nonce = hex_bytes(params.get("nonce"), 12, "its nonce")
        return ChaCha20Poly1305(key).decrypt(nonce, data, canonical(head))
    except (ValueError, InvalidTag):
        raise AccessError(
            "this device's keys do not open: the passphrase is another, or the file is damaged",
            remedy="Try again; or restore the identity file from this machine's backup.",
        ) from None


def _envelope(data: bytes) -> dict[str, Any] | None:
    """The envelope, or None where the material lies there itself."""
    if len(data) > MAX_IDENTITY:
        raise IntegrityError("not a device identity: it is too long")
    found = parse_object(data, "this machine's identity")
    return found if found.get("format") == 2 else None


def _kind(params: Mapping[str, Any]) -> Kind:
    for kind in KINDS[1:]:
        if params.get("protection") == kind:
            return kind
    raise IntegrityError(
        "this machine's identity is protected in a way that this version does not know",
        remedy="Use the newer tcfs that wrote it.",
    )


class PassphraseGuard:
    """The wrapping key is derived from a passphrase with Argon2id (RFC 9106)."""

    kind: Kind = "passphrase"

    def __init__(self, options: Options) -> None:
        self._options = options

    def keep(self, entropy: Entropy) -> tuple[bytes, dict[str, Any]]:
        """See ``Guard``. Asks twice where a person types it."""
        env = self._options.env
        passphrase = env.get(NEW_PASSPHRASE_VARIABLE, "") or find_passphrase(env)
        if not passphrase:
            passphrase = self._options.ask("New passphrase for this device's keys (not shown): ")
            if passphrase and self._options.ask("The same again: ") != passphrase:
                raise UsageError("the two passphrases differ", remedy="Nothing changed; try again.")
        if not passphrase:
            raise UsageError(
                "no passphrase was given",
                remedy=f"Type it at a terminal, or set {NEW_PASSPHRASE_VARIABLE}.",
            )
        salt = entropy.token(16)
        params = {"salt": salt.hex(), "memory_kib": MEMORY_KIB, "passes": PASSES, "lanes": LANES}
        key = derive(passphrase, salt, memory_kib=MEMORY_KIB, passes=PASSES, lanes=LANES)
        return key, params

    def find(self, params: Mapping[str, Any]) -> bytes:
        """See ``Guard``."""
        salt = hex_bytes(params.get("salt"), 16, "its salt")
        memory = integer(params.get("memory_kib"), 8, _MOST_MEMORY_KIB, "its memory")
        passes = integer(params.get("passes"), 1, _MOST_PASSES, "its passes")
        lanes = integer(params.get("lanes"), 1, 64, "its lanes")
        passphrase = find_passphrase(self._options.env) or self._options.ask(
            "Passphrase of this device's keys (not shown): "
        )
        if not passphrase:
            raise AccessError(
                "this device's keys are protected by a passphrase, and there is nobody to ask",
                remedy=f"Run it at a terminal, set {PASSPHRASE_VARIABLE}, or give a service the "
                f"credential {PASSPHRASE_CREDENTIAL}.",
            )
        return derive(passphrase, salt, memory_kib=memory, passes=passes, lanes=lanes)

    def forget(self, params: Mapping[str, Any]) -> None:
        """See ``Guard``: nothing is kept elsewhere."""


def derive(
    passphrase: str,
    salt: bytes,
    *,
    memory_kib: int = MEMORY_KIB,
    passes: int = PASSES,
    lanes: int = LANES,
) -> bytes:
    """The 32-byte key that Argon2id makes of a passphrase."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    kdf = Argon2id(
        salt=salt, length=KEY_SIZE, iterations=passes, lanes=lanes, memory_cost=memory_kib
    )
    return kdf.derive(passphrase.encode("utf-8", "surrogateescape"))


def find_passphrase(environ: Mapping[str, str]) -> str:
    """The passphrase that the environment, or systemd, gives this process; empty for none."""
    given = environ.get(PASSPHRASE_VARIABLE, "")
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if given or not directory:
        return given
    try:
        return (Path(directory) / PASSPHRASE_CREDENTIAL).read_text("utf-8").strip("\r\n")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise NotFoundError(f"the credential {PASSPHRASE_CREDENTIAL} cannot be read") from None
