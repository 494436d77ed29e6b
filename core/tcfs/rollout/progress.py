"""``fleet_rollout``: where a rollout is, kept in ``rollout.json`` beside the definition.

The file is for Git as much as the definition: whoever goes on, on whatever machine, goes on where
the last one stopped.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tcfs.errors import ConflictError, FleetFileError, LocalFileError, NotFoundError, UsageError
from tcfs.rollout.phases import PHASES, Facts, Step, steps

FILE: Final = "rollout.json"
MAX_NOTE: Final = 500
Mark = Literal["done", "skipped", "todo"]


@dataclass(frozen=True, slots=True)
class StepState:
    """A step and how it stands.

    Attributes:
        kind: ``seen`` steps are looked at anew each time, ``told`` ones are marked.
        why: of a seen step that is not done, what is missing.
        note, by, at: of a marked one. ``at`` in unix seconds.
    """

    id: str
    phase: int
    title: str
    state: Mark
    kind: Literal["seen", "told"]
    host: str = ""
    commands: tuple[str, ...] = ()
    expect: str = ""
    why: str = ""
    note: str = ""
    by: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """Where a rollout is. ``next`` is empty when all is done."""

    fleet: str
    phase: int
    phase_title: str
    next: str
    done: int
    total: int
    steps: tuple[StepState, ...]


def rollout_status(facts: Facts) -> Rollout:
    """Where the rollout is.

    Raises:
        FleetFileError: the file of its marks cannot be read.
    """
    marks = _read(facts.definition.folder)
    found = tuple(_state(step, marks.get(step.id, {})) for step in steps(facts))
    waiting = [step for step in found if step.state == "todo"]
    phase = waiting[0].phase if waiting else max(PHASES)
    return Rollout(
        fleet=str(facts.definition.folder),
        phase=phase,
        phase_title=PHASES[phase],
        next=waiting[0].id if waiting else "",
        done=len(found) - len(waiting),
        total=len(found),
        steps=found,
    )


def mark_step(
    facts: Facts, step_id: str, state: Mark, *, note: str = "", by: str = "", now: int
) -> Rollout:
    """Mark a step as done or skipped, or take its mark back.

    Args:
        now: unix seconds.

    Raises:
        NotFoundError: there is no such step.
        ConflictError: it can be seen that it is not done.
        UsageError: a step is skipped without a word.
        LocalFileError: the file cannot be written.
    """
    by_id = {step.id: step for step in steps(facts)}
    step = by_id.get(step_id)
    if step is None:
        raise NotFoundError(
            f"the rollout has no step {step_id[:100]!r}",
            remedy="See all of them with: tcfs fleet rollout --all",
        )
    if state == "done" and step.seen is False:
        raise ConflictError(
            f"{step_id} is not done: {step.why}",
            remedy="This is looked at, not told. Do it; or skip it with a note that says why.",
        )
    if state == "skipped" and not note.strip():
        raise UsageError("a step is skipped for a reason", remedy="Say it with --note TEXT.")
    marks = _read(facts.definition.folder)
    if state == "todo":
        marks.pop(step_id, None)
    else:
        marks[step_id] = {"state": state, "note": note[:MAX_NOTE], "by": by, "at": now}
    _write(facts.definition.folder, marks)
    return rollout_status(facts)


def _state(step: Step, mark: dict[str, Any]) -> StepState:
    marked = mark.get("state")
    state: Mark = "todo"
    if step.seen is True or (marked == "done" and step.seen is None):
        state = "done"
    elif marked == "skipped":
        state = "skipped"
    return StepState(
        id=step.id,
        phase=step.phase,
        title=step.title,
        state=state,
        kind="told" if step.seen is None else "seen",
        host=step.host,
        commands=step.commands,
        expect=step.expect,
        why=step.why if state == "todo" else "",
        note=str(mark.get("note", "")),
        by=str(mark.get("by", "")),
        at=int(mark.get("at", 0)),
    )


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        marks = found["steps"]
        if found["format"] != 1 or not all(isinstance(mark, dict) for mark in marks.values()):
            raise ValueError("it is of another format")
        for mark in marks.values():
            int(mark.get("at", 0))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LocalFileError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FleetFileError(
            f"{file} is not the place of a rollout",
            remedy="Bring it back from Git, or remove it to start over.",
        ) from None
    return dict(marks)


def _write(folder: Path, marks: dict[str, dict[str, Any]]) -> None:
    file = folder / FILE
    temp = folder / f".{FILE}.new"
    text = json.dumps({"format": 1, "steps": marks}, indent=2, sort_keys=True) + "\n"
    try:
        temp.write_text(text, encoding="utf-8")
        os.replace(temp, file)
    except OSError as error:
        raise LocalFileError(f"cannot write {file}: {error.strerror}") from None
