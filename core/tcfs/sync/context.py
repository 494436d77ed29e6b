"""What every operation of the engine works with: this device, opened on its repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from tcfs.content.pack import HEADER_READ, PackScope
from tcfs.content.unpack import PackReaders
from tcfs.errors import AccessError, CancelledError, IntegrityError
from tcfs.host.base import Executor, Host
from tcfs.model.access import ControlState, DeviceRecord
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, NamespaceId, PackId
from tcfs.state.state import State
from tcfs.store.base import BlobStore
from tcfs.sync.facade import Cancel, Progress, ProgressFn

if TYPE_CHECKING:
    from tcfs.config.schema import Config
    from tcfs.device.epochs import NamespaceKeys
    from tcfs.device.format import RepositoryFormat
    from tcfs.device.identity import DeviceIdentity
    from tcfs.ledger.control import ControlView


@dataclass(slots=True)
class Context:
    """One device's engine.

    Attributes:
        view: the control ledger as last read; ``receive.refresh_control`` renews it.
        open_keys: opens the secrets of a namespace; kept after the first time.
        actor: who asks, recorded in every event.
        looked: when this device's own chain in a namespace was last looked at; monotonic seconds.
    """

    host: Host
    store: BlobStore
    state: State
    identity: DeviceIdentity
    format: RepositoryFormat
    config: Config
    view: ControlView
    namespace: NamespaceId
    actor: str
    open_keys: Callable[[NamespaceId], NamespaceKeys]
    progress: ProgressFn | None = None
    cancel: Cancel | None = None
    looked: dict[NamespaceId, float] = field(default_factory=dict)
    _keys: dict[NamespaceId, NamespaceKeys] = field(default_factory=dict)
    _readers: dict[NamespaceId, PackReaders] = field(default_factory=dict)
    _executor: Executor | None = None

    @property
    def executor(self) -> Executor:
        """The pool for the CPU stage of a push or pull; whoever closes it can use it again."""
        if self._executor is None:
            self._executor = self.host.executor(self.config.sync.jobs)
        return self._executor

    def let_go_of_executor(self) -> None:
        """The operation is over: end what workers there are."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()

    @property
    def repo(self) -> UUID:
        """The repository's id."""
        return self.format.repo

    @property
    def control(self) -> ControlState:
        """The membership as last read."""
        return self.view.state

    @property
    def control_heads(self) -> Mapping[DeviceId, ChainHead]:
        """Heads of the control chains as last read."""
        return self.view.heads

    @property
    def device(self) -> DeviceRecord | None:
        """This device as the fleet knows it; None if it was never admitted."""
        return self.control.devices.get(self.identity.device_id)

    def keys(self, namespace: NamespaceId) -> NamespaceKeys:
        """The secrets of a namespace. Raises AccessError."""
        known = self._keys.get(namespace)
        if known is None:
            known = self._keys[namespace] = self.open_keys(namespace)
        return known

    def forget_keys(self) -> None:
        """Open the secrets anew when they are next needed: an epoch may have begun."""
        self._keys.clear()
        self._readers.clear()

    def forget_outdated_keys(self) -> None:
        """Look again for the key of a current epoch that was not here: it may have been given."""
        for namespace, known in list(self._keys.items()):
            if self.format.encryption and not known.holds_current(self.control):
                del self._keys[namespace]
                self._readers.pop(namespace, None)

    def scope(self, namespace: NamespaceId) -> PackScope:
        """What packs of a namespace must belong to."""
        return PackScope(self.repo, namespace, self.format.encryption)

    def readers(self, namespace: NamespaceId) -> PackReaders:
        """Readers of a namespace's packs."""
        known = self._readers.get(namespace)
        if known is None:
            known = self._readers[namespace] = PackReaders(
                self.scope(namespace),
                self.keys(namespace),
                lambda pack: self.read_pack(pack, 0, HEADER_READ),
            )
        return known

    def pack_read(self, pack: PackId, offset: int, length: int) -> Callable[[], bytes]:
        """What reads bytes of a pack, wherever it is; raises StoreError. For any thread.

        Raises:
            IntegrityError: no segment told of this pack.
        """
        location = self.state.index.location(pack)
        if location is None:
            raise IntegrityError(f"pack {pack} is in no segment that is known here")
        return partial(self.store.get_range, location.key, location.offset + offset, length)

    def read_pack(self, pack: PackId, offset: int, length: int) -> bytes:
        """Bytes of a pack, wherever it is.

        Raises:
            IntegrityError: no segment told of this pack.
            StoreError: it cannot be read.
        """
        return self.pack_read(pack, offset, length)()

    def require_admitted(self) -> None:
        """Raise AccessError if this device asked to join, and no admin has answered yet."""
        own = self.identity
        if self.control.request_of(own.device_id, own.public_key) is not None:
            raise AccessError(
                f"this device ({own.name}) waits until an admin admits it",
                remedy=f"On an admin's device, after comparing its fingerprint with what 'tcfs "
                f"status' shows here: tcfs device admit {own.name}",
            )

    def require_member(self) -> DeviceRecord:
        """This device's record.

        Raises:
            AccessError: it was revoked, or never admitted.
        """
        self.require_admitted()
        device = self.device
        if device is None:
            raise AccessError(
                "this device is not a member of the repository",
                remedy="Join with: tcfs device enroll --new-identity --invite CODE",
            )
        if device.expired:
            raise AccessError(
                f"this device ({device.name}) was away for so long that the others went on "
                "without it",
                remedy="Its files are untouched. To come back it joins anew: "
                "tcfs device enroll --new-identity --invite CODE",
            )
        if device.revoked:
            raise AccessError(
                f"this device ({device.name}) was revoked",
                remedy="Its files are untouched. To come back it needs a new identity: "
                "tcfs device enroll --new-identity --invite CODE",
            )
        return device

    def require_writer(self) -> DeviceRecord:
        """This device's record, if it may write.

        Raises:
            AccessError: it was revoked, never admitted, or may only read.
        """
        device = self.require_member()
        if device.role == "reader":
            raise AccessError(f"this device ({device.name}) may read but not write")
        return device

    def report(self, stage: str, done: int, total: int, unit: str, message: str = "") -> None:
        """Tell how far the work is, and stop here if the caller wants that.

        Raises:
            CancelledError: the caller asked to stop.
        """
        self.check_cancel()
        if self.progress is not None:
            self.progress(Progress(stage, done, total, unit, message))

    def check_cancel(self) -> None:
        """Stop here if the caller wants that. Raises CancelledError."""
        if self.cancel is not None and self.cancel():
            raise CancelledError("stopped as asked")
