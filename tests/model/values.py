"""Hypothesis strategies for the values of the model."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from hypothesis import strategies as st

from tcfs.model.clock import VectorClock, merge
from tcfs.model.event import ContentEvent, Op, Version
from tcfs.model.ids import ROOT_DEVICE, ChunkId, DeviceId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import path_problem
from tests.values import replace

DEVICES = tuple(DeviceId(str(uuid.UUID(int=n, version=4))) for n in range(1, 5))
HASHES = tuple(bytes([n]) * 32 for n in range(1, 4))

device_ids = st.sampled_from(DEVICES)
counters = st.integers(1, 6)
version_ids = st.builds(VersionId, device_ids, counters)
clocks = st.builds(
    VectorClock, st.dictionaries(st.sampled_from((*DEVICES, ROOT_DEVICE)), st.integers(0, 6))
)
names = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.text(min_size=1, max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from((b"a", b"b.txt", b"\xff", b".hidden", b"x" * 255)),
)
rel_paths = (
    st.lists(names, min_size=1, max_size=4)
    .map(b"/".join)
    .filter(lambda path: path_problem(path) is None)
    .map(RelPath)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
extras = st.dictionaries(
    st.sampled_from(("later", "x-note", "acl")), json_values.filter(lambda v: v is not None)
)
times = st.integers(-(2**62), 2**62)


@st.composite
def manifests(draw, path: RelPath | None = None) -> SyncManifest:
    """Any manifest that a writer could make."""
    kind = draw(st.sampled_from(("file", "dir", "symlink", "tombstone")))
    size = draw(st.integers(0, 4 << 40)) if kind == "file" else 0
    return SyncManifest(
        rel_path=path or draw(rel_paths),
        kind=kind,
        vclock=draw(clocks),
        parents=tuple(draw(st.lists(version_ids, max_size=3, unique=True))),
        written_by=draw(st.text(max_size=10)),
        written_at=draw(st.integers(0, 2**40)),
        file_hash=draw(st.binary(min_size=32, max_size=32)) if kind == "file" else b"",
        file_size=size,
        chunks=tuple(
            ChunkId(chunk)
            for chunk in draw(
                st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3)
                if size
                else st.just([])
            )
        ),
        mode=draw(st.integers(0, 0o7777)),
        mtime_ns=draw(times),
        target=draw(st.binary(min_size=1, max_size=9).filter(lambda t: b"\0" not in t))
        if kind == "symlink"
        else b"",
        actor=draw(st.text(max_size=8)),
        size_class=draw(st.integers(-63, 63)),
        encrypted_file_key=draw(st.sampled_from(("", "a2V5"))),
        extra=draw(extras),
    )


@st.composite
def events(draw) -> ContentEvent:
    """Any event that a writer could say."""
    manifest = draw(manifests())
    op: Op = (
        "delete" if manifest.kind == "tombstone" else draw(st.sampled_from(("write", "setattr")))
    )
    return ContentEvent(op, draw(st.integers(1, 2**63 - 1)), manifest, draw(st.none() | rel_paths))


def version(
    device: DeviceId,
    counter: int,
    path: bytes = b"p",
    parents: Iterable[Version] = (),
    content: int = 0,
    **fields: object,
) -> Version:
    """A version with a clock that covers its parents. ``content`` 0 is a tombstone."""
    before = list(parents)
    own = VersionId(device, counter)
    lamport = max((parent.lamport for parent in before), default=0) + 1
    manifest = SyncManifest(
        rel_path=RelPath(path),
        kind="file" if content else "tombstone",
        vclock=merge(parent.manifest.vclock for parent in before).with_version(own),
        parents=tuple(parent.id for parent in before),
        written_by=f"name of {device[-12:]}",
        written_at=0,
        file_hash=HASHES[(content - 1) % 3] if content else b"",
        file_size=1 if content else 0,
        chunks=(ChunkId(HASHES[(content - 1) % 3]),) if content else (),
        mode=0o644 if content else 0,
        mtime_ns=counter,
    )
    manifest = replace(manifest, **fields)
    return Version(own, lamport, counter, "write" if content else "delete", manifest)


@st.composite
def histories(draw, max_size: int = 12) -> list[Version]:
    """What some devices might have written, in an order in which it could have happened.

    Each version supersedes any of the versions of its path that stood before it.
    """
    made: list[Version] = []
    counts = dict.fromkeys(DEVICES, 0)
    for _ in range(draw(st.integers(0, max_size))):
        device = draw(device_ids)
        counts[device] += 1
        path = draw(st.sampled_from((b"p", b"q")))
        before = [v for v in made if v.manifest.rel_path == path]
        parents = (
            draw(st.lists(st.sampled_from(before), max_size=3, unique_by=id)) if before else []
        )
        made.append(version(device, counts[device], path, parents, draw(st.integers(0, 3))))
    return made
