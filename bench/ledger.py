"""The history: appending, folding, and how a new device begins.

    .venv/bin/python bench/ledger.py [--segments 10000] [--devices 20] [--files 1000000]

Devices sign segments into a store in a directory, each having seen the others' of the round before.
What readers do with them is timed in a process of its own, so that its memory can be told: a new
device that replays all of it, another that begins from a snapshot, one that knows all and takes up
a few segments more. Then a tree of ``--files`` files, whose content nobody stored, is taken up by a
new device from a snapshot: all that a first pull does before it asks for content.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.measure import Command, measure
from tcfs.config.load import LoadedConfig, load_config
from tcfs.content.address import ChunkAddress
from tcfs.content.seal import SALT_SIZE
from tcfs.host.garbage import collect_rarely
from tcfs.ledger.segment import Place, SegmentDraft, seal_segment
from tcfs.model.clock import VectorClock
from tcfs.model.event import ChainHead, ContentEvent
from tcfs.model.ids import ChunkId, DeviceId, NamespaceId, PackId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.sync import session
from tcfs.sync.commit import Committer, Draft
from tcfs.sync.context import Context
from tcfs.sync.fleet import Fleet
from tcfs.sync.gc.snapshots import snapshot
from tcfs.sync.receive import receive
from tcfs.sync.sealing import sealing
from tcfs.sync.upload import Stored

EVENTS = 10
"""In each segment."""
PROBE = 100
"""Segments that a device which knows all others takes up."""


@dataclass(frozen=True)
class LedgerFigures:
    """Seconds, counts a second, bytes.

    Attributes:
        append_s: per event, of pushes of many files.
        saves_s: segments of one event a second, as single saves make them.
        few_s, few_early_s: taking up ``PROBE`` segments with all history known, and with none.
        boot_files: files of the large tree; boot_s, boot_peak: a new device takes it up.
    """

    segments: int
    devices: int
    append_events: float
    saves: float
    replay_s: float
    replay_events: float
    replay_peak: int
    snapshot_s: float
    bootstrap_s: float
    few_early_s: float
    few_s: float
    boot_files: int
    boot_s: float
    boot_peak: int


class Invented:
    """Stands for an upload: says where chunks lie that nobody stored."""

    def __init__(self) -> None:
        self._waiting: list[ChunkId] = []
        self._random = random.Random(1)

    def add(self, chunks: tuple[ChunkId, ...]) -> None:
        self._waiting += chunks

    of_later: frozenset[PackId] = frozenset()

    def cut(self, seq: int) -> Stored:
        pack = PackId(self._random.randbytes(32).hex())
        taken, self._waiting = self._waiting, []
        return Stored(
            {c: ChunkAddress(pack, 100 + (n >> 8), 1000, n & 255, 1) for n, c in enumerate(taken)},
            None,
        )

    def arrived(self, stored: Stored) -> bool:
        return True

    def settle(self, stored: Stored) -> None:
        """There is nothing to wait for."""


class Repository:
    """A store, and devices in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._names = 0
        self._admin: Fleet | None = None

    def environ(self, name: str) -> dict[str, str]:
        home = str(self.top / name)
        return {"HOME": home, "TCFS_HOME": home, "TCFS_REMOTE": (self.top / "store").as_uri()}

    def loaded(self, name: str) -> LoadedConfig:
        return load_config(environ=self.environ(name))

    def device(self) -> str:
        """The name of one more device."""
        name = f"d{self._names}"
        self._names += 1
        if name == "d0":
            session.init_fleet(self.loaded(name), name=name)
        else:
            with_admin = session.open_fleet(self.loaded("d0"), actor="bench")
            code = with_admin.invite().code
            with_admin.close()
            session.enroll_fleet(self.loaded(name), name=name, invite=code)
        return name

    def open(self, name: str) -> Fleet:
        return session.open_fleet(self.loaded(name), actor="bench")

    def read(self, name: str) -> tuple[float, int]:
        """Seconds that a device takes to receive, and its peak memory, in a process of its own."""
        program = [sys.executable, __file__, "--receive", str(self.top), name]
        ran = measure(Command(program, {}))
        told = json.loads(ran.output.strip().splitlines()[-1])
        return float(told["seconds"]), ran.sample.peak


def context_of(fleet: Fleet) -> Context:
    return fleet._context


def manifest(path: bytes, source: random.Random) -> SyncManifest:
    """A small file's, as a push drafts it."""
    return SyncManifest(
        rel_path=RelPath(path),
        kind="file",
        vclock=VectorClock({}),
        parents=(),
        written_by="",
        written_at=0,
        file_hash=source.randbytes(32),
        file_size=source.randrange(1, 20_000),
        chunks=(ChunkId(source.randbytes(32)),),
        mode=0o644,
        mtime_ns=1_700_000_000_000_000_000 + source.randrange(1 << 50),
    )


def append_files(context: Context, prefix: bytes, files: int) -> None:
    """Commit a tree in parts, as a push does."""
    source = random.Random(files)
    invented = Invented()
    committer = Committer(context, context.namespace, upload=invented)  # type: ignore[arg-type]
    for number in range(files):
        path = b"%b/part%03d/set%05d/file%07d.txt" % (
            prefix,
            number // 10_000,
            number // 100,
            number,
        )
        made = manifest(path, source)
        invented.add(made.chunks)
        committer.add([Draft("write", made, VectorClock({}))])
        if committer.full:
            committer.flush()
    committer.flush()


@dataclass
class Chain:
    """What a device that only signs has to know of itself."""

    fleet: Fleet
    head: ChainHead | None = None
    counter: int = 0

    @property
    def id(self) -> DeviceId:
        return context_of(self.fleet).identity.device_id


