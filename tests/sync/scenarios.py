"""The commands that must survive a crash at any moment, each in a small world of its own."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

from tcfs.errors import NotFoundError, RepositoryError
from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.sync import session
from tests.sync.crashing import Machine, Scenario, World, fill

_RANDOM = random.Random(7)
BIG = _RANDOM.randbytes(3 << 19)
"""Many chunks in more than one frame, in a pack of its own."""
OTHER = BIG[: 1 << 19] + b"changed" + BIG[1 << 19 :]


def tree() -> dict[str, Any]:
    return {
        "a.txt": b"first",
        "empty": b"",
        "link": "a.txt",
        "d/one": b"1" * 300,
        "d/two": b"two",
        "d/e/deep": b"deep down",
        "gone/x": b"goes away",
        "gone/y": b"goes too",
        "moves": b"moves elsewhere" * 50,
        "file-to-dir": b"a file",
        "dir-to-file/inside": b"inside",
        "void": None,
        "big": BIG,
    }


def edit(top: Path) -> None:
    """Edits of every kind, to what ``tree`` made."""
    fill(
        top,
        {
            "a.txt": b"second version",
            "new/file": b"brand new",
            "link": "d/one",
            "big": OTHER,
        },
    )
    (top / "gone/x").unlink()
    (top / "gone/y").unlink()
    (top / "gone").rmdir()
    (top / "moves").rename(top / "d" / "moved")
    (top / "file-to-dir").unlink()
    fill(top, {"file-to-dir/now": b"a directory"})
    (top / "dir-to-file/inside").unlink()
    (top / "dir-to-file").rmdir()
    fill(top, {"dir-to-file": b"now a file"})
    (top / "d/two").chmod(0o600)
    os.utime(top / "d/one", ns=(5, 1_000_000_007))


# Worlds


def alone(world: World) -> None:
    world.create("a")
    fill(world.tree("a"), tree())


def pushed(world: World) -> None:
    world.create("a", "b")
    fill(world.tree("a"), tree())
    world.fleet("a").push([])


def edited(world: World) -> None:
    pushed(world)
    edit(world.tree("a"))


def both(world: World) -> None:
    pushed(world)
    world.fleet("b").pull()


def changed_elsewhere(world: World) -> None:
    """What ``a`` pushed and ``b`` pulled was edited by ``a`` and pushed again."""
    both(world)
    edit(world.tree("a"))
    world.fleet("a").push([])


def conflicting(world: World) -> None:
    """``a`` pushed edits, and ``b`` has edits of its own that it did not push."""
    changed_elsewhere(world)
    fill(
        world.tree("b"),
        {
            "a.txt": b"the words of b",
            "gone/x": b"edited while it was deleted",
            "big": BIG[: 1 << 20],
            "own": b"only b has this",
            "new/file": b"new in both places",
        },
    )


def in_conflict(world: World) -> None:
    conflicting(world)
    world.fleet("b").push([])


def sent_in_part(world: World) -> None:
    """A push of ``a`` was cut off when its second segment was finished and not sent."""
    edited(world)

    def hook(operation: Operation, moment: Moment) -> None:
        if operation.name == "put" and str(operation.target).startswith("ledger/default/"):
            raise SimulatedCrash

    with suppress(SimulatedCrash):
        world.machine("a", FaultPlan(hook)).open().push([])


def undoable(world: World) -> None:
    both(world)
    edit(world.tree("a"))
    world.machine("a").open(actor="robot").push([])


def uninvited(world: World) -> None:
    world.create("a")
    fill(world.tree("a"), tree())
    world.fleet("a").push([])
    code = world.fleet("a").invite().code
    (world.work / "code").write_text(code)


def stranded(world: World) -> None:
    """The only device is lost, and somebody has the words."""
    world.create("a")
    fill(world.tree("a"), tree())
    world.fleet("a").push([])
    (world.work / "phrase").write_text(world.fleet("a").pending_phrase())


def nothing(world: World) -> None:
    fill(world.tree("a"), tree())


def names_apart(world: World) -> None:
    """``b`` takes some names for one: collisions that stand, that begin and that end."""
    world.create("a", "b")
    fill(
        world.tree("a"),
        {
            "stand.txt": b"stands",
            "Stand.txt": b"STANDS",
            "end.txt": b"ends",
            "End.txt": b"ENDS",
            "case.txt": b"changes its case",
            "begin.txt": b"begins",
            "dir/x": b"x of dir",
            "Dir/x": b"x of Dir",
            "low/x": b"x of low",
            "cafe\u0301/x": b"decomposed",
            "\u00e9": b"composed",
            "e\u0301": b"apart",
        },
    )
    world.fleet("a").push([])
    world.fleet("b").pull()
    top = world.tree("a")
    fill(top, {"stand.txt": b"stands on", "Begin.txt": b"BEGINS", "dir/y": b"new", "Low/y": b"y"})
    (top / "End.txt").unlink()
    (top / "case.txt").rename(top / "Case.txt")
    (top / "low/x").rename(top / "Low/x")
    (top / "low").rmdir()
    (top / "Dir/x").unlink()
    (top / "Dir").rmdir()
    (top / "\u00e9").unlink()
    world.fleet("a").push([])


# Commands


def push(machine: Machine) -> None:
    assert machine.open().push([]).problems == ()


def pull(machine: Machine) -> None:
    problems = machine.open().pull().problems
    assert problems == (), problems


def push_and_pull(machine: Machine) -> None:
    """What a pull left half done is no edit: a push has nothing to send."""
    pushed = machine.open().push([])
    assert pushed.transfer.segments == 0
    pull(machine)


def pull_and_push(machine: Machine) -> None:
    pull(machine)
    push(machine)


def pull_auto(machine: Machine) -> None:
    assert machine.open().pull(mode="auto").problems == ()


def resolve(machine: Machine) -> None:
    machine.open().resolve("a.txt", "keep_both")


def resolve_again(machine: Machine) -> None:
    try:
        resolve(machine)
    except NotFoundError:  # the run that was cut off had settled it
        assert machine.open().pull(mode="defer").problems == ()


def undo(machine: Machine) -> None:
    machine.open().undo(actor="robot")


def undo_again(machine: Machine) -> None:
    machine.open(actor="test").undo(actor="robot")


def init(machine: Machine) -> None:
    session.init_fleet(machine.loaded, name="a", host=machine.host, store=machine.store)


def init_again(machine: Machine) -> None:
    with suppress(RepositoryError):  # it had come to the end
        init(machine)


def enroll(machine: Machine) -> None:
    code = (machine.world.work / "code").read_text()
    session.enroll_fleet(
        machine.loaded, name="b", invite=code, host=machine.host, store=machine.store
    )


def enroll_again(machine: Machine) -> None:
    with suppress(RepositoryError):  # it had come to the end
        enroll(machine)


def invite(machine: Machine) -> None:
    (machine.world.work / "code").write_text(machine.open().invite().code)


def revoke(machine: Machine) -> None:
    assert machine.open().revoke("b").revoked


def set_policy(machine: Machine) -> None:
    machine.open().set_strategy("last-write")


def recover(machine: Machine) -> None:
    phrase = (machine.world.work / "phrase").read_text()
    session.recover_fleet(
        machine.loaded, phrase=phrase, name="b", host=machine.host, store=machine.store
    )


def recover_again(machine: Machine) -> None:
    with suppress(RepositoryError):  # it had come to the end
        recover(machine)


def restore(machine: Machine) -> None:
    fleet = machine.open()
    first = fleet.log("big").versions[-1].id
    fleet.restore("big", first)


def restore_again(machine: Machine) -> None:
    """What was brought back stays so; here again is one more version of the same content."""
    fleet = machine.open()
    versions = fleet.log("big").versions
    if len(versions) == 2:
        fleet.restore("big", versions[-1].id)
    else:
        assert fleet.pull().problems == ()


def rebuild(machine: Machine) -> None:
    machine.open().rebuild_index()


def pull_one(machine: Machine) -> None:
    target = os.fsencode(machine.tree / "copy")
    problems = machine.open().pull("big", target).problems
    assert problems == (), problems


def try_push(machine: Machine) -> None:
    machine.open().push([])


def try_pull(machine: Machine) -> None:
    machine.open().pull()


def try_pull_auto(machine: Machine) -> None:
    machine.open().pull(mode="auto")


def try_pull_one(machine: Machine) -> None:
    machine.open().pull("big", os.fsencode(machine.tree / "copy"))


# Afterwards


def b_pulls(world: World) -> None:
    assert world.fleet("b").pull().problems == ()


def a_pulls(world: World) -> None:
    assert world.fleet("a").pull(mode="defer").problems == ()


def a_pushes(world: World) -> None:
    fill(world.tree("a"), {"after": b"epoch"})
    os.utime(world.tree("a") / "after", ns=(7, 7))
    world.fleet("a").push([])


def c_joins(world: World) -> None:
    machine = world.machine("c")
    code = (world.work / "code").read_text()
    session.enroll_fleet(
        machine.loaded, name="c", invite=code, host=machine.host, store=machine.store
    )
    machine.open().pull()


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("first push", alone, push, tolerant=try_push),
        Scenario("push", edited, push, finish=b_pulls, tolerant=try_push),
        Scenario(
            "push in parts",
            edited,
            push,
            finish=b_pulls,
            tolerant=try_push,
            patches={"tcfs.sync.commit.PART_BYTES": 2000},
        ),
        Scenario("first pull", pushed, pull, device="b", tolerant=try_pull),
        Scenario("pull", changed_elsewhere, pull, device="b", tolerant=try_pull),
        Scenario(
            "pull by slices",
            changed_elsewhere,
            pull,
            device="b",
            tolerant=try_pull,
            patches={"tcfs.sync.deciding.SLICE": 2, "tcfs.state.columns.FEW_ROWS": 0},
        ),
        Scenario(
            "pull, then push", changed_elsewhere, pull, push_and_pull, device="b", tolerant=try_pull
        ),
        Scenario("push, then pull", edited, push, pull_and_push, finish=b_pulls),
        Scenario(
            "pull of conflicts",
            conflicting,
            pull_auto,
            device="b",
            finish=a_pulls,
            tolerant=try_pull_auto,
        ),
        Scenario("resolve", in_conflict, resolve, resolve_again, device="b", finish=a_pulls),
        Scenario("undo", undoable, undo, undo_again, finish=b_pulls),
        Scenario("init", nothing, init, init_again, finish=a_pushes),
        Scenario("enroll", uninvited, enroll, enroll_again, device="b", finish=b_pulls),
        Scenario("invite", alone, invite, repeats=False, finish=c_joins),
        Scenario("policy", both, set_policy, repeats=False, finish=a_pushes),
        Scenario("recover", stranded, recover, recover_again, device="b", finish=b_pulls),
        Scenario("restore", undoable, restore, restore_again, finish=b_pulls),
        Scenario("rebuild", edited, rebuild, repeats=False, finish=a_pushes),
        Scenario("rebuild after a push", sent_in_part, rebuild, repeats=False, finish=a_pushes),
        Scenario(
            "one file",
            pushed,
            pull_one,
            device="b",
            tolerant=try_pull_one,
            patches={"tcfs.sync.staging.LARGE": 1000, "tcfs.sync.pieces.WINDOW": 50_000},
        ),
        Scenario("revoke", both, revoke, finish=a_pushes),
    )
}

NAMES_THAT_ARE_ONE = Scenario(
    "pull of names that are one",
    names_apart,
    pull,
    push_and_pull,
    device="b",
    tolerant=try_pull,
    folding=frozenset("b"),
)
