"""Showing a conflict to a person, and asking what should become of it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from tcfs.cli.terminal import Terminal, bold, dim, green, red
from tcfs.cli.text import show_version

if TYPE_CHECKING:
    from tcfs.sync import results as r

DIFF_LINES: Final = 40
_ANSWERS: Final[dict[str, r.Resolution]] = {
    "l": "keep_local",
    "r": "keep_remote",
    "b": "keep_both",
    "m": "merge",
    "s": "defer",
}


def show_conflict(terminal: Terminal, detail: r.ConflictDetail) -> None:
    """Base, ours and theirs in a line each, and how ours and theirs differ if both are text."""
    terminal.err(bold(detail.path))
    for label, side in (("base", detail.base), ("ours", detail.ours), ("theirs", detail.theirs)):
        show_version(terminal.err, f"  {label}", side.version)
    for other in detail.others:
        show_version(terminal.err, "  also", other)
    for line in _diff(detail.ours, detail.theirs):
        style = {"+": green, "-": red, "@": dim}.get(line[:1])
        terminal.err("    ", style(line) if style else line)
    if detail.merge_possible:
        terminal.err(dim("  a three-way merge is clean"))
    elif detail.merge_reason:
        terminal.err(dim(f"  cannot be merged: {detail.merge_reason}"))


def _diff(ours: r.Side, theirs: r.Side) -> list[str]:
    if ours.binary or theirs.binary or ours.version is None or theirs.version is None:
        return []
    lines = list(
        difflib.unified_diff(
            ours.text.splitlines(), theirs.text.splitlines(), "ours", "theirs", n=2, lineterm=""
        )
    )
    if len(lines) > DIFF_LINES:
        lines = [*lines[:DIFF_LINES], f"... {len(lines) - DIFF_LINES} more lines"]
    if ours.truncated or theirs.truncated:
        lines.append("... only the beginning of the files is compared")
    return lines


def ask_resolution(terminal: Terminal, detail: r.ConflictDetail) -> r.Resolution | None:
    """What the person wants for this conflict; None if there is no one to answer."""
    show_conflict(terminal, detail)
    merge = ", [m]erge" if detail.merge_possible else ""
    question = f"keep [l]ocal, keep [r]emote, keep [b]oth{merge}, [s]kip? "
    while True:
        answer = terminal.ask(question)
        if answer is None:
            return None
        found = _ANSWERS.get(answer.lower()[:1])
        if found is not None and (found != "merge" or detail.merge_possible):
            return found
