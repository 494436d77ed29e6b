"""What a running command has at hand: arguments, terminal, configuration, engine."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from tcfs.cli import engine as engines
from tcfs.cli.arguments import numbers
from tcfs.cli.terminal import Terminal
from tcfs.errors import UsageError

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.sync.facade import FleetApi, ProgressFn
    from tcfs.sync.session import KeyCare

DEFAULT_ACTOR = "cli"


class Cancellation:
    """The first interrupt asks the engine to stop cleanly; the second stops Python at once.

    Call it to learn whether to stop; ``signal`` is what asked, or 0.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.signal = 0
        self._terminal = terminal

    def __call__(self) -> bool:
        return self.signal != 0

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again = self.signal
        self.signal = number
        if again:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            self._terminal.note("stopping; what is done is kept (Ctrl-C again: stop at once)")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while the context lasts. Only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
            # What a shell let us ignore, as it does for commands in the background, stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Context:
    """One run of one command."""

    def __init__(self, args: argparse.Namespace, terminal: Terminal) -> None:
        self.args = args
        self.terminal = terminal
        self.cancel = Cancellation(terminal)
        self._loaded: LoadedConfig | None = None

    @property
    def json(self) -> bool:
        """Whether the result is to be one JSON document."""
        return bool(self.args.json)

    @property
    def verbose(self) -> bool:
        """Whether to say more."""
        return bool(self.args.verbose)

    @property
    def person(self) -> bool:
        """Whether there is someone to ask. With ``--json`` a program is listening, not a person."""
        return self.terminal.person and not self.json

    @property
    def actor(self) -> str:
        """Who does this, for the history."""
        return self.args.actor or os.environ.get("TCFS_ACTOR") or DEFAULT_ACTOR

    def loaded(self, **overrides: object) -> LoadedConfig:
        """The configuration; its warnings go to standard error once."""
        if self._loaded is None or overrides:
            from pathlib import Path

            from tcfs.config.load import load_config

            file = Path(self.args.config) if self.args.config is not None else None
            first = self._loaded is None
            self._loaded = load_config(config_file=file, overrides=overrides)
            if first:
                for warning in self._loaded.warnings:
                    self.terminal.warn(warning)
        return self._loaded

    def ask_secret(self, question: str) -> str:
        """What a person types without echo; empty if there is nobody."""
        return self.terminal.secret(question) if self.person else ""

    def keys(self) -> KeyCare:
        """How a new identity's keys are to be guarded, from ``--protect`` and ``--pcrs``."""
        from tcfs.sync.session import KeyCare

        return KeyCare(ask=self.ask_secret, kind=self.args.protect, pcrs=numbers(self.args.pcrs))

    @contextmanager
    def fleet(self, *, create: bool = False) -> Iterator[FleetApi]:
        """This device on its repository. With ``create`` a missing embedded store is set up."""
        opened = engines.engine().open_fleet(
            self.loaded(),
            actor=self.actor,
            create=create,
            notice=self.terminal.note,
            ask=self.ask_secret,
        )
        try:
            yield opened
        finally:
            opened.close()

    @contextmanager
    def working(self) -> Iterator[ProgressFn | None]:
        """Long work that asks ``cancel``: shows progress, and an interrupt ends it cleanly.

        What comes is the function to report progress to, or None where nobody would see it.
        """
        from tcfs.cli.progress import progress_bar

        with self.cancel.installed(), progress_bar(self.terminal) as progress:
            yield progress

    def result(self, value: Any, show: Callable[[], None]) -> None:
        """Print a command's one result: ``value`` as JSON, or what ``show`` prints for people."""
        if self.json:
            from tcfs.sync.jsonify import to_json_text

            self.terminal.raw(to_json_text(value))
        else:
            show()


def local_path(text: str) -> bytes:
    """A local path that a user typed, absolute, without ``.`` and ``..``.

    Symlinks are resolved only where ``..`` makes it necessary: what a name leads to from behind a
    symlink is for the file system to say. Raises UsageError.
    """
    if not text:
        raise UsageError("an empty path was given", remedy="Use '.' for this directory.")
    raw = os.path.join(os.getcwdb(), os.fsencode(text))
    if b".." in raw.split(b"/"):
        head, tail = os.path.split(raw.rstrip(b"/"))
        raw = os.path.realpath(raw) if tail == b".." else os.path.join(os.path.realpath(head), tail)
    return os.path.normpath(raw)
