"""The engine's results as lines for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from tcfs.cli.terminal import Part, Styled, Terminal, bold, clean, cyan, dim, green, red, yellow
from tcfs.config.units import show_duration, show_size

if TYPE_CHECKING:
    from tcfs.sync import results as r

LINES: Final = 50
"""Of a list, unless ``--verbose``."""
_STYLES: Final = {
    "add": "green",
    "fetch": "green",
    "adopt": "green",
    "delete": "red",
    "remove": "red",
    "conflict": "yellow",
}


def when(seconds: float) -> str:
    """A time in this machine's zone; empty for none."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


def plural(number: int, noun: str) -> str:
    """``1 file``, ``2 files``, ``2 copies``, ``12,345 files``."""
    if number == 1:
        return f"1 {noun}"
    ends = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {ends}"


def table(terminal: Terminal, rows: Sequence[Sequence[Part]], header: Sequence[str] = ()) -> None:
    """Rows in columns as wide as their widest cell; the last column is as wide as it likes."""
    everything: list[Sequence[Part]] = [*rows]
    if header:
        everything.insert(0, [bold(name) for name in header])
    widths = [max(map(len, map(_plain, column))) for column in zip(*everything, strict=True)]
    for row in everything:
        parts: list[Part] = []
        for index, cell in enumerate(row):
            parts.append(cell)
            if index < len(row) - 1:
                parts.append(" " * (widths[index] - len(_plain(cell)) + 2))
        terminal.out(*parts)


def fields(terminal: Terminal, rows: Iterable[tuple[str, Part]]) -> None:
    """``name: value`` lines with the values below each other; empty values are left out."""
    found = [(name, value) for name, value in rows if _plain(value)]
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        terminal.out(f"{name}:", " " * (width - len(name) + 1), value)


def _plain(part: Part) -> str:
    return clean(part if isinstance(part, str) else part.text)


def show_plan(terminal: Terminal, plan: r.Plan, *, everything: bool) -> None:
    """The changes of a plan, the first ones unless ``everything``."""
    shown = plan.changes if everything else plan.changes[:LINES]
    for change in shown:
        parts: list[Part] = [
            "  ",
            Styled(f"{change.action:<10}", _STYLES.get(change.action, "bold")),
        ]
        if change.moved_from:
            parts.append(f"{change.moved_from} -> ")
        parts.append(change.path)
        if change.size:
            parts.append(dim(f"  {show_size(change.size)}"))
        if change.note:
            parts.append(dim(f"  ({change.note})"))
        terminal.out(*parts)
    if plan.total > len(shown):
        more = "" if everything else "; see more with --verbose"
        terminal.out(dim(f"  and {plural(plan.total - len(shown), 'more change')}{more}"))


def counts(plan: r.Plan) -> str:
    """``add 3, change 1``."""
    return ", ".join(f"{action} {number:,}" for action, number in plan.counts.items() if number)


def show_sync(terminal: Terminal, result: r.SyncResult, verb: str, *, verbose: bool) -> None:
    """What a push or pull did or, in a dry run, would do. ``verb`` is ``push`` or ``pull``."""
    plan = result.plan
    for warning in plan.warnings:
        terminal.warn(warning)
    place = f"{result.local} {'->' if verb == 'push' else '<-'} {result.remote}".strip(" <->")
    if result.dry_run:
        terminal.out(bold(f"{verb} (dry run)"), f": {place}")
        show_plan(terminal, plan, everything=verbose)
        terminal.out(f"  {counts(plan) or 'nothing to do'}; {show_size(plan.bytes)}")
        terminal.out("  plan ", cyan(plan.hash))
    else:
        if verbose:
            show_plan(terminal, plan, everything=True)
        _show_done(terminal, result, verb, place)
    _show_names(terminal, "settled", result.resolved, "conflict", verbose)
    _show_names(terminal, "kept", result.conflict_copies, "conflict copy", verbose)
    for conflict in result.conflicts if verbose else result.conflicts[:LINES]:
        authors = ", ".join(sorted({version.device for version in conflict.versions}))
        terminal.out("  ", yellow("conflict  "), conflict.path, dim(f"  ({authors})"))
    for notice in result.notices:
        terminal.note(notice)
    show_problems(terminal, result.problems, verbose=verbose)


def _show_done(terminal: Terminal, result: r.SyncResult, verb: str, place: str) -> None:
    if terminal.quiet:
        return
    if not result.plan.total:
        terminal.out(f"{verb}: ", green("up to date"), dim(f"  {place}"))
        return
    moved = result.transfer
    traffic = moved.bytes_sent if verb == "push" else moved.bytes_received
    way = "sent" if verb == "push" else "received"
    terminal.out(f"{verb}: {counts(result.plan)}", dim(f"  {place}"))
    terminal.out(dim(f"  {show_size(traffic)} {way} in {show_duration(moved.seconds)}"))


def _show_names(
    terminal: Terminal, what: str, names: Sequence[str], noun: str, verbose: bool
) -> None:
    if not names:
        return
    terminal.out(f"  {what} {plural(len(names), noun)}:")
    shown = names if verbose else names[:LINES]
    for name in shown:
        terminal.out("    ", name)
    if len(names) > len(shown):
        terminal.out(dim(f"    and {len(names) - len(shown):,} more"))


def show_problems(
    terminal: Terminal, problems: Sequence[r.Problem], *, verbose: bool, total: int = 0
) -> None:
    """Paths that could not be handled, to standard error, each remedy once."""
    shown = problems if verbose else problems[:LINES]
    for index, problem in enumerate(shown):
        terminal.err("  ", red(f"{problem.code}: "), f"{problem.path}: {problem.message}")
        following = shown[index + 1].remedy if index + 1 < len(shown) else None
        if problem.remedy and problem.remedy != following:
            terminal.err(dim("    try: "), problem.remedy)
    rest = max(total, len(problems)) - len(shown)
    if rest > 0:
        terminal.err(dim(f"  and {plural(rest, 'more problem')}"))


def version_parts(version: r.VersionInfo) -> list[Part]:
    """A version on one line, without its path."""
    size = show_size(version.size) if version.op == "write" and version.kind == "file" else ""
    what = {"write": "write", "delete": "delete", "setattr": "attributes"}.get(
        version.op, version.op
    )
    who = f"{version.device} ({version.actor})" if version.actor else version.device
    return [
        dim(when(version.written_at)),
        who,
        red(what) if version.op == "delete" else what,
        size or ("" if version.kind == "file" else version.kind),
    ]


def show_version(line: Callable[..., None], label: str, version: r.VersionInfo | None) -> None:
    """Write a labelled line about one side of a conflict."""
    if version is None:
        line(bold(f"{label:<8}"), dim("none"))
        return
    parts: list[Part] = [bold(f"{label:<8}")]
    for part in version_parts(version):
        if _plain(part):
            parts += [part, "  "]
    line(*parts, cyan(version.id))
