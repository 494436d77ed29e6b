"""What the daemon says to other devices, and what it makes of what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tcfs.errors import LiveError
from tcfs.live.base import Delivery, EventBus
from tcfs.live.events import Announcement, hear, messages_of, presence
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, VersionId
from tcfs.service.daemon.counters import Counters
from tcfs.sync.hinted import Hint
from tcfs.sync.keeper import Keeper

log = logging.getLogger("tcfs.daemon")

ANNOUNCED_AT_ONCE: Final = 50
"""Segments told of in one go; earlier ones follow from the last one's head."""
RETRY_S: Final = 2.0
"""When an event that tells of something not in the ledger is to come again."""

News = Literal["nothing", "news", "stranger"]


@dataclass(slots=True)
class _Held:
    delivery: Delivery
    hint: Hint


class Talk:
    """One device's part in the conversation.

    Args:
        tell_paths: whether the bus may learn what is in an encrypted repository.
        now: unix seconds.
    """

    def __init__(
        self,
        keeper: Keeper,
        bus: EventBus,
        counters: Counters,
        *,
        tell_paths: bool,
        now: Callable[[], float],
    ) -> None:
        self._keeper = keeper
        self.bus = bus
        self._counters = counters
        self._tell_paths = tell_paths or not keeper.encrypted
        self._now = now
        self._generation = 0
        self._held: list[_Held] = []
        self._announced: dict[NamespaceId, int] = {}

    def join(self, namespace: NamespaceId) -> None:
        """Speak of this namespace too. What was committed before is told by saying where we are."""
        if namespace not in self._announced:
            head = self._keeper.head(namespace, self._keeper.device[0])
            self._announced[namespace] = head.seq if head else 0
            self._generation = 0

    def arrived(self) -> bool:
        """Whether the bus has (again) connected: what was said meanwhile may be gone."""
        if not self.bus.connected or self.bus.generation == self._generation:
            return False
        self._generation = self.bus.generation
        self.say("device_online")
        return True

    # Hearing

    def listen(self) -> set[News]:
        """Take what came in. What tells of something unknown is kept."""
        found: set[News] = set()
        for delivery in self.bus.take():
            self._counters.add("tcfs_events_received_total")
            news, hint = self._weigh(delivery)
            if news == "news" and hint is not None:
                self._held.append(_Held(delivery, hint))
            else:
                delivery.ack()
            found.add(news)
        return found

    def _weigh(self, delivery: Delivery) -> tuple[News, Hint | None]:
        heard = hear(delivery.subject, delivery.data)
        if heard is None or heard.head is None or heard.device == self._keeper.device[0]:
            return "nothing", None
        namespace = NamespaceId(heard.namespace)
        if namespace not in self._announced:
            return "nothing", None
        if self._keeper.known(namespace, heard.device, heard.head):
            return "nothing", None
        # A stranger may have been admitted just now; or may be anybody.
        known = self._keeper.is_member(heard.device)
        return ("news" if known else "stranger"), Hint(namespace, heard.device, heard.head)

    def hints(self) -> list[Hint]:
        """What the events that are kept tell of."""
        return [one.hint for one in self._held]

    def acknowledge(self) -> bool:
        """Acknowledge what is in the state by now. Returns whether nothing is left."""
        left = []
        for one in self._held:
            if self._keeper.known(one.hint.namespace, one.hint.device, one.hint.head):
                one.delivery.ack()
            else:
                left.append(one)
        self._held = left
        return not left

    def give_back(self) -> None:
        """Have what is left sent again: the ledger does not show it yet, or it was a lie."""
        for one in self._held:
            one.delivery.retry(RETRY_S)
        self._held = []

    # Telling

    def say(self, kind: Literal["device_online", "device_offline"]) -> None:
        """Tell that this device is here, or leaves, and where its chains end."""
        device = self._keeper.device[0]
        messages = [
            presence(kind, device, namespace, self._keeper.head(namespace, device), self._now())
            for namespace in self._announced
        ]
        try:
            self.bus.publish(messages)
        except LiveError as error:
            log.info("cannot say %s", kind, extra={"reason": error.message})

    def tell(self) -> None:
        """Tell of what this device committed, whoever did it.

        Raises:
            LiveError: not all was taken; it is told again next time.
        """
        if not self.bus.connected:
            return  # the next connection begins with where our chains end
        device = self._keeper.device[0]
        for namespace, after in self._announced.items():
            for segment in self._keeper.own_segments(namespace, after, ANNOUNCED_AT_ONCE):
                made = Announcement(
                    device, namespace, segment.head, segment.versions, int(self._now())
                )
                messages = messages_of(made, self._lookup(namespace), tell_paths=self._tell_paths)
                self.bus.publish(messages)
                self._counters.add("tcfs_events_published_total", len(messages))
                self._announced[namespace] = segment.head.seq

    def _lookup(self, namespace: NamespaceId) -> Callable[[VersionId], Version | None]:
        return lambda version: self._keeper.version(namespace, version)

    def close(self) -> None:
        """Say goodbye."""
        if self.bus.connected:
            try:
                self.tell()
            except LiveError as error:
                log.info("cannot tell of the last push", extra={"reason": error.message})
            self.say("device_offline")
        self.bus.close()
