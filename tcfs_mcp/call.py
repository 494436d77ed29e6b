"""``tcfs-mcp call`` and ``tcfs-mcp tools``: the same tools, in process, without the MCP SDK."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tcfs.errors import TcfsError
from tcfs_mcp.bound import CALL_BUDGET, clean
from tcfs_mcp.context import Signal
from tcfs_mcp.door import Door, load_from
from tcfs_mcp.main import effort_of, policy_of
from tcfs_mcp.outcome import error_json, exit_code_of
from tcfs_mcp.tools import TOOLS


def run_call(options: argparse.Namespace) -> int:
    """Run one tool. The answer is JSON on stdout; an error is one line of JSON on stderr."""
    try:
        answer = _remote(options) if options.server else _local(options)
    except TcfsError as error:
        return _fail(error_json(error, options.tool))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort of the process
        return _fail(error_json(error, options.tool))
    if not _print(answer):
        return 1
    return exit_code_of(answer)


def _local(options: argparse.Namespace) -> dict[str, Any]:
    spec = TOOLS.get(options.tool)
    door = Door(
        registry=TOOLS,
        load=load_from(Path(options.config) if options.config else None, _warn, effort_of(options)),
        policy=policy_of(options),
        budget=CALL_BUDGET,
        warn=_warn,
    )
    door.policy.check_tool(spec)
    arguments: dict[str, Any] = {}
    if options.words or options.args:
        from tcfs_mcp.schema import kinds
        from tcfs_mcp.words import from_words

        arguments = from_words(spec.name, kinds(spec), options.words, options.args)
    context = door.context(options.actor or os.environ.get("TCFS_ACTOR") or "call")
    with _interruptible(context.cancelled):
        return door.run(spec.name, arguments, context)


@contextmanager
def _interruptible(cancelled: Signal) -> Iterator[None]:
    """The first interrupt asks the engine to stop cleanly; a second stops Python at once."""

    def handle(_number: int, _frame: object) -> None:
        if cancelled():
            raise KeyboardInterrupt
        cancelled.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remote(options: argparse.Namespace) -> dict[str, Any]:
    from tcfs_mcp.client import call_server

    def token_for(resource: str, issuers: tuple[str, ...]) -> str:
        from tcfs.sync.signin import SignIn

        load = load_from(Path(options.config) if options.config else None, _warn)
        return SignIn(load(), ask=_ask).token_for(resource, issuers)

    return call_server(
        options.server, options.tool, options.words, options.args, options.token_file, token_for
    )


def _ask(question: str) -> str:
    """What a person types without echo; empty if there is nobody."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    from getpass import getpass

    return getpass(question, stream=sys.stderr).strip()


def run_tools(options: argparse.Namespace) -> int:
    """List the tools that these options leave, as text or as JSON with their schemas."""
    policy = policy_of(options)
    offered = [spec for spec in TOOLS if not policy.refusal(spec)]
    if options.json:
        from tcfs_mcp.schema import describe

        return 0 if _print({"tools": [describe(spec) for spec in offered]}) else 1
    width = max((len(spec.name) for spec in offered), default=0)
    for spec in offered:
        mark = "" if spec.read_only else "  (changes things)"
        print(f"{spec.name:<{width}}  {spec.title}{mark}")
    return 0


def _print(data: Any) -> bool:
    """Print JSON, indented for a person at a terminal. False if nobody reads any more."""
    text = json.dumps(data, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    try:
        # Names may be in any script, whatever the locale says.
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _fail(error: dict[str, Any]) -> int:
    line = json.dumps({"error": error}, ensure_ascii=False)
    sys.stderr.buffer.write(line.encode("utf-8", "backslashreplace") + b"\n")
    sys.stderr.flush()
    return int(error["exit_code"])


def _warn(text: str) -> None:
    print(clean(text), file=sys.stderr)
