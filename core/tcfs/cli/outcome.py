"""From what a run left undone to its exit code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tcfs.errors import EXIT_OK, ConflictError, IntegrityError, TcfsError

if TYPE_CHECKING:
    from tcfs.cli.context import Context
    from tcfs.sync import results as r


def codes() -> dict[str, int]:
    """Exit code by error code, those of a class's special cases included."""
    table: dict[str, int] = {}
    waiting: list[type[TcfsError]] = [TcfsError]
    while waiting:
        cls = waiting.pop()
        table[cls.code] = cls.exit_code
        waiting += cls.__subclasses__()
    return table


def exit_code(ctx: Context, results: Iterable[r.SyncResult]) -> int:
    """The code of a finished push, pull or sync; says on standard error why it is not 0.

    Paths that failed come before conflicts: a conflict alone means that all the rest is in step.
    """
    found = list(results)
    problems = [problem for result in found for problem in result.problems]
    if problems:
        if not ctx.json:
            paths = "1 path" if len(problems) == 1 else f"{len(problems):,} paths"
            ctx.terminal.note(f"{paths} could not be handled; the rest is done")
        return problem_code(problems)
    standing = {conflict.path for result in found for conflict in result.conflicts}
    if standing:
        if not ctx.json:
            many = (
                "1 conflict stands" if len(standing) == 1 else f"{len(standing):,} conflicts stand"
            )
            ctx.terminal.note(f"{many}; both sides are safe. {ConflictError.default_remedy}")
        return ConflictError.exit_code
    return EXIT_OK


def problem_code(problems: Iterable[r.Problem]) -> int:
    """The code of the first problem, but of any that concerns integrity before all others."""
    table = codes()
    found = [table.get(problem.code, TcfsError.exit_code) for problem in problems]
    return IntegrityError.exit_code if IntegrityError.exit_code in found else found[0]
