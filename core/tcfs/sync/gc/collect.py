"""One collection: look, move what is needed, mark, delete what all have acknowledged.

After each write step a crash leaves: new packs put - pending packs, or orphans; the segment that
tells of moved chunks - chunks in two places; the mark - packs that nobody counts on, to be deleted
later; some deletions - the same, fewer. The next collection, by any device, goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from blake3 import blake3

from tcfs.content.address import ChunkAddress
from tcfs.errors import AccessError, IntegrityError, PlanChangedError
from tcfs.ledger.snapshot import object_key
from tcfs.model.ids import ChunkId, NamespaceId, PackId
from tcfs.model.upkeep import MAX_MARKED, mark_event
from tcfs.state.index import PackLocation
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.gc.marks import acknowledge, publish_upkeep
from tcfs.sync.gc.move import check_readable, move
from tcfs.sync.gc.results import Amount, Awaited, GcResult
from tcfs.sync.gc.survey import (
    REPACK_BELOW,
    Survey,
    has_passed,
    list_packs,
    read_header,
    rules_of,
    survey,
)
from tcfs.sync.gc.trailers import read_ends
from tcfs.sync.gc.unnamed import list_snapshots, unnamed
from tcfs.sync.receive import receive, refresh_control
from tcfs.sync.results import LIST_LIMIT, Problem
from tcfs.sync.upload import pack_key

HEX: Final = 32
"""Characters of a plan's hash."""


def collect(
    context: Context,
    *,
    dry_run: bool,
    plan: str,
    repack_below: float = REPACK_BELOW,
) -> GcResult:
    """Collect in every namespace.

    Args:
        plan: do exactly what a dry run with this hash said, or nothing.
        repack_below: share of a pack that is needed, below which it is repacked.

    Raises:
        AccessError: this device may not write.
        IntegrityError: not all history is known here: nothing was changed.
        LimitError: a retention policy would keep nothing.
        PlanChangedError: there is something else to do than ``plan`` says.
        StoreError: the store failed; what was done stays, and is safe.
    """
    context.require_writer()
    # What is there now, and what names it after that.
    snapshots = list_snapshots(context)
    # Control first: who writes after it was read has read it too. See ``model.upkeep.is_past``.
    refresh_control(context)
    spaces = sorted(context.control.epochs)
    for namespace in spaces:
        receive(context, namespace)
    if not dry_run:
        acknowledge(context)
    listed = list_packs(context)
    surveys = [
        survey(
            context,
            space,
            listed,
            unnamed(context, space, snapshots),
            repack_below=repack_below,
        )
        for space in spaces
    ]
    found = _hash(surveys)
    if plan and plan != found:
        raise PlanChangedError(
            "what there is to collect is no longer what that plan says",
            details={"wanted": plan, "now": found},
        )
    if not dry_run:
        for one in surveys:
            _Work(context, one).run()
    return _result(context, surveys, found, dry_run)


def _hash(surveys: Iterable[Survey]) -> str:
    return blake3(repr([one.identity() for one in surveys]).encode()).hexdigest()[:HEX]


def _result(context: Context, surveys: list[Survey], plan: str, dry_run: bool) -> GcResult:
    def amount(parts: Iterable[dict[PackId, int]]) -> Amount:
        return sum((Amount(len(part), sum(part.values())) for part in parts), Amount())

    awaited: dict[str, Awaited] = {}
    for one in surveys:
        for device, marks in one.awaited.items():
            record = context.control.devices[device]
            known = awaited.get(device)
            awaited[device] = Awaited(
                device,
                record.name,
                max(
                    known.last_written_at if known else 0,
                    context.state.garbage.last_written(one.namespace, device),
                ),
                marks + (known.marks if known else 0),
            )
    problems = [problem for one in surveys for problem in one.problems]
    return GcResult(
        dry_run=dry_run,
        plan=plan,
        orphans=amount(part for one in surveys for part in (one.orphans, one.unnamed)),
        unused=amount(one.unused for one in surveys),
        repacked=amount(one.repack for one in surveys),
        moved_bytes=sum(one.moved_size for one in surveys),
        swept=amount(part for one in surveys for part in (one.sweep, one.void)),
        waiting=amount(one.waiting for one in surveys),
        kept=amount(one.kept for one in surveys),
        forgotten_versions=sum(one.forgotten for one in surveys),
        gone_versions=sum(one.gone for one in surveys),
        waiting_for=tuple(sorted(awaited.values(), key=lambda a: (a.name, a.device_id))),
        problems=tuple(problems[:LIST_LIMIT]),
    )


