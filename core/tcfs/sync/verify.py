"""Checking everything again: chains, signatures, packs, and local files against the tree."""

from __future__ import annotations

from collections.abc import Iterator

from tcfs.content.unpack import pack_problems
from tcfs.errors import AccessError, IntegrityError, TcfsError
from tcfs.ledger.chain import Finding
from tcfs.ledger.fetch import fetch_in_parts
from tcfs.model.event import ChainHead
from tcfs.model.ids import ChunkId, NamespaceId, PackId
from tcfs.model.paths import ROOT, join, show
from tcfs.model.plan import LocalChange, LocalEntry, local_change
from tcfs.state.roots import Root
from tcfs.sync import leftovers, places
from tcfs.sync.chains import opener
from tcfs.sync.context import Context
from tcfs.sync.leftovers import hash_file
from tcfs.sync.materialise import materialise
from tcfs.sync.receive import refresh_control
from tcfs.sync.results import LIST_LIMIT, Problem, VerifyReport
from tcfs.sync.scan import local_entry, look, unreadable
from tcfs.sync.wanted import Wanted


class Verifier:
    """One run of ``tcfs verify``. Problems are gathered; only a failing store ends it early."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._namespace = namespace
        self._problems: list[Problem] = []
        self._count = 0
        self._repaired: list[str] = []
        self._segments = self._packs = self._bytes = self._files = 0

    def report(self) -> VerifyReport:
        """What was found so far."""
        return VerifyReport(
            ok=not self._count,
            segments=self._segments,
            packs=self._packs,
            bytes_read=self._bytes,
            files=self._files,
            problems=tuple(self._problems),
            problem_count=self._count,
            repaired=tuple(self._repaired[:LIST_LIMIT]),
        )

    def ledger(self) -> None:
        """Every chain from its first segment, as if nothing were known.

        Raises:
            StoreError: a listing or download failed.
        """
        context = self._context
        refresh_control(context)
        for finding in context.view.findings:
            if not self._is_settled(finding):
                self._problem(f"ledger/_control/{finding.device}/{finding.seq}", finding.reason)
        from tcfs.sync.gc.loading import start_of

        heads, known = start_of(context, self._namespace)
        findings: tuple[Finding, ...] = ()
        parts = fetch_in_parts(
            context.store,
            self._namespace,
            heads,
            opener(context, self._namespace),
            known=lambda device, head: known.get((device, head)),
            state=context.control,
            control_known=context.view.knows,
        )
        for result in parts:
            known.update(result.known)
            findings += result.findings
            for segment in result.segments:
                self._segments += 1
                self._bytes += segment.size
            context.report("verify", self._segments, 0, "segments")
            del result
        for finding in findings:
            if not self._is_settled(finding):
                self._problem(
                    f"ledger/{self._namespace}/{finding.device}/{finding.seq}", finding.reason
                )
        told = {finding.device for finding in findings}
        for device, seq, segment_hash in context.state.history.segments(self._namespace):
            if device not in told and (device, ChainHead(seq, segment_hash)) not in known:
                told.add(device)
                self._problem(
                    f"ledger/{self._namespace}/{device}/{seq}",
                    "was known here, and is no longer in the store",
                )

    def _is_settled(self, finding: Finding) -> bool:
        """Whether there is nothing left to do about it.

        Of two machines with one identity nothing counts that its revocation does not name.
        """
        record = self._context.control.devices.get(finding.device)
        revoked = record is not None and record.revoked
        return finding.severity == "info" or (finding.problem == "fork" and revoked)

    def packs(self, *, read_data: bool) -> None:
        """Every pack that a segment names: that it is there, and with ``read_data`` every byte.

        Raises:
            StoreError: the store failed; a pack that is missing is a problem instead.
        """
        context = self._context
        keys = context.keys(self._namespace)
        scope = context.scope(self._namespace)
        locations = context.state.index.packs(self._namespace)
        listed = {info.key: info.size for info in context.store.list("packs/")}
        marked = context.state.garbage.marked()
        for done, location in enumerate(locations):
            context.report("verify", done, len(locations), "packs")
            missing = location.offset == 0 and location.key not in listed
            if location.id in marked and (location.offset or missing):
                continue  # Nothing counts on it, and it may be gone.
            self._packs += 1
            if missing:
                self._problem(f"pack {location.id}", "is not in the store", self._used(location.id))
                continue
            if not read_data:
                continue
            data = context.store.get(location.key)
            if location.offset:
                data = data[location.offset :]
            self._bytes += len(data)
            try:
                for problem in pack_problems(location.id, data, scope, keys):
                    self._problem(f"pack {location.id}", problem.message, self._used(location.id))
            except AccessError as error:
                self._problem(f"pack {location.id}", error.message)

    def references(self) -> None:
        """Every live version's chunks are somewhere."""
        index = self._context.state.index
        for head in self._context.state.history.tree(self._namespace, ROOT):
            for version in head.siblings:
                missing: list[ChunkId] = [
                    chunk
                    for chunk in version.manifest.chunks
                    if index.address(self._namespace, chunk) is None
                ]
                if missing:
                    self._problem(
                        show(head.path),
                        f"{len(missing)} of its chunks are in no pack that is known",
                    )

    def _used(self, pack: PackId) -> str:
        paths = self._context.state.history.paths_using(
            self._namespace, self._context.state.index.chunks_of(pack), 5
        )
        return "Concerns " + ", ".join(show(path) for path in paths) if paths else ""

    def local(self, *, repair: bool) -> None:
        """Local files against the base, content and all; damaged ones come back from the store.

        A file whose stat is what the base says and whose bytes are not was damaged on disk: with
        ``repair`` it is replaced, its bytes kept beside it. One whose stat differs was edited; that
        is for a push.
        """
        for recorded in self._context.state.roots.all():
            root = recorded
            try:
                root = places.adopt(self._context, root)
                if repair:
                    # What a repair that was cut off left is in the way of this one.
                    for problem in leftovers.recover(self._context, root):
                        self._add(problem)
            except TcfsError as error:
                self._problem(show(root.local), error.message, error.remedy)
                continue
            damaged = list(self._damaged(root))
            if repair and damaged:
                self._repair(root, damaged)

    def _damaged(self, root: Root) -> Iterator[Wanted]:
        context = self._context
        base = context.state.roots.base(root)
        for done, (path, known) in enumerate(sorted(base.items())):
            context.report("verify", done, len(base), "files")
            local = root.local + b"/" + path if path else root.local
            try:
                stat = look(context.host.files, root.local, path)
                entry: LocalEntry | None = local_entry(stat)
                if entry is None or local_change(known, entry) is not LocalChange.NONE:
                    continue
                self._files += 1
                if entry.kind != "file":
                    continue
                self._bytes += entry.size
                if hash_file(context.host.files, local) == known.file_hash:
                    continue
            except FileNotFoundError:
                continue
            except OSError as error:
                self._add(unreadable(join(root.remote, path), error))
                continue
            self._problem(
                show(join(root.remote, path)),
                "its bytes on this disk are not those that were synced, though its size and times "
                "are",
                "Bring it back from the store with: tcfs verify --local --repair",
            )
            head = context.state.history.head(root.namespace, join(root.remote, path))
            if head.version is not None:
                yield Wanted(path, head.ids, head.clock, head.version, entry)

    def _repair(self, root: Root, damaged: list[Wanted]) -> None:
        done = materialise(self._context, root, damaged, keep_displaced=True)
        for problem in done.problems:
            self._add(problem)
        for wanted in damaged:
            if wanted.path not in done.failed:
                self._repaired.append(show(join(root.remote, wanted.path)))

    def _problem(self, path: str, message: str, remedy: str = "") -> None:
        self._add(Problem(path, IntegrityError.code, message, remedy))

    def _add(self, problem: Problem) -> None:
        self._count += 1
        if len(self._problems) < LIST_LIMIT:
            self._problems.append(problem)
