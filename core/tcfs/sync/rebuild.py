"""Making the local state anew from the store alone: the ledger says what is, packs hold the rest.

What belongs to this machine is remembered across: which directories are roots, and the outbox. The
base is made anew: see ``recognise``.

From the first change on until all is here again the state says that it is being rebuilt. Cut off,
the rebuild is made again from the start by whatever takes the device's lock next: nobody acts on a
part of the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from tcfs.errors import IntegrityError, LocalFileError, StoreError
from tcfs.ledger.keys import parse_key
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, DeviceId, NamespaceId
from tcfs.state.garbage import TABLES as GARBAGE_TABLES
from tcfs.store.base import ObjectMissing
from tcfs.sync import leftovers, places
from tcfs.sync.commit import flush_outbox
from tcfs.sync.context import Context
from tcfs.sync.gc.trailers import read_ends
from tcfs.sync.receive import receive, refresh_control
from tcfs.sync.recognise import recognise
from tcfs.sync.results import RebuildResult

_OF_ROOTS: Final = ("intent_list", "todo", "base")


def rebuild(context: Context) -> RebuildResult:
    """Read everything anew.

    Raises:
        StoreError: the store failed, or told less than was known before; run it again.
    """
    state = context.state
    _finish_pulls(context)
    before = {name: state.history.heads(name) for name in context.control.epochs}
    with state.transaction() as run:
        for table in (*GARBAGE_TABLES, *_OF_ROOTS, "chunk", "pack", "superseded"):
            run.execute(f"DELETE FROM {table}")
        for table in ("version", "segment", "chain", "finding", "control_object"):
            run.execute(f"DELETE FROM {table}")
        run.execute("UPDATE root SET pulled = 0")
        state.refused.clear()
        state.begin_rebuilding(int(context.host.clock.now()))
    context.forget_keys()
    refresh_control(context)
    segments = 0
    messages: list[str] = []
    for namespace in context.control.epochs:
        segments += receive(context, namespace, rebuild=True)
        messages += _chunks_from_packs(context, namespace)
    _require_all(context, before)
    _settle_outbox(context)
    recognise(context)
    state.end_rebuilding()
    (versions,) = state.database.connection.execute("SELECT count(*) FROM version").fetchone()
    (packs,) = state.database.connection.execute("SELECT count(*) FROM pack").fetchone()
    return RebuildResult(
        segments=segments,
        versions=versions,
        chunks=sum(state.index.count(namespace) for namespace in context.control.epochs),
        packs=packs,
        messages=tuple(messages),
    )


def _finish_pulls(context: Context) -> None:
    """What a pull that was cut off left is told apart by what is about to be forgotten."""
    for root in context.state.roots.all():
        # A root that cannot be used has nothing to lose here.
        with suppress(LocalFileError):
            leftovers.recover(context, places.adopt(context, root))


def _require_all(
    context: Context, before: Mapping[NamespaceId, Mapping[DeviceId, ChainHead]]
) -> None:
    """Refuse a history that is shorter than it was, and nothing tells why.

    A listing that was not up to date would leave this device without what it wrote itself.

    Raises:
        StoreError: run it again; where the store was put back to an older state, that is accepted.
    """
    told = {(finding.namespace, finding.device) for finding in context.state.findings.all()}
    for namespace, heads in before.items():
        now = context.state.history.heads(namespace)
        for device, head in heads.items():
            found = now.get(device)
            if (found is None or found.seq < head.seq) and (namespace, device) not in told:
                raise StoreError(
                    f"the store did not show segment {head.seq} of {device} in {namespace!r}, "
                    "which was known before",
                    remedy="Run the command again: it takes the store as it is then.",
                )


def _settle_outbox(context: Context) -> None:
    """Send what was finished and never sent, unless its place in the chain is taken by now."""
    for entry in context.state.outbox.all():
        device = parse_key(entry.key).device
        heads = (
            context.control_heads
            if entry.namespace == CONTROL
            else context.state.history.heads(entry.namespace)
        )
        head = heads.get(device)
        if head is not None and entry.seq <= head.seq:
            context.state.outbox.remove(entry)
    flush_outbox(context)


def _chunks_from_packs(context: Context, namespace: NamespaceId) -> list[str]:
    """Chunks that are in a named pack, and that no segment told of. Frames are not read."""
    messages = []
    marked = context.state.garbage.marked()
    for location in context.state.index.packs(namespace):
        if location.offset or location.id in marked:
            continue
        try:
            info = context.store.head(location.key)
            if info is None:
                raise ObjectMissing(f"the store has no object {location.key}")
            ends = read_ends(context, namespace, location.id, location.key, info.size)
        except (IntegrityError, ObjectMissing) as error:
            messages.append(f"pack {location.id}: {error.message}")
            continue
        context.state.index.add_chunks(namespace, ends.chunks, announced=False)
    return messages
