"""What the machine can do at best: the same bytes with nothing of tcfs around them.

    python bench/bare.py hash|parts TREE
    python bench/bare.py upload|download PREFIX DIRECTORY

Each is a process of its own, as clients are, and prints its times as JSON: seconds of wall and CPU
time without starting Python and importing. Stores are told by BARE_ENDPOINT, BARE_ACCESS,
BARE_SECRET and BARE_BUCKET.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FRAME = 1 << 20
"""Bytes that are compressed and sealed together."""
RANGE = 8 << 20
AT_ONCE = 4


def pieces(tree: Path) -> Iterator[bytes]:
    """The bytes of all files, each in pieces of at most a frame."""
    for directory, names, files in os.walk(tree):
        names.sort()
        for name in sorted(files):
            with open(os.path.join(directory, name), "rb", buffering=0) as file:
                while piece := file.read(FRAME):
                    yield piece


def hash_all(tree: Path) -> dict[str, float]:
    """Read every file and hash it."""
    from blake3 import blake3

    return timed(lambda: [blake3(piece).digest() for piece in pieces(tree)])


def parts(tree: Path) -> dict[str, float]:
    """Read, compress as frames, seal; the seconds of each, one after the other in one thread."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from zstandard import ZstdCompressor

    compressor, sealer = ZstdCompressor(level=3), AESGCM(bytes(32))
    spent = {"read": 0.0, "compress": 0.0, "seal": 0.0}
    clock = time.perf_counter
    waiting: list[bytes] = []
    size = frames = 0

    def frame() -> None:
        nonlocal frames
        data = b"".join(waiting)
        begun = clock()
        packed = compressor.compress(data)
        compressed = clock()
        sealer.encrypt(frames.to_bytes(12, "big"), packed, None)
        spent["compress"] += compressed - begun
        spent["seal"] += clock() - compressed
        frames += 1

    cpu, source = time.process_time(), pieces(tree)
    while True:
        begun = clock()
        piece = next(source, None)
        spent["read"] += clock() - begun
        if piece is not None:
            waiting.append(piece)
            size += len(piece)
        if waiting and (piece is None or size >= FRAME):
            frame()
            waiting, size = [], 0
        if piece is None:
            break
    return {**spent, "wall": sum(spent.values()), "cpu": time.process_time() - cpu}


def upload(prefix: str, directory: Path) -> dict[str, float]:
    """Put every file below a directory as one object each, some at once."""
    client, bucket = store()
    files = sorted(path for path in directory.rglob("*") if path.is_file())

    def put(path: Path) -> None:
        with path.open("rb") as body:
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=body)

    client.put_object(Bucket=bucket, Key=f"{prefix}-warm", Body=b"x")
    return timed(lambda: in_parallel(put, files))


def download(prefix: str, directory: Path) -> dict[str, float]:
    """Get all objects of ``upload`` in ranges, some at once, into files.

    ``synced`` is the wall time with making them durable, which a pull does.
    """
    client, bucket = store()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    sizes = {item["Key"]: item["Size"] for page in pages for item in page["Contents"]}
    directory.mkdir()
    opened = {
        key: os.open(directory / key.rpartition("/")[2], os.O_CREAT | os.O_WRONLY) for key in sizes
    }

    def get(part: tuple[str, int]) -> None:
        key, start = part
        end = min(start + RANGE, sizes[key]) - 1
        body = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end}")["Body"]
        os.pwrite(opened[key], body.read(), start)

    ranges = [(key, start) for key, size in sizes.items() for start in range(0, size, RANGE)]
    found = timed(lambda: in_parallel(get, ranges))
    synced = timed(lambda: in_parallel(os.fsync, list(opened.values())))
    for descriptor in opened.values():
        os.close(descriptor)
    return {**found, "synced": found["wall"] + synced["wall"]}


def in_parallel(work: Callable[[Any], None], items: list[Any]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, items))


def timed(work: Callable[[], object]) -> dict[str, float]:
    cpu, begun = time.process_time(), time.perf_counter()
    work()
    return {"wall": time.perf_counter() - begun, "cpu": time.process_time() - cpu}


def store() -> tuple[Any, str]:
    """A boto3 client, and the bucket."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=os.environ["BARE_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=os.environ["BARE_ACCESS"],
        aws_secret_access_key=os.environ["BARE_SECRET"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return client, os.environ["BARE_BUCKET"]


def main() -> None:
    verb, *arguments = sys.argv[1:]
    if verb in ("hash", "parts"):
        found = (hash_all if verb == "hash" else parts)(Path(arguments[0]))
    else:
        found = (upload if verb == "upload" else download)(arguments[0], Path(arguments[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
