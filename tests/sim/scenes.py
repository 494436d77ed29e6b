"""Scenes: moves in a row that are after one kind of trouble, which moves drawn singly seldom meet.

Everything in them is drawn, and other moves come between. They promise nothing: each move does
nothing where it makes no sense by then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final

from tcfs.ledger.keys import namespace_prefix
from tcfs.model.ids import CONTROL
from tests.sim.decisions import CHOICES
from tests.sim.disk import LOSSES
from tests.sim.fleet import NAMES
from tests.sim.world import WHOLE, Move

if TYPE_CHECKING:
    from tests.sim.moves import Drawer

Scene = Callable[["Drawer"], Iterator[Move]]


def _do(name: str, operation: str, *values: object) -> Iterator[Move]:
    """An operation from begin to end."""
    yield ("operation", name, operation, *values)
    yield ("run", name, WHOLE)


def collected_under_a_push(draw: Drawer) -> Iterator[Move]:
    """What one is about to push again was let go of, and another collects meanwhile."""
    rng = draw.rng
    one, other = draw.two()
    path, copy = draw.path(), draw.path()
    wanted = rng.randbytes(60)
    yield ("user", one, True, "write", path, wanted)
    yield from _do(one, "sync")
    yield from _do(other, "sync")
    for _ in range(3):
        yield ("user", one, True, "write", path, rng.randbytes(60))
        yield from _do(one, "sync")
    if rng.random() < 0.5:
        yield from _do(other, "sync")
    yield ("user", other, True, "write", copy, wanted)
    yield ("operation", other, rng.choice(("push", "sync")))
    for _ in range(rng.randint(1, 6)):
        yield ("run", other, WHOLE, "", rng.choice(("read", "safe")))
    for _ in range(rng.randint(1, 3)):
        yield from _do(one, "gc")
        if rng.random() < 0.5:
            yield ("clock", one, 7200.0)
        if rng.random() < 0.3:
            yield ("run", other, rng.randint(1, 20))
    yield ("run", other, WHOLE)
    for _ in range(rng.randint(0, 2)):
        yield from _do(other, "sync")
        yield from _do(one, "gc")


def damaged_on_its_way(draw: Drawer) -> Iterator[Move]:
    """Bytes that no compressor changes, and without encryption no cipher protects."""
    rng = draw.rng
    one, other = draw.two()
    yield ("user", one, True, "write", draw.path(), rng.randbytes(rng.choice((40, 256))))
    yield from _do(one, "push")
    yield ("operation", other, "pull", "auto")
    for _ in range(rng.randint(1, 8)):
        yield ("run", other, WHOLE, "", "fetch")
        if draw.pending(other) == "get_range":
            yield ("run", other, 1, rng.choice(("damaged", "damaged", "short", "stale")))
    yield ("run", other, WHOLE)


def written_while_read(draw: Drawer) -> Iterator[Move]:
    """A program writes a file again, to the same length, while it is read."""
    rng = draw.rng
    one = draw.one()
    path, size = draw.path(), rng.choice((20, 20, 300))
    yield ("user", one, True, "write", path, rng.randbytes(size))
    yield ("operation", one, rng.choice(("push", "sync")))
    for _ in range(rng.randint(2, 12)):
        yield ("run", one, 1 if rng.random() < 0.3 else WHOLE, "", "read")
        if draw.target(one) == path and rng.random() < 0.6:
            yield ("user", one, True, "write", path, rng.randbytes(size))
    yield ("run", one, WHOLE)
    yield from _do(draw.one(), "sync")


def written_while_pushed(draw: Drawer) -> Iterator[Move]:
    """The same, anywhere in a push: within one tick of the clock, perhaps."""
    rng = draw.rng
    one = draw.one()
    path = draw.path()
    yield ("user", one, True, "write", path, rng.randbytes(20))
    yield ("operation", one, "push")
    for _ in range(rng.randint(1, 4)):
        yield ("run", one, WHOLE, "", rng.choice(("read", "safe")))
        if rng.random() < 0.7:
            yield ("user", one, True, "write", path, rng.randbytes(20))
    yield ("run", one, WHOLE)


def unreadable(draw: Drawer) -> Iterator[Move]:
    """A directory cannot be read for once."""
    rng = draw.rng
    one = draw.one()
    yield ("operation", one, rng.choice(("push", "sync")))
    for _ in range(rng.randint(1, 10)):
        yield ("run", one, WHOLE, "", "look")
        if draw.pending(one) == "scan" and draw.target(one) and rng.random() < 0.5:
            yield ("run", one, 1, "broken")
    yield ("run", one, WHOLE)


def both_edit(draw: Drawer) -> Iterator[Move]:
    """Two users edit one path at a time, and their devices settle it at a time."""
    rng = draw.rng
    one, other = draw.two()
    path = draw.path()
    yield ("user", one, True, "write", path, draw.content())
    yield ("user", other, True, "write", path, draw.content())
    yield ("operation", one, "sync")
    yield ("operation", other, "sync")
    for _ in range(rng.randint(0, 12)):
        name = rng.choice((one, other))
        yield ("run", name, rng.randint(1, 30))
        if not draw.busy(name):
            yield ("operation", name, "sync")


def power_fails(draw: Drawer) -> Iterator[Move]:
    """Power is lost near where something becomes durable, and what comes of it is pushed."""
    rng = draw.rng
    one, other = draw.two()
    for _ in range(rng.randint(1, 3)):
        yield ("user", one, True, rng.choice(("write", "replace")), draw.path(), draw.content())
    if rng.random() < 0.7:
        yield from _do(one, "sync")
        name, operation = other, rng.choice(("pull", "sync"))
        yield ("operation", name, operation, *(("auto",) if operation == "pull" else ()))
    else:
        name = one
        yield ("operation", name, rng.choice(("push", "sync")))
    for _ in range(rng.randint(1, 12)):
        yield ("run", name, WHOLE, "", rng.choice(("safe", "tree")))
    yield ("run", name, rng.randint(1, 6))
    if rng.random() < 0.3:
        yield ("user", name, False, "write", draw.path(), draw.content())
    yield ("crash", name, rng.choice((None, *LOSSES)), rng.randrange(1 << 30))
    if rng.random() < 0.7:
        yield ("operation", name, rng.choice(("push", "sync")))


def lost_after_it_was_sent(draw: Drawer) -> Iterator[Move]:
    """A save that no program made durable is sent, and then power is lost."""
    rng = draw.rng
    one = draw.one()
    for _ in range(rng.randint(1, 2)):
        action = rng.choice(("write", "write", "replace"))
        yield ("user", one, False, action, draw.path(), draw.content())
    yield from _do(one, rng.choice(("push", "sync")))
    yield ("crash", one, rng.choice(LOSSES), rng.randrange(1 << 30))
    if rng.random() < 0.3:
        yield from _do(one, rng.choice(("push", "sync")))


def unanswered(draw: Drawer) -> Iterator[Move]:
    """A segment arrives, and its writer never hears of it: it fails, goes on, or is killed."""
    rng = draw.rng
    one, other = draw.two()
    for _ in range(rng.randint(1, 2)):
        yield ("user", one, True, "write", draw.path(), draw.content())
    yield ("operation", one, rng.choice(("push", "sync")))
    for _ in range(rng.randint(4, 12)):
        yield ("run", one, WHOLE, "", "safe")
        if draw.pending(one) == "put" and draw.key(one).startswith("ledger/"):
            yield ("run", one, 1, "late")
            break
    if rng.random() < 0.3:
        yield ("crash", one, rng.choice((None, *LOSSES)), rng.randrange(1 << 30))
    else:
        yield ("run", one, WHOLE)
    if rng.random() < 0.5:
        yield from _do(other, "sync")
    if rng.random() < 0.5:
        yield ("user", one, True, "write", draw.path(), draw.content())
    if rng.random() < 0.7:
        yield ("operation", one, rng.choice(("push", "sync")))


def killed_midway(draw: Drawer) -> Iterator[Move]:
    """A pull ends among its renames, perhaps with an edit aside, and the others go on meanwhile."""
    rng = draw.rng
    one, other = draw.two()
    path = draw.path()
    yield ("user", other, True, "write", path, draw.content())
    yield from _do(other, "sync")
    yield from _do(one, "sync")
    yield ("user", other, True, "write", path, draw.content())
    yield from _do(other, "sync")
    yield ("operation", one, "pull", "auto")
    for _ in range(rng.choice((1, 1, 2, 3))):
        yield ("run", one, WHOLE, "", "tree")
        if rng.random() < 0.5 and draw.target(one):
            yield ("user", one, True, "write", draw.target(one), draw.content())
    yield ("run", one, rng.randint(1, 4))
    yield ("crash", one, None if rng.random() < 0.7 else rng.choice(LOSSES), rng.randrange(1 << 30))
    if rng.random() < 0.7:
        action = rng.choice(("write", "delete"))
        values = (path, draw.content()) if action == "write" else (path,)
        yield ("user", other, True, action, *values)
        yield from _do(other, "sync")
    yield ("operation", one, rng.choice(("push", "sync")))


def away(draw: Drawer) -> Iterator[Move]:
    """While one is away, the others go on, take snapshots, delete what these cover, and collect."""
    rng = draw.rng
    admin = draw.admin()
    other = draw.one(admin)
    for _ in range(rng.randint(1, 2)):
        for _ in range(rng.randint(1, 3)):
            action = rng.choice(("write", "write", "delete"))
            values = (draw.path(), draw.content()) if action == "write" else (draw.path(),)
            yield ("user", admin, True, action, *values)
            yield from _do(admin, "sync")
        yield ("operation", admin, rng.choice(("snapshot", "compact", "compact")))
        if rng.random() < 0.5:
            yield ("run", admin, WHOLE, "", "safe")
            if rng.random() < 0.5:
                yield ("crash", admin, rng.choice((None, *LOSSES)), rng.randrange(1 << 30))
        yield ("run", admin, WHOLE)
    if rng.random() < 0.4:
        yield ("banish", other, "expire", admin)
        yield ("run", admin, WHOLE)
        yield from _do(admin, "compact")
    elif rng.random() < 0.5:
        yield from _do(other, "sync")
        yield from _do(admin, "compact")
    if rng.random() < 0.3:
        yield from _do(other, "rebuild")


def cloned(draw: Drawer) -> Iterator[Move]:
    """A cloned disk begins to work in a second machine, and both go on at once."""
    rng = draw.rng
    pair = yield from _clone(draw)
    if not pair:
        return
    for one in pair:
        if rng.random() < 0.8:
            yield ("user", one, True, "write", draw.path(), draw.content())
        yield ("operation", one, rng.choice(("push", "sync")))
    for _ in range(rng.randint(0, 10)):
        one = rng.choice(pair)
        yield ("run", one, WHOLE, "", "safe")
        if not draw.busy(one):
            yield ("user", one, True, "write", draw.path(), draw.content())
            yield ("operation", one, "sync")
    if rng.random() < 0.5:
        yield from _put_behind(draw, *rng.sample(pair, 2))


def _clone(draw: Drawer) -> Generator[Move, None, tuple[str, ...]]:
    """Clone a device. Returns both machines; none if there are no two."""
    name = draw.one(NAMES[0])  # another admin is not cloned either, and nothing happens
    yield ("run", name, WHOLE)
    yield ("clone", name)
    twin = draw.twin(name)
    return (name, twin) if twin is not None else ()


def _put_behind(draw: Drawer, one: str, other: str) -> Iterator[Move]:
    """One waits with its segment until the other, and all who look, are some segments further."""
    rng = draw.rng
    yield ("run", one, WHOLE)
    yield ("user", one, True, "write", draw.path(), draw.content())
    yield ("operation", one, "push")
    yield ("run", one, WHOLE, "", "read")
    for _ in range(rng.randint(1, 3)):
        yield ("run", one, WHOLE, "", "safe")
    for _ in range(rng.randint(1, 3)):
        yield ("run", other, WHOLE)
        yield ("user", other, True, "write", draw.path(), draw.content())
        yield from _do(other, "push")
        if rng.random() < 0.7:
            yield from _do(draw.one(), rng.choice(("push", "sync")))
    yield ("run", one, WHOLE)


def two_branches(draw: Drawer) -> Iterator[Move]:
    """Two machines have one identity, and of the others some take up one branch, some the other."""
    rng = draw.rng
    pair = yield from _clone(draw)
    if not pair:
        return
    one, other = rng.sample(pair, 2)
    others = draw.others(*pair)
    late = set(rng.sample(others, rng.randint(1, max(1, len(others) - 1))))
    for name in others:
        if rng.random() < 0.7:
            yield ("run", name, WHOLE)
    for name in pair:
        for _ in range(rng.randint(1, 3)):
            yield _change(draw, name)
    yield ("operation", one, "push")
    for _ in range(10):
        yield ("run", one, WHOLE, "", "safe")
        if _is_segment(draw, one):
            break
    yield from _do(other, rng.choice(("push", "push", "sync")))
    for name in others:
        if name not in late:
            yield from _do(name, rng.choice(("sync", "push")))
    yield ("run", one, WHOLE)
    for name in others:
        if name in late:
            yield ("hint", name, draw.last_events(name, 1), False, "")
            yield ("run", name, WHOLE)
            if rng.random() < 0.3:
                yield ("user", name, True, "write", draw.path(), draw.content())
    if rng.random() < 0.5:
        # Else whoever comes back sends what it had sent before.
        yield _change(draw, one)


def _change(draw: Drawer, name: str) -> Move:
    if draw.rng.random() < 0.4:
        return ("user", name, True, "delete", draw.path())
    return ("user", name, True, "write", draw.path(), draw.content())


def _is_segment(draw: Drawer, name: str, prefix: str = "ledger/") -> bool:
    """Whether a device is about to send a segment."""
    return draw.pending(name) == "put" and draw.key(name).startswith(prefix)


def unheard(draw: Drawer) -> Iterator[Move]:
    """A control segment arrives, and what its writer does next fails; then it signs another."""
    rng = draw.rng
    admin = draw.admin()
    one = draw.one(admin)
    yield from _do(admin, "sync")
    yield from _do(admin, rng.choice(("snapshot", "compact", "gc")))
    if rng.random() < 0.5:
        yield ("user", admin, True, "write", draw.path(), draw.content())
        yield from _do(admin, "push")
    operation = rng.choice(("pull", "push", "sync"))
    yield ("operation", one, operation, *(("auto",) if operation == "pull" else ()))
    for _ in range(10):
        yield ("run", one, WHOLE, "", "safe")
        if _is_segment(draw, one, namespace_prefix(CONTROL)):
            yield ("arm", one, *rng.choice(AFTER_IT_WAS_SENT))
            break
    if rng.random() < 0.2:
        yield ("run", one, rng.randint(1, 5))
        yield ("crash", one, rng.choice((None, *LOSSES)), rng.randrange(1 << 30))
    yield ("run", one, WHOLE)
    other = draw.one(one)
    yield ("user", other, True, "write", draw.path(), draw.content())
    yield from _do(other, rng.choice(("push", "sync")))
    if rng.random() < 0.3:
        yield from _do(admin, rng.choice(("snapshot", "gc")))
    if rng.random() < 0.6:
        yield ("hint", one, draw.last_events(one, 3), False, "")
    else:
        yield ("operation", one, "kept_push", draw.path(), rng.random() < 0.7)
    yield ("run", one, WHOLE)


def decided(draw: Drawer) -> Iterator[Move]:
    """An admin decides anew while two settle a conflict, or while what was let go is collected."""
    rng = draw.rng
    admin = draw.admin()
    one, other = draw.two()
    path = draw.path()
    what = rng.choice(draw.decides())
    yield ("run", admin, WHOLE)
    for _ in range(1 if what == "strategy" else rng.randint(1, 3)):
        for name in (one, other):
            yield ("user", name, True, "write", path, draw.content())
            if what == "retention":
                yield from _do(name, "sync")
    for name in (one, other):
        if name != admin:
            yield ("operation", name, "sync" if what == "strategy" else rng.choice(("gc", "sync")))
            yield ("run", name, rng.randint(1, 60))
    yield ("operation", admin, what, rng.choice(CHOICES[what]))
    for _ in range(rng.randint(2, 12)):
        name = rng.choice((admin, one, other))
        yield ("run", name, rng.randint(1, 60))
        if rng.random() < 0.03:
            yield ("crash", name, rng.choice((None, *LOSSES)), rng.randrange(1 << 30))
        if not draw.busy(name):
            yield ("operation", name, rng.choice(("sync", "sync", "gc")))


AFTER_IT_WAS_SENT: Final = (
    *(("list", "lost"), ("list", "lost"), ("list", "late"), ("list_dirs", "lost")),
    *(("commit", "full"), ("get", "lost"), ("put", "late")),
)
"""Faults that keep a device from knowing that its segment was sent."""


def both_decide(draw: Drawer) -> Iterator[Move]:
    """Two admins decide about the fleet at once, perhaps about the same device."""
    rng = draw.rng
    admins = draw.admins()
    other = draw.one()
    for admin in admins:
        yield ("run", admin, WHOLE)
        if rng.random() < 0.3:
            yield ("user", admin, True, "write", draw.path(), draw.content())
            yield from _do(admin, "sync")
        what = rng.choice(("snapshot", "compact", "compact", "gc", "hold", "banish"))
        if what == "banish":
            yield ("banish", other, rng.choice(("revoke", "expire")), admin)
            if rng.random() < 0.5:
                other = draw.one()
        else:
            yield ("operation", admin, what, *(("both",) if what == "hold" else ()))
    for _ in range(rng.randint(2, 12)):
        admin = rng.choice(admins)
        yield ("run", admin, WHOLE, "", "safe")
        if rng.random() < 0.05:
            yield ("crash", admin, rng.choice((None, *LOSSES)), rng.randrange(1 << 30))
        elif not draw.busy(admin):
            yield ("operation", admin, rng.choice(("sync", "compact", "gc")))


SCENES: Final[dict[str, Scene]] = {
    "collected": collected_under_a_push,
    "damaged": damaged_on_its_way,
    "read": written_while_read,
    "pushed": written_while_pushed,
    "unreadable": unreadable,
    "both": both_edit,
    "power": power_fails,
    "unsynced": lost_after_it_was_sent,
    "unanswered": unanswered,
    "midway": killed_midway,
    "away": away,
    "decide": both_decide,
    "cloned": cloned,
    "branches": two_branches,
    "unheard": unheard,
    "decided": decided,
}
"""By name."""

RARE: Final = frozenset(("branches", "unheard", "decided"))
"""Scenes that are played in some worlds alone, and there beside the others."""
