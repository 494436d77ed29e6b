"""The daemon's loop: two or three of them over one store, with time in the test's hands."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tcfs.errors import StoreError
from tcfs.live.memory import Exchange, MemoryBus
from tcfs.model.ids import RelPath
from tcfs.service.daemon.counters import Counters
from tcfs.service.daemon.inbox import Inbox
from tcfs.service.daemon.loop import Daemon
from tcfs.service.daemon.schedule import QUIET_S
from tcfs.service.daemon.states import Settings
from tests.sync.careless import Fleet
from tests.sync.conftest import templates, world
from tests.sync.kit import Device, World, contents, fill, path_of

__all__ = ["templates", "world"]

POLL_S = 30.0


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.wall, self.time = 1_800_000_000.0, 1000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.time += seconds


class Kept:
    """A device with a daemon and an enrolled directory."""

    def __init__(self, device: Device, clock: Clock, exchange: Exchange | None, **settings) -> None:
        directory = device.world.top / device.name / "proj"
        directory.mkdir(exist_ok=True)
        self.device = device
        self.tree = os.path.realpath(os.fsencode(directory))
        device.fleet.roots.add(self.tree, as_remote="proj")
        self.clock = clock
        self.exchange = exchange
        self.settings = Settings(poll_interval_s=POLL_S, **settings)
        self.daemon = self.start()

    def start(self) -> Daemon:
        self.inbox = Inbox()
        keeper = self.device.fleet.keeper
        bus = MemoryBus(self.exchange, keeper.device[0]) if self.exchange else None
        self.daemon = Daemon(keeper, bus, self.clock, self.settings, self.inbox, Counters())
        return self.daemon

    def save(self, content: dict, *, told: bool = True) -> None:
        fill(self.tree, content)
        if told:
            self.tell(*content)

    def tell(self, *names: str) -> None:
        paths = {RelPath(os.fsencode(name)) for name in names}
        self.inbox.changed(self.tree, paths, set())

    @property
    def files(self) -> dict[str, bytes]:
        return contents(self.tree)

    @property
    def state(self):
        return self.daemon.roots[self.tree]


Start = Callable[..., list[Kept]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange(clock: Clock) -> Exchange:
    return Exchange(clock.monotonic)


@pytest.fixture
def start(world: World, clock: Clock):
    def made(*names: str, exchange: Exchange | None = None, **settings) -> list[Kept]:
        devices = world.devices(*names, TCFS_SYNC_SYNC_ROOT="")
        found = [Kept(device, clock, exchange, **settings) for device in devices]
        run(clock, found)
        return found

    return made


def run(clock: Clock, fleet: list[Kept], seconds: float = 0.5) -> None:
    """Let the daemons do what is due in this time, in turn."""
    end = clock.time + seconds
    while True:
        nexts = []
        for kept in fleet:
            for what in kept.inbox.wait(0):
                what(kept.daemon, clock.time)
            nexts.append(kept.daemon.step(clock.time))
        soonest = min(nexts)
        if soonest <= clock.time:
            continue
        if soonest > end:
            clock.pass_(end - clock.time)
            return
        clock.pass_(soonest - clock.time)


def test_a_save_is_on_the_others_at_once_by_events(start: Start, exchange: Exchange, clock: Clock):
    anna, ben, cora = start("anna", "ben", "cora", exchange=exchange)
    anna.save({"a.txt": "one", "d/b.txt": "two"})
    run(clock, [anna, ben, cora])
    assert anna.files == ben.files == cora.files == {"a.txt": b"one", "d/b.txt": b"two"}
    ben.save({"a.txt": "three"})
    os.unlink(path_of(ben.tree, "d/b.txt"))
    ben.tell("d/b.txt")
    run(clock, [anna, ben, cora])
    assert anna.files == cora.files == {"a.txt": b"three"}
    assert ben.daemon.counters.get("tcfs_events_published_total") >= 2


def test_without_a_bus_a_save_is_on_the_others_within_one_interval(start: Start, clock: Clock):
    anna, ben = start("anna", "ben")
    anna.save({"a.txt": "one"})
    run(clock, [anna, ben], 1)
    assert ben.files == {}
    run(clock, [anna, ben], POLL_S)
    assert ben.files == {"a.txt": b"one"}


@pytest.mark.parametrize("after_s", [0.0, 7.3, 29.9])
def test_without_a_bus_no_moment_of_a_save_waits_longer_than_one_interval(
    start: Start, clock: Clock, after_s: float
):
    anna, ben = start("anna", "ben")
    run(clock, [anna, ben], after_s)
    for number in range(4):
        name = f"{number}.txt"
        anna.save({name: "saved"})
        saved = clock.time
        run(clock, [anna, ben], QUIET_S)  # the push waits until the file is quiet
        while name not in ben.files:
            assert clock.time - saved < POLL_S + QUIET_S
            run(clock, [anna, ben], 0.5)
        assert clock.time - saved <= POLL_S + 0.5
    # And it does not come by looking more often than that.
    looks = ben.daemon.counters.durations("receive")
    assert looks <= 2 + (clock.time - 1000.0) / POLL_S


def test_a_daemon_that_waits_to_be_admitted_says_so_and_goes_on_by_itself(
    world: World, clock: Clock
):
    fleet = Fleet(world)
    anna = fleet.first()
    ben, asked = fleet.asks("ben", anna.fleet.invite().code)
    for device in (anna, ben):
        device.settings["TCFS_SYNC_SYNC_ROOT"] = ""
        device.close()
    kept = [Kept(device, clock, None) for device in (anna, ben)]
    first, second = kept
    first.save({"a.txt": "one"})
    second.save({"b.txt": "two"})
    run(clock, kept, POLL_S)
    assert "waits until an admin admits it" in second.state.problems["push"][0]
    assert first.files == {"a.txt": b"one"}
    anna.fleet.access.admit(asked.fingerprint)
    run(clock, kept, 12 * POLL_S)
    assert first.files == second.files == {"a.txt": b"one", "b.txt": b"two"}
    assert second.state.problems == {}


def test_lost_repeated_and_late_events_cost_time_and_nothing_else(start: Start, clock: Clock):
    fates = ["lose", "repeat", "deliver"]
    count = 0

    def fault(queue: str, message: object):
        nonlocal count
        count += 1
        return fates[count % 3], float(count % 5)

    anna, ben = start("anna", "ben", exchange=Exchange(clock.monotonic, fault))
    for number in range(6):
        anna.save({f"{number}.txt": str(number)})
        ben.save({f"b{number}.txt": str(number)})
        run(clock, [anna, ben], 0.3)
    run(clock, [anna, ben], 2 * POLL_S)
    assert anna.files == ben.files
    assert len(anna.files) == 12


def test_a_bus_that_loses_its_data_is_made_up_for_from_the_ledger(
    start: Start, exchange: Exchange, clock: Clock
):
    anna, ben = start("anna", "ben", exchange=exchange)
    exchange.stop()
    anna.save({"a.txt": "one"})
    run(clock, [anna, ben], 1)
    assert ben.files == {}
    exchange.start(forget=True)
    run(clock, [anna, ben], 2)
    assert ben.files == {"a.txt": b"one"}


def test_a_daemon_that_was_away_catches_up(start: Start, exchange: Exchange, clock: Clock):
    anna, ben = start("anna", "ben", exchange=exchange)
    ben.daemon.close()
    anna.save({"a.txt": "one"})
    run(clock, [anna])
    fill(ben.tree, {"mine.txt": "saved while no daemon ran"})
    ben.start()
    run(clock, [anna, ben])
    assert anna.files == ben.files
    assert set(ben.files) == {"a.txt", "mine.txt"}


def test_what_a_watcher_missed_a_rescan_finds(start: Start, clock: Clock):
    (anna,) = start("anna", rescan_interval_s=100.0)
    anna.save({"missed.txt": "x"}, told=False)
    run(clock, [anna], 20)
    assert anna.device.fleet.complete_paths("proj/m") == []
    run(clock, [anna], 100)
    assert anna.device.fleet.complete_paths("proj/m") == ["proj/missed.txt"]


def test_concurrent_edits_are_settled_alike_and_no_side_is_lost(
    start: Start, exchange: Exchange, clock: Clock
):
    anna, ben = start("anna", "ben", exchange=exchange)
    anna.save({"f.txt": "base"})
    run(clock, [anna, ben])
    anna.save({"f.txt": "anna's"})
    ben.save({"f.txt": "ben's"})
    run(clock, [anna, ben], 2 * POLL_S)
    assert anna.files == ben.files
    assert sorted(anna.files.values()) == [b"anna's", b"ben's"]


def test_a_command_beside_the_daemon_is_told_of_and_never_forks_the_chain(
    start: Start, exchange: Exchange, clock: Clock
):
    anna, ben = start("anna", "ben", exchange=exchange)
    from tcfs.sync import session

    fill(anna.tree, {"by-command.txt": "x"})
    beside = session.open_fleet(anna.device.loaded, actor="cli")
    try:
        beside.push([anna.tree])
        anna.save({"by-daemon.txt": "y"})
        run(clock, [anna, ben], 3)
        fill(anna.tree, {"again.txt": "z"})
        beside.push([anna.tree])
    finally:
        beside.close()
    run(clock, [anna, ben], 3)
    assert ben.files == {"by-command.txt": b"x", "by-daemon.txt": b"y", "again.txt": b"z"}
    assert anna.device.fleet.verify().ok


def test_a_store_that_fails_is_asked_again_and_what_was_saved_arrives(
    start: Start, exchange: Exchange, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    anna, ben = start("anna", "ben", exchange=exchange)
    store = anna.device.fleet._context.store
    real = type(store).put

    def fails(*args, **kwargs):
        raise StoreError("the store is away")

    monkeypatch.setattr(type(store), "put", fails)
    anna.save({"a.txt": "one"})
    run(clock, [anna, ben], 5)
    assert anna.daemon.store_problem == "the store is away"
    assert anna.state.pending
    monkeypatch.setattr(type(store), "put", real)
    run(clock, [anna, ben], 2 * POLL_S)
    assert anna.daemon.store_problem == ""
    assert ben.files == {"a.txt": b"one"}


def test_too_many_deletions_wait_for_a_yes(start: Start, clock: Clock):
    (anna,) = start("anna")
    names = [f"{n}.txt" for n in range(40)]
    anna.save(dict.fromkeys(names, "x"))
    run(clock, [anna])
    for name in names:
        os.unlink(path_of(anna.tree, name))
    anna.tell(*names)
    run(clock, [anna])
    message, _remedy = anna.state.problems["push"]
    assert "40 of" in message
    assert len(anna.device.fleet.complete_paths("proj/")) >= 40


def test_a_root_that_vanished_is_a_problem_and_deletes_nothing(start: Start, clock: Clock):
    (anna,) = start("anna")
    anna.save({"a.txt": "x"})
    run(clock, [anna])
    os.rename(anna.tree, anna.tree + b".away")
    anna.tell("a.txt")
    run(clock, [anna])
    assert "push" in anna.state.problems
    os.rename(anna.tree + b".away", anna.tree)
    run(clock, [anna], 12 * POLL_S)
    assert anna.state.problems == {}
    assert anna.device.fleet.complete_paths("proj/a") == ["proj/a.txt"]


def test_a_machine_that_slept_looks_at_everything(start: Start, clock: Clock):
    anna, ben = start("anna", "ben", rescan_interval_s=1e6)
    anna.save({"a.txt": "x"}, told=False)
    clock.wall += 3600
    run(clock, [anna, ben], 1)
    ben.daemon.look_at_everything(clock.time)
    run(clock, [anna, ben], 1)
    assert ben.files == {"a.txt": b"x"}


def test_roots_come_and_go_while_the_daemon_runs(start: Start, clock: Clock):
    (anna,) = start("anna")
    other = anna.device.world.top / "anna" / "other"
    other.mkdir()
    (other / "f.txt").write_text("x")
    anna.device.fleet.roots.add(os.fsencode(other), as_remote="other")
    run(clock, [anna], 3)
    assert anna.device.fleet.complete_paths("other/") == ["other/f.txt"]
    anna.device.fleet.roots.remove(os.fsencode(other))
    run(clock, [anna], 3)
    assert list(anna.daemon.roots) == [anna.tree]


def test_an_event_of_a_stranger_or_a_lie_moves_nothing(
    start: Start, exchange: Exchange, clock: Clock
):
    from tcfs.live.base import Message

    anna, ben = start("anna", "ben", exchange=exchange)
    me = anna.device.fleet.keeper.device[0]
    head = '{"namespace":"proj","seq":9,"hash":"00"}'
    lie = f'{{"device_id":"{me}","head":{head.replace("proj", "default")}}}'
    stranger = "99999999-9999-4999-8999-999999999999"
    exchange.publish(
        [
            Message(f"STATE.{me}.file_synced", lie.encode(), "1"),
            Message(f"STATE.{stranger}.file_synced", lie.replace(me, stranger).encode(), "2"),
            Message("STATE.x.y", b"noise", "3"),
        ]
    )
    run(clock, [anna, ben], 120)
    assert ben.files == {}
    assert ben.daemon.counters.get("tcfs_errors_total") == 0
    ben.save({"still.txt": "works"})
    run(clock, [anna, ben])
    assert anna.files == {"still.txt": b"works"}
