"""The ledger as an audit log: what was done by whom, what was refused and why.

Everything here is signed and hash-chained already; an audit only reads it. What was refused stands
beside what counts: events that access rules refuse, control events without effect, and chains
that were stopped. Times are what each author's clock said, and order nothing but this list.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from tcfs.errors import LocalFileError
from tcfs.model.ids import CONTROL, ROOT_DEVICE, DeviceId, NamespaceId
from tcfs.model.paths import show
from tcfs.state.audit import changes
from tcfs.sync.context import Context
from tcfs.sync.members import find_device
from tcfs.sync.receive import receive
from tcfs.sync.results import LIST_LIMIT
from tcfs.sync.verify import Verifier

Outcome = Literal["accepted", "refused", "noticed"]
Working = Callable[[], AbstractContextManager[Context]]

SHOWN: Final = frozenset(
    ("name", "role", "device_id", "reason", "namespace", "epoch", "members", "expires_at",
     "invite_id", "strategy", "subject", "path", "path_b64", "permissions", "cut", "since",
     "description")
)  # fmt: skip
"""Fields of control events that an audit shows: public ones that mean something to a reader."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done, or refused, or noticed.

    Attributes:
        at: unix seconds by the author's clock; for what was noticed, by this device's.
        kind: ``write``, ``delete``, ``setattr``; a control event's ``op``; or a finding's kind.
        segment: ``device/seq`` that says so, in ``namespace`` (``_control`` for membership).
    """

    at: int
    outcome: Outcome
    kind: str
    namespace: str
    device_id: str
    device: str
    actor: str = ""
    path: str = ""
    version: str = ""
    segment: str = ""
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A part of the audit log, newest last.

    Attributes:
        total: entries that fit the question; ``entries`` holds the newest of them.
        verified: whether every chain was read again from the store and held.
        problems: what did not hold.
        heads: the verified head of every chain, ``namespace/device`` to ``[seq, hash]``: compared
            with an earlier audit's they show that nothing was rewritten since.
    """

    entries: tuple[AuditEntry, ...]
    total: int
    verified: bool
    problems: tuple[str, ...]
    heads: dict[str, tuple[int, str]]


