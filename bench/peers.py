"""The same work for every client: push, push again, pull, edit, push, pull; beside the bare limits.

In a round each client does its part on the same tree; the tree is edited once, then each pushes and
pulls the edit. The order of clients differs from round to round. After each pull the names and
sizes of all files are compared with the tree's, and the content of some.

Nothing with many files is removed before all is measured: for minutes afterwards ext4 looks at
every inode that was freed before it takes one, which makes creating files several times slower.
A tree of a few large files is made anew for each client, with a server of its own, and everything
is removed once that one is through: together they would fill some 40 GB.

A peer that fails is noted and left out from there on; tcfs failing ends the workload.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bench import clients as c
from bench import trees
from bench.clients import Client
from bench.measure import Command, Failed, Sample, measure, run
from bench.server import CountedServer, Traffic, counted_server

FIRST, NOTHING, PULL = "first push", "no-op push", "pull"
EDITED, PULL_EDIT = "push after edit", "pull after edit"
STEPS = (FIRST, NOTHING, PULL, EDITED, PULL_EDIT)
START = "no-op push of one file"
"""What starting costs, right beside the no-op push that it is taken from."""
COPY, HASH, PARTS = "cp -a", "read + BLAKE3", "read, compress, seal"
UPLOAD, DOWNLOAD = "boto3 upload", "boto3 ranged download"
DURABLE = "boto3 ranged download, synced"
BARE = "bare"
COMPARED = 300
"""Files whose content is compared after a pull."""


class Key(NamedTuple):
    """What a sample is of."""

    workload: str
    client: str
    step: str


Results = dict[Key, list[Sample]]


@dataclass(frozen=True)
class Workload:
    """A tree and an edit of it; both the same in every round.

    Attributes:
        few_files: it may be removed as soon as it was measured.
        only: the clients that take part; empty for all.
    """

    name: str
    what: str
    make: Callable[[Path], None]
    edit: Callable[[Path], None]
    few_files: bool = False
    only: Collection[str] = ()


def workloads(scale: float) -> dict[str, Workload]:
    """SMALL, LARGE and WIDE; at scale 1 as large as their descriptions say."""
    small, large = max(int(50_000 * scale), 100), max(int((1 << 30) * scale), 4 << 20)
    wide = max(int(1_000_000 * scale), 1000)

    def make_large(tree: Path) -> None:
        trees.random_file(tree / "random.bin", large)
        trees.log_file(tree / "service.log", large)

    def edit_small(tree: Path) -> None:
        trees.edit_small_tree(tree)

    return {
        w.name: w
        for w in (
            Workload(
                "SMALL",
                f"{small:,} source-like files, {small * 8 / 1000:,.0f} MB; edit: a line in 1 %",
                lambda tree: trees.small_tree(tree, small, small * 8000),
                edit_small,
            ),
            Workload(
                "LARGE",
                f"{large >> 20:,} MiB random and {large >> 20:,} MiB of log; edit: 1 KB inserted "
                "in the middle of the log",
                make_large,
                lambda tree: trees.insert_bytes(
                    tree / "service.log", large // 2, b"x" * 1023 + b"\n"
                ),
                few_files=True,
            ),
            Workload(
                "WIDE",
                f"{wide:,} files of 50 to 500 bytes; edit: a line in 1 %",
                lambda tree: trees.wide_tree(tree, wide),
                edit_small,
                only=(c.Tcfs.name, c.TcfsS3.name, c.Restic.name, c.Borg.name),
            ),
        )
    }


@dataclass
class Bench:
    """Rounds, and what they found.

    Attributes:
        patience: a peer whose first push took longer, seconds, is not asked again, unless aims
            rest on it.
        told: called when there are new results.
    """

    work: Path
    clients: tuple[type[Client], ...]
    patience: float = 15.0
    results: Results = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    told: Callable[[], None] = lambda: None
    rounds: int = 0
    _out: set[tuple[str, str]] = field(default_factory=set)
    _made: dict[str, Path] = field(default_factory=dict)

    def note(self, workload: str, client: str, step: str, sample: Sample) -> None:
        self.results.setdefault(Key(workload, client, step), []).append(sample)
        print(f"  {workload} {client}: {step} {sample.wall:.2f} s", file=sys.stderr, flush=True)

    def round(self, workload: Workload) -> None:
        """One round of a workload, with a tree and stores of its own."""
        chosen = [kind for kind in self.clients if self.takes_part(workload, kind)]
        shift = self.rounds % len(chosen)
        self.rounds += 1
        # tcfs on file:// comes first: the bare upload is of its packs.
        order = chosen[:1] + chosen[1 + shift :] + chosen[1 : 1 + shift]
        parts = [[kind] for kind in order] if workload.few_files else [order]
        for number, part in enumerate(parts):
            self._share(workload, part, bare=not number)

    def _share(self, workload: Workload, kinds: list[type[Client]], *, bare: bool) -> None:
        """All steps of some clients, on one tree and one server."""
        top = Path(tempfile.mkdtemp(prefix=workload.name.lower(), dir=self.work))
        tree = top / "tree"
        if workload.few_files:
            # The same bytes each time: copying them takes a tenth of making them.
            shutil.copytree(self._original(workload), tree)
        else:
            tree.mkdir()
            workload.make(tree)
        needed = bare and any(kind.remote for kind in self.clients)
        with server_for(kinds, top / "weed", needed=needed) as server:
            running = list[Client]()
            for number, kind in enumerate(kinds):
                client = kind(top / f"c{number}", server)
                with self._tolerating(workload, client) as worked:
                    client.prepare(tree)
                    for step in STEPS[:3]:
                        self._step(workload, client, step, tree)
                        if step == NOTHING and isinstance(client, c.Tcfs):
                            self._start(workload, client, top / f"one{number}")
                    worked.append(client)
                running += worked
                self.told()
            if bare:
                self._bare(workload, tree, top, server, running[0])
                self.told()
            workload.edit(tree)
            for client in running:
                with self._tolerating(workload, client):
                    for step in STEPS[3:]:
                        self._step(workload, client, step, tree)
                self.told()
        if workload.few_files:
            shutil.rmtree(top)

    @contextmanager
    def _tolerating(self, workload: Workload, client: Client) -> Iterator[list[Client]]:
        """A peer may fail in here; it is noted, and does not take part in that workload again."""
        try:
            yield []
        except Failed as failure:
            if isinstance(client, c.Tcfs):
                raise
            self._out.add((workload.name, client.name))
            said = str(failure).strip()
            self.notes.append(
                f"{client.name} failed with {workload.name}: {said.splitlines()[-1][:200]}"
            )
            print(f"  {client.name} FAILED: {said}", file=sys.stderr, flush=True)

    def _original(self, workload: Workload) -> Path:
        made = self._made.get(workload.name)
        if made is None:
            made = self._made[workload.name] = Path(tempfile.mkdtemp(dir=self.work)) / "tree"
            made.mkdir()
            workload.make(made)
        return made

    def takes_part(self, workload: Workload, kind: type[Client]) -> bool:
        if workload.only and kind.name not in workload.only:
            return False
        if (workload.name, kind.name) in self._out:
            return False
        samples = self.results.get(Key(workload.name, kind.name, FIRST), ())
        return kind.always or all(sample.wall <= self.patience for sample in samples)

    def _start(self, workload: Workload, client: Client, one: Path) -> None:
        one.mkdir()
        (one / "file").write_text("one\n")
        run(client.push(one))
        self.note(workload.name, client.name, START, measure(client.push(one)).sample)

    def _step(self, workload: Workload, client: Client, step: str, tree: Path) -> None:
        out = client.place / "out"
        pulls = step in (PULL, PULL_EDIT)
        command = client.pull(tree, out) if pulls else client.push(tree)
        before = None if step == NOTHING or pulls else client.stored() if step == EDITED else 0
        os.sync()
        counts = client.remote and client.counted
        counted = client.server.traffic() if counts else Traffic(0, 0, 0)
        sample = measure(command).sample
        if counts:
            traffic = client.server.traffic().since(counted)
            sample = replace(
                sample,
                sent=traffic.sent,
                received=traffic.received,
                requests=traffic.requests,
            )
        if before is not None and client.counted:
            sample = replace(sample, stored=client.stored() - before)
        if pulls:
            check(tree, client.result(out))
        self.note(workload.name, client.name, step, sample)

    def _bare(
        self,
        workload: Workload,
        tree: Path,
        top: Path,
        server: CountedServer | None,
        stored_by: Client,
    ) -> None:
        os.sync()
        copied = measure(Command(["cp", "-a", str(tree), str(top / "copy")], {})).sample
        self.note(workload.name, BARE, COPY, copied)
        if workload.few_files:
            shutil.rmtree(top / "copy")
        self._program(workload, HASH, ["hash", str(tree)], {})
        self._program(workload, PARTS, ["parts", str(tree)], {})
        if server is None or not isinstance(stored_by, c.Tcfs):
            return
        environ = {
            "BARE_ENDPOINT": server.weed.s3_endpoint,
            "BARE_ACCESS": server.weed.access,
            "BARE_SECRET": server.weed.secret,
            "BARE_BUCKET": server.bucket,
        }
        packs = stored_by.store / "packs"
        self._program(workload, UPLOAD, ["upload", "bare", str(packs)], environ)
        self._program(workload, DOWNLOAD, ["download", "bare", str(top / "got")], environ)

    def _program(
        self, workload: Workload, step: str, arguments: list[str], environ: dict[str, str]
    ) -> None:
        os.sync()
        program = str(Path(__file__).with_name("bare.py"))
        ran = measure(Command([sys.executable, program, *arguments], environ))
        inner = json.loads(ran.output.strip().splitlines()[-1])
        sample = replace(ran.sample, wall=inner["wall"], cpu=inner["cpu"])
        self.note(workload.name, BARE, step, sample)
        if "synced" in inner:
            synced = replace(sample, wall=inner["synced"])
            self.note(workload.name, BARE, DURABLE, synced)


def server_for(
    chosen: list[type[Client]], directory: Path, *, needed: bool
) -> AbstractContextManager[CountedServer | None]:
    """A server, if it is needed or any of these clients needs one."""
    wanted = needed or any(kind.remote for kind in chosen)
    return counted_server(directory) if wanted else nullcontext()


def check(tree: Path, out: Path) -> None:
    """Fail unless a pull brought back the tree: all names and sizes, the content of some files."""
    wanted, found = dict(c.files_below(tree)), dict(c.files_below(out))
    if wanted != found:
        different = sorted(wanted.items() ^ found.items())[:5]
        raise Failed(f"{out} is not the tree that was pushed: {different}")
    names = sorted(wanted)
    for name in names[:: max(len(names) // COMPARED, 1)]:
        with (tree / name).open("rb") as one, (out / name).open("rb") as other:
            while True:
                left, right = one.read(1 << 22), other.read(1 << 22)
                if left != right:
                    raise Failed(f"{out / name} has other bytes than what was pushed")
                if not left:
                    break
