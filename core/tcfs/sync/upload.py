"""The content side of a push: files in, stored chunks out.

Small files go to the executor in batches, large ones are read here with helper threads. Frames are
sealed into packs in this thread alone, and packs are uploaded by a few threads while the next is
filled. A pack that is in the store is recorded as pending at once, so that a push that is cut off
goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final, NamedTuple

from tcfs.content.address import ChunkAddress
from tcfs.content.ingest import (
    Recipe,
    RefusedFile,
    SmallBatch,
    SourceFile,
    StoredFile,
    ingest_small,
)
from tcfs.content.ingest_large import DEFAULT_THREADS, ingest_large
from tcfs.content.known import KnownChunks, NothingKnown
from tcfs.content.pack import Pack, PackBuilder, PackHeader
from tcfs.content.packer import Packer
from tcfs.content.seal import SALT_SIZE
from tcfs.content.unpack import PackReader, addresses
from tcfs.errors import IntegrityError
from tcfs.host.base import Executor
from tcfs.host.executor import IN_FLIGHT, SerialExecutor
from tcfs.host.native import give_back_large_blocks
from tcfs.ledger.header import MAX_INLINE_PACK
from tcfs.model.ids import ChunkId, NamespaceId, PackId, StoreKey
from tcfs.state.index import PackLocation, StoredChunks
from tcfs.store.base import ObjectMissing
from tcfs.store.open import MIB
from tcfs.sync.context import Context
from tcfs.sync.sealing import sealing
from tcfs.sync.stores import uploads_at_once

BATCH_BYTES: Final = 4 << 20
SMALLEST_BATCH: Final = 256 << 10
BATCH_FILES: Final = 512
LARGE: Final = 8 << 20
"""Bytes from which a file is read in pieces."""
MOST_THREADS: Final = 8
"""That compress one large file: each keeps frames in memory."""
POOL_WORTH: Final = 24 << 20
"""Bytes of small files from which worker processes pay for their start."""


class Sizes(NamedTuple):
    """Bytes of files that are stored together: of the small ones, and of those read in pieces."""

    small: int
    large: int


def sizes_of(sizes: Iterable[int]) -> Sizes:
    """The sums."""
    small = large = 0
    for size in sizes:
        if size < LARGE:
            small += size
        else:
            large += size
    return Sizes(small, large)


class Stored(NamedTuple):
    """What a segment is to tell of.

    Attributes:
        addresses: where new chunks are.
        inline: the pack that travels inside the segment, if any.
        flying: the packs that may not be in the store yet: ``Upload.settle`` waits for them.
    """

    addresses: dict[ChunkId, ChunkAddress]
    inline: Pack | None
    flying: frozenset[PackId] = frozenset()


def pack_key(pack: PackId) -> StoreKey:
    """The store key of a pack."""
    return StoreKey(f"packs/{pack[:2]}/{pack}")


class Upload:
    """Stores content for the next segments of this device's chain. Use as a context manager."""

    def __init__(self, context: Context, namespace: NamespaceId, seq: int) -> None:
        self._context = context
        self._namespace = namespace
        self._seq = seq
        self._keys = context.keys(namespace)
        self._uploads = uploads_at_once(context.config, context.store.endpoint)
        self._pool = ThreadPoolExecutor(self._uploads, thread_name_prefix="tcfs-upload")
        self._flying: dict[Future[None], Pack] = {}
        self._sent: set[PackId] = set()
        sync = context.config.sync
        self._room = sync.memory_mb * MIB
        # A large file is read here, and compressed beside that.
        self._threads = min(sync.jobs, MOST_THREADS) or DEFAULT_THREADS
        self._executor: Executor | None = None
        index = context.state.index
        known = (
            NothingKnown()
            if index.is_empty(namespace)
            else StoredChunks(context.state.database.path, namespace)
        )
        self._know(known)
        self._inline: Pack | None = None
        self._settling = False
        self.bytes_sent = 0
        self.bytes_read = 0
        self.packs = 0

    def __enter__(self) -> Upload:
        self._recover_pending()
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._executor is not None:
            self._executor.close()

    def _know(self, known: KnownChunks) -> None:
        self._known = known
        self._packer = Packer(self._new_builder, self._send, known=known)

    @property
    def of_later(self) -> frozenset[PackId]:
        """Packs that were sent since the last ``cut``: none of them is that segment's."""
        return frozenset(self._sent)

    def _recover_pending(self) -> None:
        """Take up what an earlier push stored and could not commit."""
        context, found = self._context, False
        for location in context.state.index.pending_packs(self._namespace):
            try:
                data = context.store.get(location.key)
                reader = PackReader(location.id, data, context.scope(self._namespace), self._keys)
                frames = reader.read_trailer(data)
            except (ObjectMissing, IntegrityError):
                # No segment named it: what was in it is stored again.
                context.state.index.forget_pack(location.id)
                continue
            context.state.index.add_chunks(
                self._namespace, addresses(location.id, frames), announced=False
            )
            found = True
        if found:
            self._know(StoredChunks(context.state.database.path, self._namespace))

    # Packs

    def _new_builder(self) -> PackBuilder:
        context = self._context
        sealed = sealing(context, self._namespace)
        key = sealed.keyring.epoch_key(sealed.epoch) if sealed.keyring else b""
        header = PackHeader(
            cipher=sealed.cipher,
            repo=context.repo,
            device=context.identity.device_id,
            seq=self._seq,
            epoch=sealed.epoch,
            salt=context.host.entropy.token(SALT_SIZE),
            namespace=self._namespace,
        )
        return PackBuilder(header, key)

    def _send(self, pack: Pack) -> None:
        if self._settling and len(pack.data) <= MAX_INLINE_PACK:
            self._inline = pack
            return
        while len(self._flying) >= self._uploads:
            self._land(FIRST_COMPLETED)
        self._context.check_cancel()
        self._sent.add(pack.id)
        self._flying[self._pool.submit(self._put, pack)] = pack

    def _put(self, pack: Pack) -> None:
        self._context.store.put(pack_key(pack.id), pack.data)

    def _land_arrived(self) -> None:
        """Record what is in the store by now, so that a run that is cut off need not send it."""
        if any(future.done() for future in self._flying):
            self._land(FIRST_COMPLETED)

    def _land(self, until: str) -> None:
        """Wait for uploads and record those that are in the store."""
        done, _ = wait(self._flying, return_when=until)
        for future in done:
            pack = self._flying.pop(future)
            future.result()
            self._context.state.index.add_pack(
                self._namespace, PackLocation(pack.id, pack_key(pack.id)), pending=True
            )
            self.bytes_sent += len(pack.data)
            self.packs += 1

    def cut(self, seq: int) -> Stored:
        """Finish the open pack; what was stored since the last cut is for one segment, number seq.

        A last pack that is small enough is handed over instead of sent, to travel inside the
        segment: then saving one file is one request. What is stored from here on is for a later
        segment. Before the next cut this one is to be settled.
        """
        self._settling, self._inline = True, None
        self._packer.flush()
        self._settling = False
        self._seq = seq + 1
        self._sent.clear()
        flying = frozenset(pack.id for pack in self._flying.values())
        return Stored(self._packer.cut(), self._inline, flying)

    def arrived(self, stored: Stored) -> bool:
        """Whether all packs of a cut are in the store."""
        self._land_arrived()
        return stored.flying.isdisjoint(pack.id for pack in self._flying.values())

    def settle(self, stored: Stored) -> None:
        """Wait until they are. The segment can be written now, and nothing else before it."""
        while not self.arrived(stored):
            self._land(FIRST_COMPLETED)
        self._packer.forget()

    # Files

    def store(
        self, sources: Iterable[SourceFile], sizes: Sizes | None = None
    ) -> Iterator[StoredFile | RefusedFile]:
        """Store these files' content; one answer for each, in any order.

        The chunks of a file that was answered for are in packs, the last of which may still be
        open: ``cut`` and ``settle`` before a segment names them.

        Args:
            sources: drawn in this thread, a few batches ahead of the answers.
            sizes: of the files, where ``sources`` is not a list.
        """
        if sizes is None:
            sources = list(sources)
            sizes = sizes_of(source.expected.size for source in sources)
        recipe = Recipe(
            chunk_key=self._keys.chunk_key,
            single_max=self._context.format.single_max,
            level=self._context.config.sync.compression_level,
        )
        large: list[SourceFile] = []
        small = _without_large(sources, large)
        yield from self._store_small(small, sizes.small, recipe)
        for source in large:
            yield from self._store_large(source, recipe)

    def _store_small(
        self, sources: Iterable[SourceFile], total: int, recipe: Recipe
    ) -> Iterator[StoredFile | RefusedFile]:
        if total < POOL_WORTH:
            executor: Executor = SerialExecutor()
        else:
            if self._executor is None:
                self._executor = self._context.executor
            executor = self._executor
        files = self._context.host.files
        batches = (
            SmallBatch(files, batch, recipe, self._known)
            for batch in _batches(sources, total, executor.workers, self._room)
        )
        for result in executor.map(ingest_small, batches):
            for frame in result.frames:
                self._packer.add(frame)
            self._land_arrived()
            self.bytes_read += sum(file.size for file in result.stored)
            yield from result.stored
            yield from result.refused

    def _store_large(
        self, source: SourceFile, recipe: Recipe
    ) -> Iterator[StoredFile | RefusedFile]:
        give_back_large_blocks()
        files = self._context.host.files
        for item in ingest_large(files, source, recipe, self._packer, threads=self._threads):
            if isinstance(item, StoredFile | RefusedFile):
                self.bytes_read += source.expected.size
                yield item
            else:
                self._context.check_cancel()
                self._packer.add(item)
                self._land_arrived()


def _without_large(sources: Iterable[SourceFile], large: list[SourceFile]) -> Iterator[SourceFile]:
    for source in sources:
        if source.expected.size < LARGE:
            yield source
        else:
            large.append(source)


def _batches(
    sources: Iterable[SourceFile], total: int, workers: int, room: int
) -> Iterator[list[SourceFile]]:
    """Batches in tree order, so that neighbours compress together, of about equal size.

    All that are in flight, their frames included, fit into ``room`` bytes.
    """
    size = min(BATCH_BYTES, max(total // max(4 * workers, 1), 1 << 20))
    size = min(size, max(room // (2 * IN_FLIGHT * workers), SMALLEST_BATCH))
    batch: list[SourceFile] = []
    left = size
    for source in sources:
        if batch and (source.expected.size > left or len(batch) >= BATCH_FILES):
            yield batch
            batch, left = [], size
        batch.append(source)
        left -= source.expected.size
    if batch:
        yield batch
