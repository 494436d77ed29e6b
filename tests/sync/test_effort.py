"""What a push may take of the machine: what is in flight fits into the memory that is given."""

from __future__ import annotations

import pytest

from tcfs.content.ingest import SourceFile
from tcfs.host.base import Stat
from tcfs.host.executor import IN_FLIGHT
from tcfs.sync.upload import BATCH_BYTES, SMALLEST_BATCH, Upload, _batches
from tests.sync.kit import World

MIB = 1 << 20


def sources(count: int, size: int) -> list[SourceFile]:
    return [
        SourceFile(b"f%d" % n, Stat("file", size, 0o644, 0, 1, n, 0), n, None) for n in range(count)
    ]


@pytest.mark.parametrize(("workers", "room"), [(2, 64 * MIB), (16, 64 * MIB), (2, 1024 * MIB)])
def test_all_batches_in_flight_and_their_frames_fit_into_the_memory_given(workers, room):
    files = sources(20_000, 16 << 10)
    total = sum(source.expected.size for source in files)
    batches = list(_batches(files, total, workers, room))
    assert [source for batch in batches for source in batch] == files
    largest = max(sum(source.expected.size for source in batch) for batch in batches)
    assert largest <= BATCH_BYTES
    assert 2 * IN_FLIGHT * workers * largest <= room or largest <= SMALLEST_BATCH


@pytest.mark.parametrize(("jobs", "threads"), [("1", 1), ("3", 3), ("64", 8), ("0", 2)])
def test_a_large_file_is_compressed_by_as_many_threads_as_there_may_be_jobs(
    world: World, jobs, threads
):
    anna = world.device("anna", TCFS_SYNC_JOBS=jobs)
    context = anna.fleet._context
    with Upload(context, context.namespace, 1) as upload:
        assert upload._threads == threads
