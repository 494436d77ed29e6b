"""Save on one device to bytes on another, daemon to daemon, on this machine.

    python bench/live.py [--saves N] [--store s3|file] [--poll] [--files N]

Starts a private SeaweedFS and NATS (the extra ``servers``), two devices with a daemon each, and
saves files on one, one after the other, waiting until the bytes are on the other. ``--poll`` leaves
NATS out and measures the polling fallback against sync.poll_interval: a save may take one interval,
and the time of its push and its pull. ``--files`` fills the root first, to show that a save does
not grow with the tree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
POLL_S = 2.0


class Device:
    def __init__(self, top: Path, name: str, environ: dict[str, str]) -> None:
        self.name = name
        self.tree = top / name / "tree"
        self.tree.mkdir(parents=True)
        home = top / name / "home"
        self.environ = {**os.environ, "HOME": str(home), "TCFS_HOME": str(home), **environ}
        self.log = top / name / "daemon.log"

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [BIN / "tcfs", *arguments], env=self.environ, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"tcfs {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    @contextmanager
    def daemon(self) -> Iterator[None]:
        with self.log.open("wb") as log:
            process = subprocess.Popen([BIN / "tcfs", "daemon"], env=self.environ, stderr=log)
            try:
                yield
            finally:
                process.terminate()
                process.wait()

    def in_sync(self) -> bool:
        report = json.loads(self.run("status", "--json"))["daemon"]
        live = report["live"] == "live" or "TCFS_NATS_URL" not in self.environ
        return live and all(root["state"] == "in sync" for root in report["roots"])


def servers(stack: ExitStack, top: Path, args: argparse.Namespace) -> dict[str, str]:
    environ = {"TCFS_SYNC_POLL_INTERVAL": str(POLL_S if args.poll else 30)}
    if args.store == "file":
        environ["TCFS_REMOTE"] = f"file://{top}/store"
    else:
        from tcfs.service.servers import private, weed

        server = weed.start_new(top / "weed")
        stack.callback(server.kill)
        private.make_bucket(server)
        environ |= private.store_environment(server)
    if not args.poll:
        from tcfs.service.servers import nats

        events = nats.start_new(top / "nats")
        stack.callback(events.kill)
        token = top / "nats-token"
        token.write_text(events.token)
        token.chmod(0o600)
        environ |= {"TCFS_NATS_URL": events.url, "TCFS_SYNC_NATS_CREDENTIALS_FILE": str(token)}
    return environ


def measure(one: Device, other: Device, saves: int, spread_s: float) -> list[float]:
    seconds = []
    for number in range(saves):
        name, data = f"saved-{number % 20}.txt", os.urandom(2000)
        target = other.tree / name
        # Not in step with anything that ticks.
        time.sleep(random.uniform(0.05, spread_s))
        begun = time.perf_counter()
        temp = one.tree / f".{name}.swp"
        temp.write_bytes(data)
        temp.rename(one.tree / name)
        while True:
            try:
                if target.read_bytes() == data:
                    break
            except FileNotFoundError:
                pass
            if time.perf_counter() - begun > 60:
                raise SystemExit(f"{name} has not arrived; see {one.log} and {other.log}")
            time.sleep(0.001)
        seconds.append(time.perf_counter() - begun)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--saves", type=int, default=100)
    parser.add_argument("--store", choices=("s3", "file"), default="s3")
    parser.add_argument("--poll", action="store_true")
    parser.add_argument("--files", type=int, default=0)
    args = parser.parse_args()
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tcfs-live-")))
        environ = servers(stack, top, args)
        one, other = Device(top, "one", environ), Device(top, "other", environ)
        one.run("init", "--name", "one", "-q")
        code = one.run("device", "invite", "-q").splitlines()[-1]
        other.run("device", "enroll", "--name", "other", "--invite", code)
        for number in range(args.files):
            path = one.tree / f"d{number % 200}" / f"f{number}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"file {number}\n")
        for device in (one, other):
            device.run("root", "add", str(device.tree), "--as", "live")
            stack.enter_context(device.daemon())
        while not (one.in_sync() and other.in_sync()):
            time.sleep(0.2)
        spread_s = 0.05 + POLL_S if args.poll else 0.25
        measure(one, other, 3, spread_s)
        seconds = sorted(measure(one, other, args.saves, spread_s))
        ms = [1000 * s for s in seconds]
        polling = {
            "interval_ms": 1000 * POLL_S,
            "longest_in_intervals": round(seconds[-1] / POLL_S, 2),
            "longer_than_one": sum(s > POLL_S for s in seconds),
        }
        print(
            json.dumps(
                (polling if args.poll else {})
                | {
                    "store": args.store,
                    "events": "polling" if args.poll else "nats",
                    "files": args.files,
                    "saves": len(ms),
                    "median_ms": round(statistics.median(ms), 1),
                    "p90_ms": round(ms[int(len(ms) * 0.9)], 1),
                    "p99_ms": round(ms[min(len(ms) - 1, int(len(ms) * 0.99))], 1),
                    "max_ms": round(ms[-1], 1),
                }
            )
        )


if __name__ == "__main__":
    main()