class Auditor:
    """``fleet.audit``: questions to the audit log."""

    def __init__(self, context: Context, working: Working) -> None:
        self._context = context
        self._working = working

    def report(
        self,
        *,
        since: int = 0,
        device: str = "",
        actor: str = "",
        limit: int = 200,
        verify: bool = True,
    ) -> AuditReport:
        """The newest entries that fit.

        Args:
            since: unix seconds.
            device: a name or id.
            actor: of content changes, exactly.
            verify: read every chain again from the store, and check it.

        Raises:
            StoreError: the chains were to be verified, and the store failed.
        """
        limit = max(1, min(limit, LIST_LIMIT))
        found: list[AuditEntry] = []
        total = 0
        problems, heads = self._verify(verify)
        for entry in self._entries(since, device, actor):
            total += 1
            found.append(entry)
            if len(found) > 2 * limit:
                del found[:-limit]
        return AuditReport(
            entries=tuple(found[-limit:]),
            total=total,
            verified=verify and not problems,
            problems=tuple(problems[:LIST_LIMIT]),
            heads=heads,
        )

    def export(
        self, path: Path, *, since: int = 0, device: str = "", actor: str = "", verify: bool = True
    ) -> AuditReport:
        """Write every entry that fits to a new file, one JSON object a line, the report's last.

        Raises:
            LocalFileError: the file exists, or cannot be written.
            StoreError: the chains were to be verified, and the store failed.
        """
        problems, heads = self._verify(verify)
        total = 0
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                for entry in self._entries(since, device, actor):
                    total += 1
                    file.write(orjson.dumps(asdict(entry)) + b"\n")
                report = AuditReport(
                    (), total, verify and not problems, tuple(problems[:LIST_LIMIT]), heads
                )
                summary = {k: v for k, v in asdict(report).items() if k != "entries"}
                file.write(orjson.dumps({"summary": summary}) + b"\n")
        except OSError as error:
            raise LocalFileError(f"cannot write {path}: {error.strerror or error}") from error
        return report

    def _verify(self, wanted: bool) -> tuple[list[str], dict[str, tuple[int, str]]]:
        """Problems of every chain, and their heads."""
        problems: list[str] = []
        with self._working() as context:
            spaces = self._spaces()
            for space in spaces:
                receive(context, space)
            if wanted:
                for space in spaces:
                    verifier = Verifier(context, space)
                    verifier.ledger()
                    problems += [f"{p.path}: {p.message}" for p in verifier.report().problems]
        heads = {
            f"{space}/{device}": (head.seq, str(head.hash))
            for space in spaces
            for device, head in self._context.state.history.heads(space).items()
        }
        for device, head in self._context.control_heads.items():
            heads[f"{CONTROL}/{device}"] = (head.seq, str(head.hash))
        return list(dict.fromkeys(problems)), dict(sorted(heads.items()))

    def _spaces(self) -> list[NamespaceId]:
        """The namespaces that can be read here."""
        context = self._context
        own = context.identity.device_id
        found = [
            space
            for space in sorted(context.control.epochs)
            if own in context.control.readers(space)
        ]
        return found or [context.namespace]

    # Entries

    def _entries(self, since: int, device: str, actor: str) -> Iterator[AuditEntry]:
        chosen = self._chosen(device)
        sources: list[Iterator[AuditEntry]] = [
            self._content(space, since, chosen, actor) for space in self._spaces()
        ]
        others = [*self._refused(), *self._findings(), *(() if actor else self._control())]
        fitting = [
            entry
            for entry in others
            if entry.at >= since
            and (chosen is None or entry.device_id == chosen)
            and (not actor or entry.actor == actor)
        ]
        sources.append(iter(sorted(fitting, key=_order)))
        return heapq.merge(*sources, key=_order)

    def _chosen(self, device: str) -> DeviceId | None:
        if not device:
            return None
        return (
            ROOT_DEVICE if device == ROOT_DEVICE else find_device(self._context, device).device_id
        )

    def _content(
        self, space: NamespaceId, since: int, device: DeviceId | None, actor: str
    ) -> Iterator[AuditEntry]:
        database = self._context.state.database
        for row in changes(database, space, since=since, device=device, actor=actor):
            yield AuditEntry(
                at=row.written_at,
                outcome="accepted",
                kind=row.op,
                namespace=space,
                device_id=row.device,
                device=self._name(row.device),
                actor=_text(row.actor),
                path=show(row.path),
                version=f"{row.device}:{row.counter}",
                segment=f"{row.device}/{row.seq}",
            )

    def _refused(self) -> Iterator[AuditEntry]:
        for space in self._spaces():
            for event in self._context.state.refused.all(space):
                version = event.version
                yield AuditEntry(
                    at=version.manifest.written_at,
                    outcome="refused",
                    kind=version.op,
                    namespace=space,
                    device_id=version.id.device,
                    device=self._name(version.id.device),
                    actor=_text(version.manifest.actor),
                    path=show(version.manifest.rel_path),
                    version=str(version.id),
                    segment=f"{version.id.device}/{version.seq}",
                    reason=event.reason,
                )

    def _control(self) -> Iterator[AuditEntry]:
        refusals = {(r.device, r.seq, r.index): r.reason for r in self._context.control.refused}
        for segment in self._context.view.segments:
            header = segment.header
            for index, event in enumerate(segment.control_events):
                reason = refusals.get((header.device, header.seq, index), "")
                yield AuditEntry(
                    at=header.written_at,
                    outcome="refused" if reason else "accepted",
                    kind=_text(str(event.get("op"))),
                    namespace=CONTROL,
                    device_id=header.device,
                    device=self._name(header.device),
                    segment=f"{header.device}/{header.seq}",
                    reason=reason,
                    details=_details(event),
                )

    def _findings(self) -> Iterator[AuditEntry]:
        for finding in self._context.state.findings.all():
            yield AuditEntry(
                at=finding.found_at,
                outcome="refused" if finding.kind in ("refused", "revoked") else "noticed",
                kind=finding.kind,
                namespace=finding.namespace,
                device_id=finding.device,
                device=self._name(DeviceId(finding.device)),
                segment=f"{finding.device}/{finding.seq}" if finding.seq else "",
                reason=_text(finding.reason),
            )

    def _name(self, device: DeviceId) -> str:
        record = self._context.control.devices.get(device) or self._context.control.void.get(device)
        return record.name if record else device


def _details(event: Any) -> dict[str, Any]:
    """What of a control event is for people: no keys, bounded texts."""
    found = {k: v for k, v in event.items() if k in SHOWN}
    if isinstance(event.get("device"), dict):
        found |= {k: v for k, v in event["device"].items() if k in SHOWN}
    return {k: _bounded(v) for k, v in found.items()}


def _text(text: str) -> str:
    """A text of somebody else's, on one line, with nothing that steers a terminal."""
    return show(text[:1024].encode("utf-8", "surrogatepass"))


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(str(k)): _bounded(v) for k, v in list(value.items())[:100]}
    if isinstance(value, list | tuple):
        return [_bounded(v) for v in value[:100]]
    return value if isinstance(value, int | float | bool | None) else _text(str(value))


def _order(entry: AuditEntry) -> tuple[int, str, str]:
    return entry.at, entry.device_id, entry.version or entry.segment
