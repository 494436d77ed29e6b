"""Telling of changed files: ``watchfiles`` in a thread for each root.

It misses what is put into a directory before it watches that directory, so new directories are
told of as such and looked at again, and a rescan now and then finds the rest.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol

from tcfs.model.ids import RelPath
from tcfs.model.paths import METADATA_DIR

STEP_MS: Final = 20
GROUP_MS: Final = 200
"""Changes come together at the latest after this time."""
IDLE_MS: Final = 500
"""How often a watcher looks whether it is to stop."""


class Listener(Protocol):
    """Who is told. Called from the watcher's thread."""

    def changed(self, root: bytes, paths: set[RelPath], made: set[RelPath]) -> None:
        """These paths may have changed; directories among ``made`` are new."""
        ...

    def watching(self, root: bytes) -> None:
        """From here on changes are told of."""
        ...

    def blind(self, root: bytes, reason: str) -> None:
        """Changes are no longer told of."""
        ...


class Watcher:
    """Watches one root until it is closed, or cannot."""

    def __init__(self, root: bytes, listener: Listener) -> None:
        self._root = root
        self._listener = listener
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"tcfs-watch-{os.fsdecode(root)}", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still watches."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop; does not wait for the thread."""
        self._stop.set()

    def join(self) -> None:
        """Wait until a closed watcher has ended."""
        self._thread.join(5)

    def _run(self) -> None:
        from watchfiles import watch

        try:
            started = False
            for changes in watch(
                os.fsdecode(self._root),
                watch_filter=None,
                debounce=GROUP_MS,
                step=STEP_MS,
                rust_timeout=IDLE_MS,
                yield_on_timeout=True,
                stop_event=self._stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                if not started:
                    started = True
                    self._listener.watching(self._root)
                if changes:
                    self._tell({(int(change), os.fsencode(path)) for change, path in changes})
                if not os.path.isdir(self._root):
                    raise FileNotFoundError(2, "the directory is gone")
        except Exception as error:  # noqa: BLE001 - a root that cannot be watched is rescanned
            if not self._stop.is_set():
                text = getattr(error, "strerror", None) or str(error)
                self._listener.blind(self._root, text)

    def _tell(self, changes: set[tuple[int, bytes]]) -> None:
        paths: set[RelPath] = set()
        made: set[RelPath] = set()
        start = self._root.rstrip(b"/") + b"/"
        for change, path in changes:
            if not path.startswith(start):
                continue
            relative = RelPath(path[len(start) :])
            if relative == METADATA_DIR or relative.startswith(METADATA_DIR + b"/"):
                continue
            paths.add(relative)
            if change == ADDED and os.path.isdir(path) and not os.path.islink(path):
                made.add(relative)
        if paths:
            self._listener.changed(self._root, paths, made)


ADDED: Final = 1
"""``watchfiles.Change.added``; the rest, modified and deleted, need no telling apart."""
