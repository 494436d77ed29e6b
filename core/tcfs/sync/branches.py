"""What may be counted on once two branches of a chain are known.

What a device writes names chunks without saying where they are, if others know that already: they
do if what told of it is among what the segment says its writer had seen. Of a chain that forks
``seen`` can name one branch alone, and the versions it answers decide which. So whoever knows two
counts from then on neither on what is stored inside the segments after the fork, of either, nor on
their having told where the rest lies: what it uses next is stored anew, and told again. Whoever
knows one branch says so in ``seen``, and all others take it up, in quarantine at least, before they
take up what was built on it. That holds whichever branch a revocation names later, and whether or
not that device comes back.

This is the writer's part because the others cannot tell what they lack: nothing in a segment that
names a chunk says which of the branches told of it, and to fetch all that anybody with a revoked
identity puts beside a chain would let him keep the fleet busy for good.
"""

from __future__ import annotations

from collections.abc import Iterable

from tcfs.ledger.keys import parse_key
from tcfs.ledger.segment import Segment
from tcfs.model.ids import DeviceId, NamespaceId
from tcfs.sync.context import Context


def may_fork(
    context: Context, accepted: Iterable[Segment], quarantined: Iterable[Segment]
) -> set[DeviceId]:
    """Whose chains may fork among what was just taken up; of most no more is to be looked at."""
    found = {segment.header.device for segment in quarantined}
    for segment in accepted:
        header = segment.header
        if header.device in found:
            continue
        record = context.control.devices.get(header.device)
        if (record is not None and record.revoked) or context.state.history.beside(
            header.namespace, header.device, segment.head
        ):
            found.add(header.device)
    return found


def uncount_branches(context: Context, namespace: NamespaceId, devices: Iterable[DeviceId]) -> None:
    """Count no longer on what only branches tell of, where one of these devices' chains forks.

    Part of the transaction that takes up their segments.
    """
    forks = context.state.history.forks(namespace, devices)
    if not forks:
        return
    inside = []
    for location in context.state.garbage.inline_packs(namespace):
        ref = parse_key(location.key)
        if ref.device in forks and ref.seq >= forks[ref.device]:
            inside.append(location.id)
    context.state.garbage.mark(namespace, inside)
    context.state.index.tell_again(namespace)