class _Work:
    """The write steps of a collection in one namespace."""

    def __init__(self, context: Context, found: Survey) -> None:
        self._context = context
        self._found = found
        self._namespace: NamespaceId = found.namespace
        self._garbage = context.state.garbage
        self._known: dict[PackId, bool] = {}
        # Places that only the segments of a device tell of which was let go before it wrote them.
        self._untold: dict[PackId, PackLocation] = {}
        # The surveys of other namespaces came between.
        self._garbage.find_needed(self._namespace, rules_of(context, self._namespace))

    def run(self) -> None:
        found = self._found
        wanted = list(found.stranded)
        for pack in found.repack:
            wanted += self._garbage.needed_in(self._namespace, pack)
        if wanted:
            move(self._context, self._namespace, list(dict.fromkeys(wanted)))
        self._mark()
        self._sweep()

    # Marking

    def _mark(self) -> None:
        found = self._found
        chosen = {**found.orphans, **found.unused, **found.repack}
        safe = []
        for done, (pack, size) in enumerate(sorted(chosen.items())):
            self._context.report("gc", done, len(chosen), "packs")
            try:
                if self._may_go(pack, size, chosen.keys()):
                    safe.append(pack)
                    continue
                if not self._untold:
                    self._left(pack, "holds something that is needed and is nowhere else")
                # Else who was let go said that it is elsewhere: the next collection looks again.
            except (IntegrityError, AccessError, ObjectMissing) as error:
                self._left(pack, error.message)
            for part in (found.orphans, found.unused, found.repack):
                part.pop(pack, None)
        safe += self._void(safe)
        safe += sorted(found.unnamed)
        now = int(self._context.host.clock.now())
        for batch in _batches(safe, MAX_MARKED):
            publish_upkeep(self._context, [mark_event(self._namespace, batch, now)])

    def _left(self, pack: PackId, reason: str) -> None:
        self._found.problems.append(
            Problem(f"pack {pack}", IntegrityError.code, reason, "It was left as it is.")
        )

    def _void(self, going: Iterable[PackId]) -> list[PackId]:
        """Those of the untold packs that are to be marked: then all find the rest where it was."""
        safe = []
        for pack, place in sorted(self._untold.items()):
            with suppress(IntegrityError, AccessError, ObjectMissing):
                info = self._context.store.head(place.key)
                if info is not None and self._may_go(pack, info.size, {*going, *self._untold}):
                    safe.append(pack)
                    self._found.orphans[pack] = info.size
        return safe

    def _may_go(self, pack: PackId, size: int, chosen: Iterable[PackId]) -> bool:
        """Whether everything needed of what a pack really holds can be read elsewhere.

        By its own trailer, whatever this device's index says; and the bytes are read, since
        members may tell of chunks that they never stored. Places that not all can know are none.
        """
        going = set(chosen)
        ends = read_ends(self._context, self._namespace, pack, pack_key(pack), size)
        needed = [chunk for chunk, _ in ends.chunks if self._garbage.is_needed(chunk)]
        if not needed:
            return True
        elsewhere: dict[ChunkId, list[ChunkAddress]] = {
            chunk: [
                address
                for address in self._garbage.addresses(self._namespace, chunk)
                if address.pack not in going and self._told(address.pack)
            ]
            for chunk in needed
        }
        left = set(needed)
        while left:
            tries = [(chunk, elsewhere[chunk].pop(0)) for chunk in sorted(left) if elsewhere[chunk]]
            if not tries:
                return False
            left -= check_readable(self._context, self._namespace, tries)
        return True

    # Sweeping

    def _sweep(self) -> None:
        """Delete what all active devices have acknowledged and nothing needs."""
        found, context = self._found, self._context
        for digest in sorted(found.void):
            context.store.delete(object_key(self._namespace, digest))
        gone: list[PackId] = []
        try:
            for done, (pack, size) in enumerate(sorted(found.sweep.items())):
                context.report("gc", done, len(found.sweep), "packs")
                try:
                    held = self._still_needed(pack, size)
                except (IntegrityError, ObjectMissing):
                    held = False  # What cannot be read gives nothing back.
                except AccessError:
                    held = True
                if held:
                    found.kept[pack] = found.sweep.pop(pack)
                    continue
                context.store.delete(pack_key(pack))
                gone.append(pack)
        finally:
            self._garbage.forget(gone)

    def _still_needed(self, pack: PackId, size: int) -> bool:
        """Whether a marked pack holds, by its own trailer, what is needed and nowhere else."""
        ends = read_ends(self._context, self._namespace, pack, pack_key(pack), size)
        for chunk, _ in ends.chunks:
            if self._garbage.is_needed(chunk) and not self._at_home(chunk):
                return True
        return False

    def _at_home(self, chunk: ChunkId) -> bool:
        """Whether a chunk has a place that stays, is there, and can be known to all."""
        return any(self._told(place.id) for place in self._garbage.homes(self._namespace, chunk))

    def _told(self, pack: PackId) -> bool:
        """Whether a pack is there, and the segment that it was written for part of the history.

        It is not where a device was let go that had moved something, and who had taken that up
        took it back: others will never hear of that place.
        """
        known = self._known.get(pack)
        if known is None:
            known = self._known[pack] = self._look_up(pack)
        return known

    def _look_up(self, pack: PackId) -> bool:
        context, namespace = self._context, self._namespace
        place = context.state.index.location(pack)
        if place is None:
            return False
        if place.offset:
            return context.store.head(place.key) is not None
        header = read_header(context, namespace, pack, place.key)
        if header is None:
            return False
        if has_passed(context, namespace, header):
            return True
        writer = context.control.devices.get(header.device)
        if writer is not None and writer.revoked:
            self._untold[pack] = place
        return False


def _batches(packs: list[PackId], size: int) -> Iterator[list[PackId]]:
    rest = iter(packs)
    while batch := list(islice(rest, size)):
        yield batch
