"""Where the command line meets the engine. Tests put their own engine here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.sync.facade import FleetApi
    from tcfs.sync.results import InitResult


class Engine(Protocol):
    """The entry points of ``tcfs.sync.session``."""

    def open_fleet(
        self,
        loaded: LoadedConfig,
        *,
        actor: str,
        create: bool = False,
        notice: Callable[[str], None] | None = None,
    ) -> FleetApi: ...
    def init_fleet(
        self, loaded: LoadedConfig, *, name: str = "", encryption: bool | None = None
    ) -> InitResult: ...
    def recover_fleet(self, loaded: LoadedConfig, *, phrase: str, name: str = "") -> InitResult: ...
    def enroll_fleet(
        self, loaded: LoadedConfig, *, name: str, invite: str, new_identity: bool = False
    ) -> InitResult: ...


def engine() -> Engine:
    """The real engine, imported when asked for: ``--help`` has no use for its cryptography."""
    return cast(Engine, import_module("tcfs.sync.session"))