def sign_rounds(chains: list[Chain], rounds: Iterator[int]) -> None:
    """In each round every device signs a segment that has seen the round before.

    They edit files of their own over and over, and a new one now and then.
    """
    source = random.Random(2)
    for number in rounds:
        seen = {chain.id: chain.head for chain in chains if chain.head is not None}
        for chain in chains:
            sign_one(chain, number, seen, source)


def sign_one(
    chain: Chain, number: int, seen: Mapping[DeviceId, ChainHead], source: random.Random
) -> None:
    context = context_of(chain.fleet)
    namespace = context.namespace
    events = []
    for event in range(EVENTS):
        chain.counter += 1
        path = f"{chain.id[:8]}/file{(number * EVENTS + event) % 2000}.txt".encode()
        version = VersionId(chain.id, chain.counter)
        authored = manifest(path, source).authored(
            VectorClock({}).with_version(version), "bench", 1_700_000_000, "bench"
        )
        before = chain.counter - 2000
        if before > 0:
            from msgspec.structs import replace

            authored = replace(authored, parents=(VersionId(chain.id, before),))
        events.append(ContentEvent("write", chain.counter, authored))
    pack = PackId(source.randbytes(32).hex())
    addresses = {
        chunk: ChunkAddress(pack, 100, 1000, at, 1)
        for at, event in enumerate(events)
        for chunk in event.manifest.chunks
    }
    head = chain.head
    keys = sealing(context, namespace)
    sealed = seal_segment(
        SegmentDraft(
            place=Place(
                namespace=namespace,
                seq=head.seq + 1 if head else 1,
                prev=head.hash if head else "",
                lamport=number + 1,
                seen={device: h for device, h in seen.items() if device != chain.id},
                control=context.control_heads,
            ),
            written_at=1_700_000_000,
            events=events,
            addresses=addresses,
        ),
        repo=context.repo,
        signer=context.identity,
        salt=os.urandom(SALT_SIZE),
        keyring=keys.keyring,
        epoch=keys.epoch,
        cipher=keys.cipher,
    )
    context.store.put(sealed.key, sealed.data)
    chain.head = sealed.head


def say(text: str) -> None:
    print(f"  ledger: {text}", file=sys.stderr, flush=True)


def run_all(top: Path, segments: int, devices: int, files: int) -> LedgerFigures:
    """All of it."""
    place = Repository(top / "rounds")
    # The admin does not sign: a device's own chain never goes on without it.
    first, late, fresh = place.device(), place.device(), place.device()
    names = [place.device() for _ in range(devices)]
    fleets = [place.open(name) for name in names]
    for fleet in fleets:
        receive(context_of(fleet), context_of(fleet).namespace)
    chains = [Chain(fleet) for fleet in fleets]
    rounds = max(segments // devices, 2)
    few = max(PROBE // devices, 1)
    sign_rounds(chains, iter(range(few)))
    early_s, _ = place.read(late)
    sign_rounds(chains, iter(range(few, rounds)))
    say(f"{rounds * devices} segments signed")
    replay_s, replay_peak = place.read(first)
    say(f"replayed in {replay_s:.1f} s")
    place.read(late)
    admin = place.open(first)
    begun = time.perf_counter()
    snapshot(context_of(admin), compaction=False)
    snapshot_s = time.perf_counter() - begun
    admin.close()
    bootstrap_s, _ = place.read(fresh)
    say(f"snapshot in {snapshot_s:.1f} s, bootstrap in {bootstrap_s:.1f} s")
    sign_rounds(chains, iter(range(rounds, rounds + few)))
    few_s, _ = place.read(late)
    for fleet in fleets:
        fleet.close()

    place = Repository(top / "tree")
    writer, reader = place.device(), place.device()
    fleet = place.open(writer)
    context = context_of(fleet)
    receive(context, context.namespace)
    begun = time.perf_counter()
    append_files(context, b"tree", files)
    append_events = files / (time.perf_counter() - begun)
    begun, saves = time.perf_counter(), 200
    for number in range(saves):
        append_files(context, b"save%d" % number, 1)
    saves_rate = saves / (time.perf_counter() - begun)
    say(f"{append_events:,.0f} events/s appended, {saves_rate:,.0f} single saves/s")
    snapshot(context, compaction=False)
    fleet.close()
    boot_s, boot_peak = place.read(reader)
    say(f"{files:,} files taken up in {boot_s:.1f} s, {boot_peak / 1e6:.0f} MB")
    return LedgerFigures(
        segments=rounds * devices,
        devices=devices,
        append_events=append_events,
        saves=saves_rate,
        replay_s=replay_s,
        replay_events=rounds * devices * EVENTS / replay_s,
        replay_peak=replay_peak,
        snapshot_s=snapshot_s,
        bootstrap_s=bootstrap_s,
        few_early_s=early_s,
        few_s=few_s,
        boot_files=files,
        boot_s=boot_s,
        boot_peak=boot_peak,
    )


def receive_here(top: Path, name: str) -> None:
    """What ``Repository.read`` runs."""
    collect_rarely()
    fleet = Repository(top).open(name)
    context = context_of(fleet)
    begun = time.perf_counter()
    receive(context, NamespaceId(context.namespace))
    seconds = time.perf_counter() - begun
    fleet.close()
    print(json.dumps({"seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--receive", nargs=2, metavar=("TOP", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        receive_here(Path(options.receive[0]), options.receive[1])
        return
    with tempfile.TemporaryDirectory() as top:
        figures = run_all(Path(top), options.segments, options.devices, options.files)
    print(json.dumps(asdict(figures), indent=1))


if __name__ == "__main__":
    main()
