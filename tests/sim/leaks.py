"""Nothing leaks: when every device has gone on, collections leave nothing that nobody needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tcfs.errors import LimitError, TcfsError
from tcfs.model.ids import ChunkId, PackId
from tcfs.sync.gc.loading import candidates, read
from tcfs.sync.gc.trailers import read_ends
from tcfs.sync.gc.unnamed import unnamed
from tests.sim.fleet import NAMES, Device
from tests.sim.model import Violation

if TYPE_CHECKING:
    from tests.sim.world import World

COLLECTIONS: Final = 8
"""How many it may take: to move, to mark, to be acknowledged, to sweep."""


def nothing_leaks(world: World) -> None:
    """Everybody writes once more, all is collected, and what is left in the store is needed.

    Until a device has gone on, what it left unfinished may still become part of its history.

    Raises:
        Violation: something is left that nobody needs, or something needed is gone.
    """
    world.settle()
    for name, device in world.devices.items():
        if not device.reader:
            world.make(("user", name, True, "write", b"last of " + name.encode(), name.encode()))
            world.quietly(device, "sync")
    world.settle()
    found = None
    for _ in range(COLLECTIONS):
        task = world.alone(world.devices[NAMES[0]], "gc")
        if isinstance(task.error, LimitError):
            return  # The policy that was drawn would keep nothing, and nothing is collected.
        if task.error is not None:
            raise Violation(f"a collection in quiet failed with {task.error!r}") from task.error
        found = task.result
        if found.problems:
            raise Violation(f"a collection says: {found.problems[:3]}")
        for device in world.devices.values():
            world.quietly(device, "sync")
        parts = (found.orphans, found.unused, found.repacked, found.swept, found.waiting)
        if not any(part.packs for part in (*parts, found.kept)):
            break
    else:
        raise Violation(f"there is still something to collect: {found}")
    for device in world.devices.values():
        state = device.open()._context.state
        if state.outbox.count() or state.index.pending_packs(device.open()._context.namespace):
            raise Violation(f"{device.name} still has something to send")
    _all_named(world, world.devices[NAMES[0]])
    if not world.setting.retention:
        _all_needed(world, world.devices[NAMES[0]])
    world.check()


def _all_named(world: World, device: Device) -> None:
    """Every object of a snapshot is one that an event leads to; and the last ones are whole."""
    context = device.open()._context
    found = candidates(context, context.namespace)
    # One that a revocation cut off was among the newest two when older ones were let go.
    fallen = len(context.control.upkeep.snapshots.get(context.namespace, ())) - len(found)
    for record in found[: max(2 - fallen, 0)]:
        try:
            _, records = read(context, record)
            for _ in records:
                pass
        except TcfsError as error:
            raise Violation(f"the snapshot {record.id} cannot be read: {error.message}") from error
    listed = {key: len(data) for key, (data, _) in world.bucket.objects.items()}
    left = unnamed(context, context.namespace, listed)
    if left:
        raise Violation(f"objects of snapshots are left that nothing names: {sorted(left)}")


def _all_needed(world: World, device: Device) -> None:
    """Every pack holds something that some version consists of."""
    context = device.open()._context
    needed: set[ChunkId] = set()
    for version in device.history():
        needed.update(version.manifest.chunks)
    for key, (data, _) in list(world.bucket.objects.items()):
        if key.startswith("packs/"):
            pack = PackId(key.rpartition("/")[2])
            ends = read_ends(context, context.namespace, pack, key, len(data))
            if needed.isdisjoint(chunk for chunk, _ in ends.chunks):
                raise Violation(f"pack {pack} is left, and nobody needs it")
