"""Entry point of the ``tcfs`` command: parse, run, and turn whatever happens into an exit code."""

from __future__ import annotations

import argparse
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from tcfs.cli.arguments import GLOBAL_DEFAULTS, build_parser
from tcfs.cli.context import Context
from tcfs.cli.terminal import Terminal, bold, red
from tcfs.errors import CancelledError, LocalFileError, TcfsError, UsageError
from tcfs.host.garbage import collect_rarely

EXIT_UNEXPECTED: Final = 1
EXIT_PIPE: Final = 128 + signal.SIGPIPE
"""What a shell reports of a program that a closed pipe ended, as it ends most others."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tcfs`` with ``argv`` (by default the process's arguments) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    collect_rarely()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale that cannot show a character must not end the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
        if argv is None:
            # The process ends. Looking for cycles once more, as Python would, takes 80 ms.
            gc.freeze()
        return code
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more while leaving.
        _discard_output()
        return EXIT_PIPE
    except OSError as error:
        _discard_output()
        Terminal().err(red("error: "), f"cannot write the result: {error.strerror}")
        return LocalFileError.exit_code


def _run(arguments: list[str]) -> int:
    """Parse and run, and report what goes wrong."""
    try:
        args = _parse(arguments)
    except UsageError as error:
        # What was parsed is lost with the error: look for the options that concern its form.
        terminal = Terminal(colours="--no-color" not in arguments)
        return _report(error, terminal, as_json="--json" in arguments)
    except SystemExit as done:  # --help and --version, which argparse prints itself
        return int(done.code or 0)
    terminal = Terminal(colours=not args.no_color, quiet=args.quiet)
    context = Context(args, terminal)
    if args.verbose:
        _log_to(terminal)
    try:
        return int(args.run(context))
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return 128 + (context.cancel.signal or signal.SIGINT)
    except CancelledError as error:
        code = _report(error, terminal, as_json=args.json)
        return 128 + context.cancel.signal if context.cancel.signal else code
    except Exception as error:  # noqa: BLE001 - the last one to look at it
        if args.verbose and not isinstance(error, TcfsError):
            import traceback

            terminal.err("")
            for line in "".join(traceback.format_exception(error)).splitlines():
                terminal.err(line)
        return _report(_as_tcfs_error(error), terminal, as_json=args.json)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = build_parser(() if {"-h", "--help"}.intersection(arguments) else arguments)
    try:
        args = parser.parse_args(arguments)
    except UsageError:
        # What is wrong is told by all that would be right.
        parser = build_parser()
        args = parser.parse_args(arguments)
    for name, default in GLOBAL_DEFAULTS.items():
        if not hasattr(args, name):
            setattr(args, name, default)
    if not hasattr(args, "run"):
        lacking = getattr(args, "lacking", None)
        prog = f"{parser.prog} {lacking}" if lacking else parser.prog
        raise UsageError("no command was given", remedy=f"See: {prog} --help")
    return args


def _report(error: TcfsError, terminal: Terminal, *, as_json: bool) -> int:
    if as_json:
        from tcfs.sync.jsonify import to_json_text

        terminal.raw(to_json_text({"error": error.to_json()}))
    else:
        terminal.err(red("error: "), error.message)
        if error.remedy:
            terminal.err(bold("  try: "), error.remedy)
    return error.exit_code


def _as_tcfs_error(error: Exception) -> TcfsError:
    """An error that nobody foresaw, with nothing of its message: that may hold anything."""
    if isinstance(error, TcfsError):
        return error
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        name = error.filename
        where = f": {os.fsdecode(name)}" if isinstance(name, str | bytes) else ""
        return LocalFileError(f"{error.strerror}{where}")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        file = trace.tb_frame.f_code.co_filename
        place = f" in {os.path.basename(file)}, line {trace.tb_lineno}"
    return TcfsError(f"unexpected {type(error).__name__}{place}")


def _log_to(terminal: Terminal) -> None:
    """Show what the engine logs, by the way that lets nothing through to the terminal."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            terminal.err(f"{record.name}: {record.getMessage()}")

    logging.basicConfig(level=logging.INFO, handlers=[Handler()], force=True)


def _discard_output() -> None:
    """Let nothing more be written to a standard output that is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # not a file of the system: nothing will be flushed to it either
    finally:
        os.close(nowhere)
