"""What every bus does: the one in memory, and NATS for real."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tcfs.live.base import EventBus, Message
from tcfs.live.connection import NatsSettings
from tcfs.live.memory import Exchange, MemoryBus
from tcfs.live.nats import NatsBus
from tests.live.waiting import Bell, collect, until
from tests.servers import unique


@dataclass
class Place:
    """Where buses are opened."""

    open: Callable[[str], EventBus]
    waits: bool


@pytest.fixture(params=["memory", "nats"])
def place(request: pytest.FixtureRequest, tmp_path):
    opened: list[EventBus] = []
    if request.param == "memory":
        exchange = Exchange(time.monotonic)

        def make(name: str) -> EventBus:
            return MemoryBus(exchange, name)
    else:
        server = request.getfixturevalue("nats_server")
        token = tmp_path / "token"
        token.touch(0o600)
        token.write_text(server.token)
        settings = NatsSettings((server.url,), credentials=token)

        def make(name: str) -> EventBus:
            return NatsBus(settings, name)

    def open_(name: str) -> EventBus:
        bus, bell = make(name), Bell()
        bus.start(bell.ring)
        opened.append(bus)
        until(lambda: bus.connected, bell)
        return bus

    yield Place(open_, request.param == "nats")
    for bus in opened:
        bus.close()


def message(subject: str, n: int) -> Message:
    return Message(f"STATE.{subject}.file_synced", str(n).encode(), f"{subject}/{n}")


def test_every_queue_gets_every_message_once_and_in_order(place: Place):
    word = unique("order")
    one, two = place.open(unique("one")), place.open(unique("two"))
    messages = [message(word, n) for n in range(300)]
    one.publish(messages)
    one.publish(messages[:10])  # said twice: the id tells
    for bus in (one, two):
        found = collect(bus, word, 300)
        assert [d.data for d in found] == [m.data for m in messages]
        for delivery in found:
            delivery.ack()
        assert bus.connected
        assert bus.problem == ""


def test_a_queue_goes_on_filling_while_its_owner_is_away(place: Place):
    word, name = unique("away"), unique("queue")
    sender, receiver = place.open(unique("sender")), place.open(name)
    sender.publish([message(word, 1)])
    for delivery in collect(receiver, word, 1):
        delivery.ack()
    receiver.close()
    sender.publish([message(word, 2), message(word, 3)])
    again = place.open(name)
    assert [d.data for d in collect(again, word, 2)] == [b"2", b"3"]


def test_what_is_put_off_comes_again_and_what_is_acknowledged_does_not(place: Place):
    word = unique("retry")
    bus = place.open(unique("queue"))
    bus.publish([message(word, 1), message(word, 2)])
    first, second = collect(bus, word, 2)
    first.ack()
    second.retry(0.05)
    (again,) = collect(bus, word, 1)
    assert again.data == b"2"
    again.ack()
    bus.publish([message(word, 3)])
    assert [d.data for d in collect(bus, word, 1)] == [b"3"]
