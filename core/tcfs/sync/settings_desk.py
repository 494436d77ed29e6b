"""Which settings the devices run with: this one says so in the store, and reads the others'."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import orjson
from blake3 import blake3
from msgspec import Struct

from tcfs import __version__
from tcfs.config.digest import SettingsDigest, canonical, digest, digest_of
from tcfs.device.published import Published, make_published, parse_published, settings_key
from tcfs.errors import AccessError, IntegrityError, TcfsError
from tcfs.model.ids import DeviceId
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.private_files import read_private, write_private
from tcfs.sync.receive import refresh_control

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.config.schema import Config

_KEY_CONTEXT = "tcfs 2026-11 settings digest v1"
logger = logging.getLogger(__name__)


class RunningSettings(Struct, frozen=True):
    """What one device of the fleet said it runs with.

    Attributes:
        published: None if it said nothing yet, or what stands there does not verify.
        problem: why what stands there does not count; empty if it does, or nothing stands there.
    """

    device_id: str
    name: str
    this_device: bool
    published: Published | None = None
    problem: str = ""


class SettingsDesk:
    """The settings of the fleet's devices as they say it. For one thread at a time."""

    def __init__(self, context: Context, loaded: LoadedConfig) -> None:
        self._context = context
        self._loaded = loaded
        self._told = ""

    def digest(self, config: Config, home: str) -> SettingsDigest:
        """The digest of any configuration, comparable with those of this fleet's devices.

        Raises:
            AccessError: this device lacks the fleet's keys.
        """
        return digest(config, home=home, key=self._key())

    def digest_value(self, key: str, text: str) -> str:
        """The digest of one setting, from its canonical text. Raises AccessError."""
        return digest_of(key, text, self._key())

    def publish(self) -> bool:
        """Say what this device runs with, unless that is what it said last.

        Returns whether anything was written.

        Raises:
            StoreError, AccessError: it could not be.
        """
        context = self._context
        config, home = self._loaded.config, os.path.expanduser("~")
        memo = self._loaded.paths.state_dir / "published-settings"
        # Nobody else reads it, so that it needs no key: the fleet's would have to be fetched first.
        own = blake3(orjson.dumps(canonical(config, home))).hexdigest()
        line = f"{context.repo} {context.namespace} {own} {__version__}"
        if line in (self._told, (read_private(memo) or b"").decode("ascii", "replace")):
            return False
        found = self.digest(config, home)
        published = Published(found, int(context.host.clock.now()), __version__)
        device = context.identity.device_id
        data = make_published(published, repo=context.repo, device=device, signer=context.identity)
        context.store.put(settings_key(device), data)
        write_private(memo, line.encode())
        self._told = line
        return True

    def publish_on_the_way(self) -> None:
        """``publish``, where the work that was asked for must not fail with it."""
        try:
            self.publish()
        except TcfsError as error:
            logger.warning("the settings' digest was not published: %s", error.message)

    def running(self) -> list[RunningSettings]:
        """What every device that was not revoked said, by name.

        Raises:
            StoreError: the store failed.
        """
        context = self._context
        refresh_control(context)
        active = sorted(context.control.active(), key=lambda d: (d.name, d.device_id))
        return [self._read(record.device_id, record.name, record.sign_key) for record in active]

    def _read(self, device: DeviceId, name: str, sign_key: bytes) -> RunningSettings:
        context = self._context
        mine = device == context.identity.device_id
        try:
            data = context.store.get(settings_key(device))
        except ObjectMissing:
            return RunningSettings(device, name, mine)
        try:
            found = parse_published(data, repo=context.repo, device=device, sign_key=sign_key)
        except IntegrityError as error:
            return RunningSettings(device, name, mine, problem=error.message)
        return RunningSettings(device, name, mine, found)

    def _key(self) -> bytes:
        """32 bytes that the members share. Where nothing is encrypted, the store knows them too."""
        context = self._context
        secret = self._chunk_key() if context.format.encryption else context.repo.bytes
        return blake3(secret, derive_key_context=_KEY_CONTEXT).digest()

    def _chunk_key(self) -> bytes:
        context = self._context
        found = context.keys(context.namespace).chunk_key
        if found is None:
            # Before the membership was ever read there are no keys to see.
            refresh_control(context)
            context.forget_keys()
            found = context.keys(context.namespace).chunk_key
        if found is None:
            raise AccessError(f"this device has no key of {context.namespace} yet")
        return found
