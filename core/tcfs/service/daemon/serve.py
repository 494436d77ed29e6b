"""The daemon as a process: its beginning, its edges, its end; and beginning anew after a fault."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tcfs import __version__
from tcfs.errors import BusyError, LocalFileError, TcfsError
from tcfs.host.lock import file_lock
from tcfs.live.base import EventBus, queue_name
from tcfs.model.paths import METADATA_DIR, show
from tcfs.service.daemon import report as reports
from tcfs.service.daemon.counters import Counters
from tcfs.service.daemon.expiry import ExpiryWatch
from tcfs.service.daemon.inbox import Inbox
from tcfs.service.daemon.loop import Daemon
from tcfs.service.daemon.notify import Notifier
from tcfs.service.daemon.report import Report, RootReport
from tcfs.service.daemon.states import Settings
from tcfs.service.daemon.watcher import Watcher
from tcfs.service.daemon.web import Web
from tcfs.sync.fleet import Fleet
from tcfs.sync.session import open_fleet

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.service.daemon.states import KeptState

log = logging.getLogger("tcfs.daemon")

HUNG_S: Final = 600.0
"""A step that asked nothing of its caller for so long hangs."""
BEAT_S: Final = 5.0
REPORT_S: Final = 1.0
"""Reports are not written more often than this."""
SEGMENT_CACHE: Final = 16 << 20
OPEN_RETRY_S: Final = (1.0, 30.0)


class RootClaims:
    """A lock in each root's own directory: another device on this machine may keep it as well."""

    def __init__(self) -> None:
        self._held: dict[bytes, ExitStack] = {}

    def take(self, root: bytes) -> None:
        """Keep other daemons from a root. Raises BusyError if one has it."""
        if root in self._held:
            return
        stack = ExitStack()
        place = root + b"/" + METADATA_DIR
        try:
            if os.path.isdir(root):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(place, 0o700)
                stack.enter_context(file_lock(place + b"/daemon.lock", False))
        except BusyError as error:
            raise BusyError(
                f"another daemon keeps {show(root)} in sync",
                remedy="One of the two is to leave it: tcfs root remove DIR",
                details=error.details,
            ) from None
        except OSError:
            # A directory that cannot be written to is at least not written to by two.
            log.info("cannot lock a root", extra={"root": show(root)})
        else:
            if not os.path.isdir(root):
                raise LocalFileError(
                    f"{show(root)} is not there", remedy="Make or mount the directory."
                )
        self._held[root] = stack

    def release(self, root: bytes) -> None:
        """Leave a root."""
        stack = self._held.pop(root, None)
        if stack is not None:
            stack.close()

    def close(self) -> None:
        """Leave all."""
        for root in list(self._held):
            self.release(root)


