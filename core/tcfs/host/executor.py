"""Worker pools: none, threads, or processes, all behind one ``map``.

What is bounded: a few items for each worker are in flight (``ahead``), counting results that nobody
has taken yet, so memory does not grow with the number of items, and a worker seldom waits.
Items are drawn in the thread that takes the results, so an iterator of items needs no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tcfs.host.room import Arena, Room

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from tcfs.host.worker import Worker

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT: Final = 4
"""Items for each worker, if nobody says otherwise."""
SHARED: Final = 20 << 20
"""Bytes of memory for each worker that it shares with this process."""


class SerialExecutor:
    """Runs each item when its result is asked for."""

    @property
    def workers(self) -> int:
        return 1

    def start(self) -> None:
        """Nothing to start."""

    def room(self, size: int) -> Room:
        """Memory of this process."""
        return Room.private(size)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], *, ahead: int = IN_FLIGHT
    ) -> Iterator[R]:
        """Results in the order of the items."""
        return map(function, items)

    def close(self) -> None:
        """Nothing to give back."""


class ThreadExecutor:
    """A pool of threads, for work that waits or that leaves the interpreter's lock."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError("an executor needs a worker")
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None

    @property
    def workers(self) -> int:
        return self._workers

    def start(self) -> None:
        """Threads start at once."""

    def room(self, size: int) -> Room:
        """Memory of this process."""
        return Room.private(size)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], *, ahead: int = IN_FLIGHT
    ) -> Iterator[R]:
        """Results as they come. The first failure is raised, and what has not begun is dropped.

        Work that had begun goes on until ``close``, which waits for it.
        """
        from queue import SimpleQueue

        pool = self._threads()
        done: SimpleQueue[Future[R]] = SimpleQueue()
        flying: set[Future[R]] = set()
        source = iter(items)
        more = True
        try:
            while True:
                while more and len(flying) < ahead * self._workers:
                    try:
                        item = next(source)
                    except StopIteration:
                        more = False
                        break
                    future = pool.submit(function, item)
                    flying.add(future)
                    future.add_done_callback(done.put)
                if not flying:
                    return
                future = done.get()
                flying.remove(future)
                yield future.result()
        finally:
            for future in flying:
                future.cancel()

    def close(self) -> None:
        """Wait for what runs, then end the threads. The executor can be used again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="tcfs")
        return self._pool


class ProcessExecutor:
    """A pool of processes, for work that holds the interpreter's lock.

    Each worker is served by a thread here, which hands it an item and waits for the result.
    Workers start with the first items, or before (``start``), and stay until ``close``.

    Args:
        workers: how many processes, at most.
        grace: seconds that ``close`` waits for work under way before it kills the workers.
    """

    def __init__(self, workers: int, *, grace: float = 2.0) -> None:
        self._threads = ThreadExecutor(workers)
        self._grace = grace
        self._mutex = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._quiet = threading.Condition(self._mutex)
        self._closing = False
        self._arena: Arena | None = None

    @property
    def workers(self) -> int:
        return self._threads.workers

    def start(self) -> None:
        """Start all workers now, because there will be work for them."""
        with self._mutex:
            while len(self._idle) + len(self._busy) < self.workers:
                self._idle.append(self._new_worker())

    def room(self, size: int) -> Room:
        """Memory that the workers share, as long as there is some. In one thread."""
        with self._mutex:
            arena = self._shared()
        shared = arena.room(size) if arena is not None else None
        return shared or Room.private(size)

    def _shared(self) -> Arena | None:
        if self._arena is None:
            self._arena = Arena.of(SHARED * self.workers)
        return self._arena

    def _new_worker(self) -> Worker:
        from tcfs.host.native import give_back_large_blocks
        from tcfs.host.worker import Worker

        give_back_large_blocks()  # What is packed of their answers is large.
        return Worker(self._shared())

    def map(
        self, function: Callable[[T], R], items: Iterable[T], *, ahead: int = IN_FLIGHT
    ) -> Iterator[R]:
        """Results as they come. The first failure is raised, and the rest dropped.

        ``function`` is found by name in the workers, so it is not in ``__main__``.

        Raises:
            WorkerDied: a worker was killed; its item is not tried again.
        """
        return self._threads.map(partial(self._run, function), items, ahead=ahead)

    def close(self) -> None:
        """End the workers: the idle at once, the others after ``grace`` seconds at most."""
        with self._mutex:
            self._closing = True
            self._quiet.wait_for(lambda: not self._busy, self._grace)
            idle, self._idle = self._idle, []
            for worker in self._busy:  # its thread sees the end of the pipe and cleans up
                worker.stop(kill=True)
        for worker in idle:
            worker.stop(kill=False)
            worker.close()
        self._threads.close()
        arena, self._arena = self._arena, None
        if arena is not None:
            arena.close()
        self._closing = False

    def _run(self, function: Callable[[Any], R], item: Any) -> R:
        from tcfs.host.worker import WorkerDied

        with self._mutex:
            if self._closing:
                raise WorkerDied("the workers were stopped")
            worker = self._idle.pop() if self._idle else self._new_worker()
            self._busy.add(worker)
        try:
            result: R = worker.call(function, item)
            return result
        finally:
            with self._mutex:
                self._busy.remove(worker)
                if worker.usable:
                    self._idle.append(worker)
                else:
                    worker.stop(kill=True)
                    worker.close()
                self._quiet.notify_all()
