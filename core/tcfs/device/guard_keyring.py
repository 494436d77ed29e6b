"""The wrapping key in the system's keyring: Secret Service, Keychain, or the Windows vault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tcfs.errors import AccessError, ConfigError, NotFoundError
from tcfs.host.base import Entropy
from tcfs.ledger.strict import text

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

    from tcfs.device.protection import Kind

SERVICE: Final = "tcfs"


class KeyringGuard:
    """A random key under a random name in the keyring; the name stands in the envelope."""

    kind: Kind = "keyring"

    def keep(self, entropy: Entropy) -> tuple[bytes, dict[str, Any]]:
        """See ``Guard``."""
        from keyring.errors import KeyringError

        keyring = _backend()
        item, key = entropy.token(16).hex(), entropy.token(32)
        try:
            keyring.set_password(SERVICE, item, key.hex())
        except KeyringError as error:
            raise _failed(error) from None
        return key, {"item": item, "backend": type(keyring).__module__}

    def find(self, params: Mapping[str, Any]) -> bytes:
        """See ``Guard``."""
        from keyring.errors import KeyringError

        item = text(params.get("item"), "its item", 64)
        keyring = _backend()
        try:
            found = keyring.get_password(SERVICE, item)
        except KeyringError as error:
            raise _failed(error) from None
        if found is None:
            raise AccessError(
                "the system's keyring has no key for this device: it is another user's, another "
                "machine's, or the item was removed",
                remedy="Log in as the user who set it up; or restore the identity from a backup.",
            )
        try:
            return bytes.fromhex(found)
        except ValueError:
            raise AccessError("the keyring's item is not what this device put there") from None

    def forget(self, params: Mapping[str, Any]) -> None:
        """See ``Guard``."""
        from keyring.errors import KeyringError

        try:
            _backend().delete_password(SERVICE, text(params.get("item"), "its item", 64))
        except KeyringError as error:
            raise _failed(error) from None


def _backend() -> KeyringBackend:
    try:
        import keyring
        from keyring.backends import fail, null
    except ImportError:
        raise ConfigError(
            "the system's keyring needs the package keyring",
            remedy="Install it: pip install 'tcfs[keyring]'",
        ) from None
    backend = keyring.get_keyring()
    if isinstance(backend, fail.Keyring | null.Keyring):
        raise NotFoundError(
            "this session has no keyring that is known",
            remedy="Log in to a desktop session with one (GNOME Keyring, KWallet), or protect the "
            "keys another way: tcfs device protect passphrase",
        )
    # A plain file, as some alternative backends write, would protect nothing.
    if backend.priority < 1:
        raise NotFoundError("the only keyring of this session keeps its items in the clear")
    return backend


def _failed(error: Exception) -> AccessError:
    # The texts of backends may quote what was to be stored.
    return AccessError(
        f"the system's keyring refused ({type(error).__name__})",
        remedy="Unlock it, then run the command again.",
    )
