"""The daemon's decisions: what is due, and what a failure means. One thread; time is passed in.

Everything that comes from other threads (watchers, the bus, signals) goes through ``Inbox``. The
loop calls ``step`` again and again: it does at most one thing with the device's lock, and says when
it wants to be called next. What fails is put off, longer each time, and never given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tcfs.errors import BusyError, CancelledError, LiveError, StoreError, TcfsError
from tcfs.live.base import EventBus
from tcfs.model.ids import RelPath
from tcfs.model.paths import show
from tcfs.service.daemon.counters import Counters
from tcfs.service.daemon.inbox import Inbox
from tcfs.service.daemon.schedule import Due, Pending
from tcfs.service.daemon.states import Claims, Clock, KeptState, Settings, Watch
from tcfs.service.daemon.talk import Talk
from tcfs.sync.facade import Cancel
from tcfs.sync.keeper import Keeper
from tcfs.sync.kept import KeptRoot
from tcfs.sync.results import SyncResult

log = logging.getLogger("tcfs.daemon")

FIRST_RETRY_S: Final = 0.5
BUSY_RETRY_S: Final = 0.1
TICK_S: Final = 1.0
"""How often the daemon looks whether another process changed the state or the enrolled roots."""
JUMP_S: Final = 5.0
"""Wall and monotonic clock that part by more than this: the machine slept, or was set."""
STRANGER_S: Final = 5.0
"""How often events of devices that are no members can make us look at the ledger."""


class Daemon:
    """The loop's state.

    Args:
        watch: starts to watch a root; None where nothing watches and everything is rescanned.
        claims: makes sure that no other daemon keeps a root, too.
    """

    def __init__(
        self,
        keeper: Keeper,
        bus: EventBus | None,
        clock: Clock,
        settings: Settings,
        inbox: Inbox,
        counters: Counters,
        *,
        watch: Callable[[bytes], Watch] | None = None,
        claims: Claims | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._keeper = keeper
        keeper.cancel = cancel or (lambda: inbox.stopping)
        self._clock = clock
        self._settings = settings
        self._inbox = inbox
        self.counters = counters
        self._watch = watch
        self._claims = claims
        self.roots: dict[bytes, KeptState] = {}
        self.receive = Due(at=float("-inf"))
        self._hinted = Due()
        self._received = float("-inf")
        """When what others wrote was last received in full."""
        self._announce = Due()
        self._tick = Due(at=float("-inf"))
        self._data_version = keeper.changed_by_others()
        self._stranger_after = 0.0
        self._clocks = (clock.now(), clock.monotonic())
        self.store_problem = ""
        self.roots_problem = ""
        self.changes = 0
        """Rises with every step that did something."""
        self._talk: Talk | None = None
        if bus is not None:
            self._talk = Talk(keeper, bus, counters, tell_paths=settings.tell_paths, now=clock.now)
            bus.start(inbox.wake)

    # What other threads tell

    def changed(self, root: bytes, paths: set[RelPath], made: set[RelPath], now: float) -> None:
        """Paths of a root may have changed."""
        state = self.roots.get(root)
        if state is not None:
            self.counters.add("tcfs_watch_changes_total", len(paths))
            state.pending.touched(paths, now)
            state.pending.made(made, now)

    def watching(self, root: bytes, now: float) -> None:
        """What changed before it was watched was not told of."""
        state = self.roots.get(root)
        if state is not None:
            state.blind = ""
            state.watch_again.succeeded()
            state.pending.all(now)

    def blind(self, root: bytes, reason: str, now: float) -> None:
        """Nothing tells of changes: rescan instead, and try to watch again."""
        state = self.roots.get(root)
        if state is not None:
            log.warning("cannot watch a root", extra={"root": show(root), "reason": reason})
            state.blind = reason
            state.watch = None
            state.watch_again.failed(now, TICK_S, 60.0)
            state.rescan.wish(now + self._settings.poll_interval_s)

    def look_at_everything(self, now: float) -> None:
        """Trust nothing that was seen before: the machine slept, or a person asked."""
        self.receive.not_before = 0.0
        self.receive.wish(now)
        for state in self.roots.values():
            state.pending.all(now)

    # The loop

    def step(self, now: float) -> float:
        """Do what is most urgent. Returns when to call again, in monotonic seconds."""
        self._look_at_clocks(now)
        if self._tick.due(now):
            self._look_around(now)
        self._take_events(now)
        if self._hinted.due(now):
            self._receive_hinted(now)
            return now
        if self.receive.due(now):
            self._receive(now)
            return now
        mine = [state for state in self.roots.values() if state.claimed]
        for state in mine:
            if state.pull.due(now):
                self._pull(state, now)
                return now
        for state in mine:
            ripe = now >= state.push.not_before and state.pending.due(now)
            if ripe and self._push(state, now):
                return self._clock.monotonic()
        if self._announce.due(now):
            self._tell(now)
        for state in mine:
            if state.rescan.due(now):
                # The least urgent of all: everything else was done.
                state.rescan.begun()
                state.pending.all(now)
                state.rescan.wish(now + self._rescan_after(state))
                return now
        return self._next()

    def _next(self) -> float:
        times = [self._hinted.when(), self.receive.when(), self._tick.when(), self._announce.when()]
        for state in self.roots.values():
            if not state.claimed:
                continue
            times += [state.pull.when(), state.rescan.when()]
            times.append(max(state.pending.when(), state.push.not_before))
        return min(times)

    def _rescan_after(self, state: KeptState) -> float:
        blind = state.watch is None
        return self._settings.poll_interval_s if blind else self._settings.rescan_interval_s

    def _look_at_clocks(self, now: float) -> None:
        wall, before = self._clock.now(), self._clocks
        self._clocks = (wall, now)
        if abs((wall - before[0]) - (now - before[1])) > JUMP_S:
            log.info("the clock jumped: looking at everything")
            self.look_at_everything(now)

    def _look_around(self, now: float) -> None:
        self._tick.begun()
        self._tick.wish(now + TICK_S)
        try:
            wanted = {kept.local: kept for kept in self._keeper.roots()}
            self.roots_problem = ""
        except TcfsError as error:
            self.roots_problem = error.message
            wanted = {local: state.kept for local, state in self.roots.items()}
        for local in self.roots.keys() - wanted.keys():
            self._leave(self.roots.pop(local))
        for local, kept in wanted.items():
            state = self.roots.get(local)
            if state is None or state.kept != kept:
                if state is not None:
                    self._leave(state)
                self._enter(kept, now)
                state = self.roots[local]
            if not state.claimed and state.claim.due(now):
                self._claim(state, now)
            if state.claimed and state.watch is None and state.watch_again.due(now):
                self._begin_to_watch(state)
        version = self._keeper.changed_by_others()
        if version != self._data_version:
            # A command worked beside us: what it sent is to be told of, what it took up to be
            # put on disk.
            self._data_version = version
            self._announce.wish(now)
            for state in self.roots.values():
                state.pull.wish(now)

    def _enter(self, kept: KeptRoot, now: float) -> None:
        state = self.roots[kept.local] = KeptState(kept, Pending(git=self._settings.git))
        log.info("keeping a root in sync", extra={"root": show(kept.local)})
        if self._talk is not None:
            self._talk.join(kept.namespace)
        state.watch_again.wish(now)
        state.pull.wish(now)
        state.pending.all(now)
        state.rescan.wish(now + self._settings.rescan_interval_s)
        self.receive.wish(now)

    def _leave(self, state: KeptState) -> None:
        log.info("no longer keeping a root in sync", extra={"root": show(state.kept.local)})
        if state.watch is not None:
            state.watch.close()
        if state.claimed and self._claims is not None:
            self._claims.release(state.kept.local)

    def _claim(self, state: KeptState, now: float) -> None:
        try:
            if self._claims is not None:
                self._claims.take(state.kept.local)
        except TcfsError as error:
            state.problems["claim"] = (error.message, error.remedy)
            state.claim.failed(now, TICK_S, 30.0)
            return
        state.problems.pop("claim", None)
        state.claimed = True

    def _begin_to_watch(self, state: KeptState) -> None:
        state.watch_again.begun()
        if self._watch is not None:
            state.watch = self._watch(state.kept.local)

    # Events

    def _take_events(self, now: float) -> None:
        talk = self._talk
        if talk is None:
            return
        news = talk.listen()
        if "news" in news:
            self._hinted.wish(now)
        if "stranger" in news:
            self.receive.wish(max(now, self._stranger_after))
            self._stranger_after = max(now, self._stranger_after) + STRANGER_S
        if talk.arrived():
            self.receive.not_before = 0.0
            self.receive.wish(now)
            self._announce.not_before = 0.0
            self._announce.wish(now)

    def _tell(self, now: float) -> None:
        self._announce.begun()
        if self._talk is None:
            return
        try:
            self._talk.tell()
        except LiveError as error:
            log.info("cannot tell of a push", extra={"reason": error.message})
            self._announce.failed(now, FIRST_RETRY_S, self._settings.poll_interval_s)
        else:
            self._announce.succeeded()

    # Steps with the device's lock

    def _receive(self, now: float) -> None:
        self.changes += 1
        self.receive.begun()
        self.receive.wish(now + self._settings.poll_interval_s)
        started = self._clock.monotonic()
        try:
            count = self._keeper.receive()
        except TcfsError as error:
            self._step_failed("receive", error)
            self._put_off(self.receive, error, self._clock.monotonic())
            return
        finally:
            self.counters.took("receive", self._clock.monotonic() - started)
        self._store_answered()
        self.receive.succeeded()
        self._received = started
        if self._talk is not None:
            self._talk.acknowledge()
            self._talk.give_back()
        self._taken_up(count, now)

    def _receive_hinted(self, now: float) -> None:
        """Fetch just what live events name; if that is not enough, everything."""
        self._hinted.begun()
        self.changes += 1
        talk = self._talk
        if talk is None:
            return
        started = self._clock.monotonic()
        try:
            count = self._keeper.receive_hinted(talk.hints())
        except TcfsError as error:
            self._step_failed("hinted", error)
            self._put_off(self.receive, error, self._clock.monotonic())
            return
        finally:
            self.counters.took("hinted", self._clock.monotonic() - started)
        if not talk.acknowledge():
            self.receive.wish(now)
        self._taken_up(count, now)

    def _taken_up(self, count: int, now: float) -> None:
        self.counters.add("tcfs_received_segments_total", count)
        for state in self.roots.values():
            if count or not state.pulled:
                state.pull.wish(now)

    def _pull(self, state: KeptState, now: float) -> None:
        self.changes += 1
        state.pull.begun()
        started = self._clock.monotonic()
        mode = "defer" if self._settings.mode == "interactive" else self._settings.mode
        try:
            result = self._keeper.pull(state.kept, mode)
        except TcfsError as error:
            self._failed(state, "pull", error, state.pull, self._clock.monotonic())
            return
        finally:
            self.counters.took("pull", self._clock.monotonic() - started)
        state.problems.pop("pull", None)
        state.pull.succeeded()
        state.pulled = True
        state.last_pull = self._clock.now()
        moved = result.transfer
        if result.plan.total:
            self.counters.add("tcfs_pulls_total")
            self.counters.add("tcfs_pulled_files_total", moved.files)
            self.counters.add("tcfs_pulled_bytes_total", moved.bytes_received)
            self._report(state, "pulled", result)
        for notice in result.notices:
            log.info("a name of its own", extra={"notice": notice})
        if result.segment:
            self._announce.wish(now)
        if result.problems:
            self._keep_problem(state, "pull", result)
            state.pull.failed(
                self._clock.monotonic(), self._settings.poll_interval_s, 10 * TICK_S * 60
            )

    def _push(self, state: KeptState, now: float) -> bool:
        """Push what is pending. Returns False if there turned out to be nothing."""
        paths = state.pending.take()
        self.changes += 1
        started = self._clock.monotonic()
        try:
            if paths is not None and not self._keeper.differs(state.kept, paths):
                state.problems.pop("push", None)
                state.push.succeeded()
                return False
            fresh = started - self._received < self._settings.poll_interval_s
            result = self._keeper.push(state.kept, paths, received=fresh)
        except TcfsError as error:
            at = self._clock.monotonic()
            state.pending.put_back(paths, at)
            self._failed(state, "push", error, state.push, at)
            return True
        finally:
            self.counters.took("push", self._clock.monotonic() - started)
        self._store_answered()
        state.problems.pop("push", None)
        state.push.succeeded()
        state.pushed = True
        state.last_push = self._clock.now()
        moved = result.transfer
        if moved.segments:
            self.counters.add("tcfs_pushes_total")
            self.counters.add("tcfs_pushed_files_total", moved.files)
            self.counters.add("tcfs_pushed_bytes_total", moved.bytes_sent)
            self._report(state, "pushed", result)
            self._announce.wish(now)
            self._tell(now)
        # A push takes up what others wrote, and may have found that both sides changed.
        state.pull.wish(now)
        if result.problems:
            self._keep_problem(state, "push", result)
            if paths is not None:
                # One that was being written is read again when it is written next, or here.
                state.pending.later += [(now + 2.0, path) for path in paths]
        return True

    # Failures

    def _put_off(self, due: Due, error: TcfsError, now: float) -> None:
        if isinstance(error, BusyError):
            due.failed(now, BUSY_RETRY_S, 2.0)
        elif isinstance(error, CancelledError):
            due.wish(now)
        elif error.retryable:
            due.failed(now, FIRST_RETRY_S, self._settings.poll_interval_s)
        else:
            due.failed(now, self._settings.poll_interval_s, 10 * self._settings.poll_interval_s)

    def _failed(self, state: KeptState, step: str, error: TcfsError, due: Due, now: float) -> None:
        self._step_failed(step, error, state)
        self._put_off(due, error, now)

    def _step_failed(self, step: str, error: TcfsError, state: KeptState | None = None) -> None:
        self.counters.add("tcfs_errors_total", step=step, code=error.code)
        if isinstance(error, StoreError):
            if not self.store_problem:
                log.warning("the store failed", extra={"reason": error.message})
            self.store_problem = error.message
            self.counters.set("tcfs_store_ok", 0)
        if isinstance(error, BusyError | CancelledError):
            return
        what = (error.message, error.remedy)
        if state is not None and state.problems.get(step) != what:
            state.problems[step] = what
            extra = {"root": show(state.kept.local), "step": step, "code": error.code}
            log.warning("a root has a problem: %s", error.message, extra=extra)
        elif state is None and not isinstance(error, StoreError):
            log.warning("%s failed: %s", step, error.message, extra={"code": error.code})

    def _store_answered(self) -> None:
        if self.store_problem:
            log.info("the store answers again")
            for state in self.roots.values():
                # What was put off because of it need not wait.
                for due in (state.push, state.pull):
                    due.not_before = 0.0
        self.store_problem = ""
        self.counters.set("tcfs_store_ok", 1)

    def _keep_problem(self, state: KeptState, step: str, result: SyncResult) -> None:
        first = result.problems[0]
        more = len(result.problems) - 1
        text = f"{first.path}: {first.message}" + (f" (and {more} more)" if more else "")
        if state.problems.get(step, ("",))[0] != text:
            log.warning("not everything was handled: %s", text, extra={"step": step})
        state.problems[step] = (text, first.remedy)

    def _report(self, state: KeptState, what: str, result: SyncResult) -> None:
        moved = result.transfer
        log.info(
            what,
            extra={
                "root": show(state.kept.local),
                "changes": result.plan.total,
                "files": moved.files,
                "sent": moved.bytes_sent,
                "received": moved.bytes_received,
                "conflicts": len(result.conflicts),
                "seconds": round(moved.seconds, 3),
            },
        )

    def close(self) -> None:
        """Leave: tell the others, and let the watchers go."""
        if self._talk is not None:
            self._talk.close()
        for state in self.roots.values():
            if state.watch is not None:
                state.watch.close()
