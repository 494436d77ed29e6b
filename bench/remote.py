"""What stores behind a network cost: the S3 gateway and the filer of one SeaweedFS.

    .venv/bin/python bench/remote.py [--work DIR] [--runs N] [--large MIB] [--small FILES]

Starts a SeaweedFS of its own for each kind of store. In each run, one after the other: a bare boto3
upload of the same bytes, a push of them, a bare download, a pull; then the requests that a push of
small files makes, counted on their way; then how long one small save takes to push.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import trees

from tcfs.service.servers import weed
from tests.store.proxy import FaultProxy

TCFS = str(Path(sys.executable).parent / "tcfs")
MB = 1e6


@contextmanager
def server(work: Path) -> Iterator[weed.WeedServer]:
    """A SeaweedFS with room, and what is left of it taken away."""
    place = Path(tempfile.mkdtemp(dir=work))
    running = weed.start_new(place / "weed")
    try:
        yield running
    finally:
        running.kill()
        shutil.rmtree(place, ignore_errors=True)


def client_of(place: weed.WeedServer):  # type: ignore[no-untyped-def]
    """boto3 as its documentation has it."""
    return boto3.client(
        "s3",
        endpoint_url=place.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=place.access,
        aws_secret_access_key=place.secret,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


class Device:
    """A device on a store."""

    def __init__(self, work: Path, name: str, place: weed.WeedServer, remote: str) -> None:
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TCFS_")},
            "TCFS_HOME": str(work / name),
            "TCFS_REMOTE": remote,
            "TCFS_S3_ACCESS": place.access,
            "TCFS_S3_SECRET": place.secret,
            "TCFS_FILER_KEY": place.filer_key,
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [TCFS, *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"tcfs {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def timed(self, *arguments: str) -> float:
        started = time.perf_counter()
        self.run(*arguments)
        return time.perf_counter() - started


def remote_of(kind: str, place: weed.WeedServer, port: int = 0) -> str:
    """The endpoint of a kind of store; ``port`` of a proxy in front of it."""
    if kind == "s3":
        return f"http://127.0.0.1:{port or place.s3_port}/bench"
    return f"seaweedfs://127.0.0.1:{port or place.filer_port}/bench"


def large(
    work: Path, kind: str, options: argparse.Namespace, found: dict[str, list[float]]
) -> None:
    """One large file of random bytes, there and back."""
    size = options.large << 20
    with server(work) as place:
        top = Path(tempfile.mkdtemp(dir=work))
        tree = top / "tree"
        tree.mkdir()
        trees.random_file(tree / "random.bin", size)
        one, two = (Device(top, name, place, remote_of(kind, place)) for name in ("a", "b"))
        one.run("init", "--name", "a")
        code = one.run("device", "invite").splitlines()[-1]
        two.run("device", "enroll", "--name", "b", "--invite", code)
        s3 = client_of(place)
        s3.create_bucket(Bucket="bare")
        s3.put_object(Bucket="bare", Key="warm", Body=b"x")
        (tree / "warm").write_bytes(os.urandom(1 << 20))
        one.run("push", str(tree / "warm"))
        os.sync()

        def note(what: str, seconds: float) -> None:
            found.setdefault(f"{kind}: {what}", []).append(size / MB / seconds)

        started = time.perf_counter()
        s3.upload_file(str(tree / "random.bin"), "bare", "random.bin")
        note("bare boto3 upload", time.perf_counter() - started)
        os.sync()
        note("push", one.timed("push", str(tree)))
        os.sync()
        started = time.perf_counter()
        s3.download_file("bare", "random.bin", str(top / "bare.bin"))
        note("bare boto3 download", time.perf_counter() - started)
        note("pull", two.timed("pull", "tcfs/default/tree", str(top / "out")))
        (tree / "saved").write_text("x")
        saves = []
        for number in range(5):
            (tree / "saved").write_text(f"{number}")
            saves.append(one.timed("push", str(tree / "saved")))
        found.setdefault(f"{kind}: push of one small save, ms", []).append(
            statistics.median(saves) * 1000
        )
        shutil.rmtree(top)


def small(work: Path, kind: str, options: argparse.Namespace) -> Counter[str]:
    """The requests of a push of many small files."""
    with server(work) as place:
        top = Path(tempfile.mkdtemp(dir=work))
        tree = top / "tree"
        tree.mkdir()
        trees.small_tree(tree, options.small, options.small * 8000)
        proxy = FaultProxy(place.s3_port if kind == "s3" else place.filer_port)
        try:
            one = Device(top, "a", place, remote_of(kind, place, proxy.port))
            one.run("init", "--name", "a")
            before = len(proxy.requests)
            one.run("push", str(tree))
            return Counter(request.method for request in proxy.requests[before:])
        finally:
            proxy.close()
            shutil.rmtree(top)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tcfs-bench")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--small", type=int, default=50_000, help="small files (8 KB each)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=options.work))
    found: dict[str, list[float]] = {}
    for _ in range(options.runs if options.large else 0):
        for kind in ("s3", "seaweedfs"):
            large(work, kind, options, found)
    print("| what | MB/s, median (min - max) |\n|---|---|")
    for what, values in found.items():
        print(
            f"| {what} | {statistics.median(values):.0f} ({min(values):.0f} - {max(values):.0f}) |"
        )
    for kind in ("s3", "seaweedfs"):
        bare, ours = (found.get(f"{kind}: {what}", []) for what in ("bare boto3 upload", "push"))
        if bare:
            ratios = [b / a for a, b in zip(bare, ours, strict=True)]
            print(f"\n{kind}: push / bare upload of the same run: {statistics.median(ratios):.2f}")
    for kind in ("s3", "seaweedfs") if options.small else ():
        counts = small(work, kind, options)
        print(f"\n{kind}: push of {options.small} small files: {dict(counts)}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
