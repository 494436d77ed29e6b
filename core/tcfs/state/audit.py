"""What the state knows of every change, for audit: accepted versions, by time of writing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tcfs.model.ids import DeviceId, NamespaceId, RelPath
from tcfs.state.database import Database


class ChangeRow(NamedTuple):
    """One accepted change. ``written_at`` in unix seconds, as its author's clock had it."""

    written_at: int
    device: DeviceId
    seq: int
    counter: int
    lamport: int
    op: str
    path: RelPath
    actor: str


def changes(
    database: Database,
    namespace: NamespaceId,
    *,
    since: int,
    device: DeviceId | None,
    actor: str,
) -> Iterator[ChangeRow]:
    """Accepted changes from a time on, by time, chain and counter; empty ``actor`` is any."""
    where, values = "ns = ? AND written_at >= ?", [namespace, since]
    if device is not None:
        where += " AND device = ?"
        values.append(database.device_no(device))
    if actor:
        where += " AND actor = ?"
        values.append(actor)
    rows: Iterator[tuple[Any, ...]] = database.connection.execute(
        "SELECT written_at, device, seq, counter, lamport, op, path, actor FROM version"
        f" WHERE {where} ORDER BY written_at, device, counter",
        values,
    )
    for at, number, seq, counter, lamport, op, path, who in rows:
        author = database.device_id(number)
        yield ChangeRow(at, author, seq, counter, lamport, op, RelPath(path), who)
