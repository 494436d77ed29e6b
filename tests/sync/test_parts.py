"""A large push commits in parts: more is stored while the packs of one part are on their way."""

from __future__ import annotations

import random
import threading
from functools import partial

import pytest

from tcfs.content.packer import Packer
from tcfs.errors import StoreError
from tcfs.store.base import ALWAYS, BlobStore, StoreRefused
from tcfs.store.wrappers.forward import ForwardingStore
from tests.sync.kit import World

FILES = 40
SIZE = 4000
"""Bytes of a file; compressed, they are half as many."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five files are a batch and a pack, and about ten a part."""
    monkeypatch.setattr("tcfs.sync.commit.PART_BYTES", 6000)
    monkeypatch.setattr("tcfs.sync.upload.BATCH_FILES", 5)
    monkeypatch.setattr("tcfs.sync.upload.Packer", partial(Packer, target=5 * SIZE // 2))
    # No last pack of a part is so small that it travels inside its segment.
    monkeypatch.setattr("tcfs.sync.upload.MAX_INLINE_PACK", 0)


def content(number: int) -> str:
    return random.Random(number).randbytes(SIZE // 2).hex()


class Watched(ForwardingStore):
    """Tells what was put, in order; ``hold`` is called before a pack or segment goes on."""

    def __init__(self, inner: BlobStore) -> None:
        super().__init__(inner)
        self.begun: list[str] = []
        self.done: list[str] = []
        self.lock = threading.Lock()

    def put(self, key, data, condition=ALWAYS):
        with self.lock:
            self.begun.append(key)
        self.hold(key)
        etag = self.inner.put(key, data, condition)
        with self.lock:
            self.done.append(key)
        return etag

    def hold(self, key: str) -> None:
        """Nothing holds it."""

    def of(self, prefix: str) -> list[str]:
        return [key for key in self.done if key.startswith(prefix)]


class FirstWaits(Watched):
    """The first pack waits until the fourth is sent, which is of a later part."""

    def __init__(self, inner: BlobStore) -> None:
        super().__init__(inner)
        self.later = threading.Event()
        self.waited = False

    def hold(self, key: str) -> None:
        packs = [k for k in self.begun if k.startswith("packs/")]
        if len(packs) == 4:
            self.later.set()
        if packs and key == packs[0]:
            assert not self.of("ledger/default"), "a segment was sent before its packs"
            self.waited = self.later.wait(30)


def test_the_next_part_is_stored_while_packs_of_this_one_are_on_their_way(world: World):
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n:02}": content(n) for n in range(FILES)})
    store = FirstWaits(world.open_store())
    anna.reopen(store=store)
    pushed = anna.push()
    assert store.waited
    assert pushed.transfer.segments >= 3
    assert len(store.of("ledger/default")) == pushed.transfer.segments
    ben.pull()
    assert ben.contents() == anna.contents()
    assert not anna.fleet.verify(read_data=True).problems
    assert anna.push().plan.total == 0


class Refuses(Watched):
    """Takes only so many segments."""

    most = 2

    def hold(self, key: str) -> None:
        if key.startswith("ledger/default") and len(self.of("ledger/default")) >= self.most:
            raise StoreRefused("no more")


def test_what_a_push_that_failed_between_parts_has_sent_is_not_sent_again(world: World):
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n:02}": content(n) for n in range(FILES)})
    store = Refuses(world.open_store())
    anna.reopen(store=store)
    with pytest.raises(StoreError):
        anna.push()
    assert len(store.of("ledger/default")) == 2
    sent = len(store.of("packs/"))
    store.most = 1000
    anna.push()
    assert sent >= 4
    # What a pack holds is kept, but for one that was not finished when the push failed.
    assert len(store.of("packs/")) <= FILES // 5 + 3
    ben.pull()
    assert ben.contents() == anna.contents()
    assert not anna.fleet.verify(read_data=True).problems


def test_equal_content_in_two_parts_is_stored_once(world: World):
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n:02}": content(n % 10) for n in range(FILES)})
    store = Watched(world.open_store())
    anna.reopen(store=store)
    pushed = anna.push()
    assert pushed.transfer.segments >= 3
    ben.pull()
    assert ben.contents() == anna.contents()
    assert not anna.fleet.verify(read_data=True).problems
