"""Where the command line meets the engine. Tests put their own engine here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.device.protection import Kind
    from tcfs.sync.facade import FleetApi
    from tcfs.sync.results import InitResult
    from tcfs.sync.session import KeyCare


class Engine(Protocol):
    """The entry points of ``tcfs.sync.session``."""

    def open_fleet(
        self,
        loaded: LoadedConfig,
        *,
        actor: str,
        create: bool = False,
        notice: Callable[[str], None] | None = None,
        ask: Callable[[str], str] | None = None,
    ) -> FleetApi: ...
    def init_fleet(
        self,
        loaded: LoadedConfig,
        *,
        name: str = "",
        encryption: bool | None = None,
        keys: KeyCare = ...,
    ) -> InitResult: ...
    def recover_fleet(
        self, loaded: LoadedConfig, *, phrase: str, name: str = "", keys: KeyCare = ...
    ) -> InitResult: ...
    def enroll_fleet(
        self,
        loaded: LoadedConfig,
        *,
        name: str,
        invite: str = "",
        passphrase: str = "",
        new_identity: bool = False,
        keys: KeyCare = ...,
    ) -> InitResult: ...
    def protect_device(self, loaded: LoadedConfig, keys: KeyCare) -> Kind: ...


def engine() -> Engine:
    """The real engine, imported when asked for: ``--help`` has no use for its cryptography."""
    return cast(Engine, import_module("tcfs.sync.session"))
