"""Evaluates a fleet of hosts with Nix, and says how long it takes.

    .venv/bin/python bench/nix.py --hosts 100 --runs 5

One evaluation is what ``tcfs fleet check`` does: every host of the definition with all its settings
and checks, by the Nix of this machine, from files. It has to take less than 3 s for 100 hosts.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tcfs.rollout.check import check_fleet

LIMIT_S = 3.0


def make_fleet(folder: Path, hosts: int) -> None:
    """A definition with this many hosts, a file for each."""
    (folder / "hosts").mkdir()
    (folder / "fleet.nix").write_text(
        '{ hostsIn }: { defaults = { user = "me"; storage.endpoint = "s3://fleet"; '
        'syncRoot = "~/shared"; }; hosts = hostsIn ./hosts; }\n'
    )
    platforms = ("x86_64-linux", "aarch64-linux", "aarch64-darwin", "x86_64-darwin")
    for n in range(hosts):
        (folder / "hosts" / f"host-{n:03}.nix").write_text(
            f'{{\n  platform = "{platforms[n % 4]}";\n  jobs = {n % 8};\n'
            f'  conflictMode = "{("auto", "defer", "interactive")[n % 3]}";\n'
            f'  excludePatterns = [ "*.swp" "host-{n}/" ];\n}}\n'
        )


def main() -> int:
    """Measure and print; 1 if 100 hosts take too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_fleet(folder, args.hosts)
        for _ in range(args.runs):
            started = time.perf_counter()
            report = check_fleet(folder)
            seconds.append(time.perf_counter() - started)
            if not report.ok or len(report.hosts) != args.hosts:
                print("the fleet is not well defined", file=sys.stderr)
                return 1
    median = statistics.median(seconds)
    result = {
        "hosts": args.hosts,
        "median_s": round(median, 3),
        "least_s": round(min(seconds), 3),
        "most_s": round(max(seconds), 3),
    }
    print(json.dumps(result))
    return 1 if args.hosts <= 100 and median >= LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main())