class Service:
    """One run of the daemon.

    Args:
        open_: opens this device's engine; may fail for a while.
        bus: makes the bus for a device's queue, or None for none.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        open_: Callable[[], Fleet] | None = None,
        bus: Callable[[str], EventBus | None] | None = None,
    ) -> None:
        self._loaded = loaded
        self._open = open_ or (lambda: open_fleet(loaded, actor="daemon"))
        self._make_bus = bus or (lambda device: _nats_bus(loaded, device))
        self._directory: Path = loaded.state_db.parent
        self._counters = Counters()
        self._notifier = Notifier(os.environ)
        self._claims = RootClaims()
        self.inbox = Inbox()
        self._started = time.time()
        self._begun = time.monotonic()
        self._beat = self._begun
        self._report = Report(state="running", message="The daemon is starting.")
        self._report_lock = threading.Lock()
        self._reported = (-1, 0.0)
        self._expiry = ExpiryWatch(loaded, self._counters)
        self._ended = threading.Event()
        self._reloading = False
        self.web: Web | None = None

    def run(self) -> None:
        """Keep everything in sync until asked to stop.

        Raises:
            BusyError: a daemon runs for this device already.
            TcfsError: what no waiting will mend: the configuration, a missing repository.
        """
        with ExitStack() as stack:
            stack.enter_context(self._only_one())
            stack.callback(self._claims.close)
            self._listen(stack)
            stack.enter_context(self._signals())
            beat = threading.Thread(target=self._keep_beating, name="tcfs-beat", daemon=True)
            beat.start()
            stack.callback(beat.join)
            stack.callback(self._ended.set)
            log.info("started", extra={"version": __version__, "pid": os.getpid()})
            try:
                self._run_all()
            finally:
                self._notifier.send(STOPPING="1", STATUS="leaving")
                log.info("stopped")

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock = file_lock(os.fsencode(self._directory / reports.LOCK), False)
            lock.__enter__()
        except BusyError as error:
            raise BusyError(
                "a daemon runs already for this device",
                remedy="See how it is with: tcfs status",
                details=error.details,
            ) from None
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _listen(self, stack: ExitStack) -> None:
        address = self._loaded.config.daemon.metrics_addr
        if address:
            self.web = Web(address, metrics=self._metrics, healthy=self._healthy, ready=self._ready)
            stack.callback(self.web.close)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            if self.inbox.stopping:
                raise KeyboardInterrupt
            self._notifier.send(STOPPING="1", STATUS="leaving")
            self.inbox.stop()

        def look(number: int, frame: FrameType | None) -> None:
            self._reloading = True
            self._notifier.reloading()
            self.inbox.put(self._look_again)

        handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: look}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look_again(self, daemon: Daemon, now: float) -> None:
        """Trust nothing that was seen before, certificates included."""
        self._expiry.again()
        daemon.look_at_everything(now)
        self._reloaded()

    def _reloaded(self) -> None:
        if self._reloading:
            self._reloading = False
            self._notifier.send(READY="1")

    # Running

    def _run_all(self) -> None:
        delay = OPEN_RETRY_S[0]
        ready = False
        while not self.inbox.stopping:
            self._touch()
            try:
                fleet = self._open()
            except TcfsError as error:
                if not error.retryable:
                    raise
                self._is_waiting(error)
            else:
                try:
                    if not ready:
                        self._notifier.send(READY="1", STATUS="keeping directories in sync")
                        ready = True
                    self._run_one(fleet)
                    delay = OPEN_RETRY_S[0]
                except TcfsError:
                    raise
                except Exception:
                    # A fault of ours: what is on disk and in the store is consistent after every
                    # step, so everything is opened anew.
                    log.exception("a fault in the daemon")
                    self._counters.add("tcfs_errors_total", step="daemon", code="unexpected")
                finally:
                    fleet.close()
            if not ready:
                self._notifier.send(READY="1", STATUS="waiting for the store")
                ready = True
            self._wait(delay)
            self._reloaded()  # what is opened next begins with a look at everything
            delay = min(delay * 2, OPEN_RETRY_S[1])

    def _is_waiting(self, error: TcfsError) -> None:
        if self._report.store_problem != error.message:
            log.warning("cannot begin yet: %s", error.message, extra={"code": error.code})
        self._publish(
            replace(
                self._report,
                message="The daemon waits for the store.",
                store_problem=error.message,
            )
        )

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.inbox.stopping and (left := until - time.monotonic()) > 0:
            self.inbox.wait(left)

    def _run_one(self, fleet: Fleet) -> None:
        config = self._loaded.config.sync
        keeper = fleet.keeper
        keeper.cache_segments(SEGMENT_CACHE)
        bus = self._make_bus(keeper.device[0])
        daemon = Daemon(
            keeper,
            bus,
            _SystemClock(),
            Settings(
                poll_interval_s=config.poll_interval,
                rescan_interval_s=self._loaded.config.daemon.rescan_interval,
                mode=config.conflict_mode,
                tell_paths=config.nats_tell_paths,
                git=config.sync_git_dirs,
            ),
            self.inbox,
            self._counters,
            watch=lambda root: Watcher(root, self.inbox),
            claims=self._claims,
            cancel=self._cancelled,
        )
        try:
            while not self.inbox.stopping:
                self._touch()
                due = daemon.step(time.monotonic())
                if self._expiry.look(time.monotonic()) and daemon.store_problem:
                    # What waits because a certificate had expired need not wait any longer.
                    daemon.look_at_everything(time.monotonic())
                idle = due - time.monotonic()
                self._tell(daemon, fleet, bus)
                for what in self.inbox.wait(min(max(0.0, idle), BEAT_S)):
                    what(daemon, time.monotonic())
        finally:
            daemon.close()

    def _cancelled(self) -> bool:
        self._touch()
        return self.inbox.stopping

    def _touch(self) -> None:
        self._beat = time.monotonic()

    # Telling how it is

    def _tell(self, daemon: Daemon, fleet: Fleet, bus: EventBus | None) -> None:
        now = time.monotonic()
        changes, at = self._reported
        live = bus is not None and bus.connected
        turned = live != (self._report.live == "live")
        if not turned and (now - at < REPORT_S or (changes == daemon.changes and now - at < 30)):
            return
        self._reported = (daemon.changes, now)
        keeper = fleet.keeper
        roots = tuple(_root_report(fleet, state) for state in daemon.roots.values())
        counters = self._counters
        counters.forget("tcfs_root_ok")
        for root in roots:
            counters.set("tcfs_root_ok", not root.problem, root=root.remote)
            counters.set("tcfs_root_pending", root.pending, root=root.remote)
            counters.set("tcfs_root_tracked", root.tracked, root=root.remote)
        counters.set("tcfs_live_connected", live)
        counters.set("tcfs_conflicts", keeper.conflicts())
        counters.set("tcfs_outbox_segments", keeper.outbox())
        if live:
            message = "connected to NATS"
        elif bus is None:
            message = "no NATS server is configured (sync.nats_url)"
        else:
            message = f"NATS cannot be used now: {bus.problem.rstrip('.')}"
        if not live:
            message += (
                f"; the store is looked at every {self._loaded.config.sync.poll_interval:g} s"
            )
        self._publish(
            Report(
                state="running",
                message=_summary(roots, daemon),
                live="live" if live else "polling",
                live_message=message,
                store_problem=daemon.store_problem,
                warnings=self._expiry.warnings,
                roots=roots,
            )
        )

    def _publish(self, report: Report) -> None:
        """Make this the report, and write it."""
        with self._report_lock:
            self._report = replace(
                report,
                state="running",
                pid=os.getpid(),
                version=__version__,
                started_at=self._started,
                updated_at=time.time(),
                counters=self._counters.totals(),
            )
            try:
                reports.write(self._directory, self._report)
            except OSError as error:
                log.warning("cannot write the report: %s", error.strerror)

    def _keep_beating(self) -> None:
        """Say that the loop is alive, as long as it is.

        In a thread of its own, since a step may take longer than systemd waits. What shows that
        the loop gets on is ``_touch``, between steps and wherever a step asks whether it is to end.
        """
        pause = min(BEAT_S, (self._notifier.watchdog_s or BEAT_S * 2) / 2)
        while not self._ended.wait(pause):
            if self._healthy()[0]:
                self._notifier.send(WATCHDOG="1", STATUS=self._report.message)
                self._publish(self._report)

    def _metrics(self) -> str:
        self._counters.set("tcfs_up_seconds", time.monotonic() - self._begun)
        return self._counters.text()

    def _healthy(self) -> tuple[bool, str]:
        silent = time.monotonic() - self._beat
        if silent > HUNG_S:
            return False, f"nothing has moved for {silent:.0f} s"
        return True, "ok"

    def _ready(self) -> tuple[bool, str]:
        report = self._report
        if report.store_problem:
            return False, f"the store cannot be used: {report.store_problem}"
        if not self._reported[1]:
            return False, "starting"
        waiting = [root for root in report.roots if root.problem or root.state == "starting"]
        if waiting:
            return False, "; ".join(f"{r.local}: {r.problem or r.state}" for r in waiting)
        return True, "ok"


def _summary(roots: tuple[RootReport, ...], daemon: Daemon) -> str:
    if daemon.roots_problem:
        return daemon.roots_problem
    if not roots:
        return "Nothing is enrolled: tcfs root add DIR"
    bad = sum(1 for root in roots if root.problem)
    done = sum(1 for root in roots if root.state == "in sync")
    text = f"{done} of {len(roots)} directories in sync"
    return f"{text}, {bad} with problems" if bad else text


def _root_report(fleet: Fleet, state: KeptState) -> RootReport:
    keeper, pending = fleet.keeper, state.pending
    problem, remedy = next(iter(state.problems.values()), ("", ""))
    if not problem and state.blind:
        problem = f"cannot be watched, so it is looked at now and then: {state.blind}"
    if problem:
        word = "problem"
    elif not (state.pulled and state.pushed):
        word = "starting"
    elif pending:
        word = "pending"
    elif keeper.waiting(state.kept):
        word = "waiting"
    else:
        word = "in sync"
    tracked = keeper.tracked(state.kept)
    return RootReport(
        local=show(state.kept.local),
        remote=keeper.remote_text(state.kept),
        state=word,
        tracked=tracked,
        pending=len(pending.paths) or int(pending.everything),
        last_push=state.last_push,
        last_pull=state.last_pull,
        problem=problem,
        remedy=remedy,
    )


class _SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def _nats_bus(loaded: LoadedConfig, device: str) -> EventBus | None:
    config = loaded.config
    if not config.sync.nats_url:
        return None
    from tcfs.live.connection import NatsSettings
    from tcfs.live.forward import Forwarder
    from tcfs.live.nats import NatsBus

    hub = config.sync.nats_hub_url
    companions = [Forwarder(NatsSettings.of(config, hub))] if hub else []
    settings = NatsSettings.of(config, config.sync.nats_url)
    return NatsBus(settings, queue_name(device), companions=companions)


def serve(loaded: LoadedConfig) -> None:
    """Run the daemon in this process, with its logs. See ``Service.run``."""
    from tcfs.service.daemon.logs import set_up

    set_up(loaded.config.daemon.log_level, loaded.config.daemon.log_format)
    Service(loaded).run()
