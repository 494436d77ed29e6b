"""Fleets over a store that writes whatever the condition, as a SeaweedFS filer does."""

from __future__ import annotations

from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag
from tcfs.store.open import open_store
from tcfs.store.wrappers.conditions import ConditionStore
from tcfs.store.wrappers.forward import ForwardingStore
from tcfs.sync import session
from tcfs.sync.results import InitResult
from tests.servers import unique
from tests.sync.kit import Device, World


class Careless(ForwardingStore):
    """A server that writes whatever the condition."""

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        return self.inner.put(key, data)


class Fleet:
    """Devices over a store that keeps no conditions, each through a stack of its own."""

    def __init__(self, world: World) -> None:
        self.world = world

    def store(self) -> BlobStore:
        known: list[bool] = []
        return ConditionStore(
            Careless(self.world.open_store()),
            recall=lambda: known[0] if known else None,
            remember=known.append,
            token=lambda: unique("probe"),
        )

    def first(self, name: str = "anna") -> Device:
        open_store(self.world.endpoint, create=True).close()
        device = self.world.device(name, join=False)
        device.store = self.store()
        session.init_fleet(device.loaded, name=name, store=device.store)
        return device

    def asks(self, name: str, code: str, **names: str) -> tuple[Device, InitResult]:
        device = self.world.device(names.get("called", name), join=False)
        device.store = self.store()
        done = session.enroll_fleet(device.loaded, name=name, invite=code, store=device.store)
        return device, done
