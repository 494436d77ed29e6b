"""What the tests of content share: a file system that only opens, fixed keys, small packs."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from uuid import UUID

from tcfs.content.frame import Codec, compress
from tcfs.content.ids import ChunkHasher
from tcfs.content.keys import KeyRing
from tcfs.content.pack import Pack, PackBuilder, PackHeader, PackScope
from tcfs.content.seal import NO_EPOCH, Cipher
from tcfs.content.unpack import PackReader
from tcfs.errors import AccessError
from tcfs.host.base import FileSystem, Stat
from tcfs.model.ids import ChunkId, DeviceId, EpochId, NamespaceId
from tests.values import replace

REPO = UUID("11111111-2222-4333-8444-555555555555")
DEVICE = DeviceId("99999999-8888-4777-8666-555555555555")
EPOCH = EpochId("e0" * 16)
SPACE = NamespaceId("default")
EPOCH_KEY = bytes(range(32))
CHUNK_KEY = bytes(range(100, 132))
SALT = bytes(range(200, 232))
SEALED = PackScope(REPO, SPACE, encrypted=True)
PLAIN = PackScope(REPO, SPACE, encrypted=False)


@dataclass(frozen=True)
class Keys:
    """A key ring of fixed keys."""

    chunk_key: bytes | None = CHUNK_KEY
    epochs: dict[EpochId, bytes] = field(default_factory=lambda: {EPOCH: EPOCH_KEY})

    def epoch_key(self, epoch: EpochId) -> bytes:
        if epoch not in self.epochs:
            raise AccessError(f"no key of epoch {epoch}")
        return self.epochs[epoch]


KEYS: KeyRing = Keys()
NO_KEYS: KeyRing = Keys(chunk_key=None, epochs={})


def header(cipher: Cipher = Cipher.AES_256_GCM, **changes: object) -> PackHeader:
    epoch = NO_EPOCH if cipher is Cipher.NONE else EPOCH
    made = PackHeader(cipher, REPO, DEVICE, 7, epoch, SALT, SPACE)
    return replace(made, **changes)


def keys_of(cipher: Cipher) -> KeyRing:
    return NO_KEYS if cipher is Cipher.NONE else KEYS


def scope_of(cipher: Cipher) -> PackScope:
    return PLAIN if cipher is Cipher.NONE else SEALED


def named(chunks: Sequence[bytes], key: bytes | None = CHUNK_KEY) -> list[tuple[ChunkId, int]]:
    hasher = ChunkHasher(key)
    return [(hasher.chunk_id(chunk), len(chunk)) for chunk in chunks]


def add(builder: PackBuilder, chunks: Sequence[bytes], key: bytes | None = CHUNK_KEY) -> None:
    builder.add_frame(*compress(b"".join(chunks)), named(chunks, key))


def small_pack(
    frames: Sequence[Sequence[bytes]] = ((b"one", b"two"), (b"three",)),
    cipher: Cipher = Cipher.AES_256_GCM,
    **changes: object,
) -> Pack:
    builder = PackBuilder(header(cipher, **changes), EPOCH_KEY)
    for chunks in frames:
        add(builder, chunks, keys_of(cipher).chunk_key)
    return builder.finish()


def stored_pack(frames: Sequence[Sequence[bytes]], cipher: Cipher) -> Pack:
    """A pack without compression, whose bytes no version of zstd can change."""
    key = keys_of(cipher).chunk_key
    builder = PackBuilder(header(cipher), EPOCH_KEY)
    for chunks in frames:
        builder.add_frame(Codec.STORED, b"".join(chunks), named(chunks, key))
    return builder.finish()


def reader_of(pack: Pack, keys: KeyRing = KEYS, scope: PackScope = SEALED) -> PackReader:
    return PackReader(pack.id, pack.data, scope, keys)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def text(size: int, seed: int = 0) -> bytes:
    """Bytes that compress to half, and repeat nowhere."""
    return noise((size + 1) // 2, seed).hex().encode()[:size]


def stat_of(found: os.stat_result) -> Stat:
    kind = "file" if stat.S_ISREG(found.st_mode) else "other"
    return Stat(
        kind=cast("object", kind),  # type: ignore[arg-type]
        size=found.st_size,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
        device=found.st_dev,
    )


def lstat(path: Path) -> Stat:
    return stat_of(os.lstat(path))


class DiskReader:
    """An open file. ``before_read`` is called with how many reads there were before."""

    def __init__(self, fd: int, before_read: Callable[[int], None] | None = None) -> None:
        self._fd = fd
        self._before_read = before_read
        self._reads = 0

    def _count(self) -> None:
        if self._before_read is not None:
            self._before_read(self._reads)
        self._reads += 1

    def read(self, size: int) -> bytes:
        self._count()
        return os.read(self._fd, size)

    def readinto(self, buffer: memoryview) -> int:
        self._count()
        return os.readv(self._fd, [buffer])

    def fstat(self) -> Stat:
        return stat_of(os.fstat(self._fd))

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> DiskReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True)
class Disk:
    """The part of a file system that content uses."""

    before_read: Callable[[int], None] | None = None

    def open(self, path: bytes) -> DiskReader:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return DiskReader(os.open(path, flags), self.before_read)


def disk(before_read: Callable[[int], None] | None = None) -> FileSystem:
    return cast(FileSystem, Disk(before_read))
