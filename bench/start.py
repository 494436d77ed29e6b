"""How long programs take that do next to nothing: Python starting, modules loading."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from bench import clients as c
from bench.installed import program
from bench.measure import Command, Sample, environment, measure, run
from bench.server import counted_server

HELP, STATUS, CALL = "tcfs --help", "tcfs status", "tcfs-mcp call device_status"
IMPORT, INITIALIZE = "python -c 'import mcp'", "tcfs-mcp: answer to initialize"
PUSH = "tcfs push of one small file, nothing changed"
PUSH_S3 = f"{PUSH}, S3"
REQUEST = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


def start_up(work: Path, runs: int) -> dict[str, list[Sample]]:
    """Samples of each, taken in turns."""
    tree = work / "one"
    tree.mkdir(parents=True)
    (tree / "file.txt").write_text("one\n")
    with counted_server(work / "weed") as server:
        local, remote = c.Tcfs(work / "local", None), c.TcfsS3(work / "remote", server)
        for client in (local, remote):
            client.prepare(tree)
            run(client.push(tree))
        commands = {
            HELP: local.command("a", "--help"),
            STATUS: local.command("a", "status"),
            PUSH: local.push(tree),
            PUSH_S3: remote.push(tree),
            CALL: Command([program("tcfs-mcp"), "call", "device_status"], local.environ("a")),
            IMPORT: Command([program("python"), "-c", "import mcp"], {}),
        }
        found: dict[str, list[Sample]] = {name: [] for name in (*commands, INITIALIZE)}
        for _ in range(runs):
            for name, command in commands.items():
                found[name].append(measure(command).sample)
            found[INITIALIZE].append(initialize(local.environ("a")))
    return found


def initialize(environ: dict[str, str]) -> Sample:
    """From starting the server to its answer to ``initialize``."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [program("tcfs-mcp"), "serve"],
        env=environment(environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(REQUEST).encode() + b"\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    wall = time.perf_counter() - started
    process.stdin.close()
    process.stdout.read()
    process.wait()
    if "result" not in answer:
        raise SystemExit(f"tcfs-mcp does not answer initialize: {answer}")
    return Sample(wall, 0.0, 0)
