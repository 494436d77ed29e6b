"""What a tool's answer or error means to a shell, and errors as JSON."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from tcfs.errors import EXIT_OK, ConflictError, IntegrityError, TcfsError
from tcfs_mcp.bound import render

logger = logging.getLogger(__name__)

ERROR_BUDGET = 4_000


def exit_code_of(answer: Mapping[str, Any]) -> int:
    """The exit code of an answer, as ``tcfs`` has it.

    Paths that failed come before conflicts, and integrity before all others: a conflict alone
    means that everything else is in step. A dry run and a job that goes on have no outcome yet.
    """
    if answer.get("status") != "done":
        return EXIT_OK
    if answer.get("problem_count"):
        table = _codes()
        problems = answer.get("problems") or [{}]
        found = [table.get(str(p.get("code")), TcfsError.exit_code) for p in problems]
        return IntegrityError.exit_code if IntegrityError.exit_code in found else found[0]
    return ConflictError.exit_code if answer.get("conflict_count") else EXIT_OK


def _codes() -> dict[str, int]:
    """Exit code by error code, those of a class's special cases included."""
    table: dict[str, int] = {}
    waiting: list[type[TcfsError]] = [TcfsError]
    while waiting:
        cls = waiting.pop()
        table[cls.code] = cls.exit_code
        waiting += cls.__subclasses__()
    return table


def error_json(error: BaseException, where: str) -> dict[str, Any]:
    """An error as bounded, escaped JSON values.

    What was not raised on purpose may say anything: it is logged, with its traceback, under an id,
    and only the id is told.
    """
    if isinstance(error, TcfsError):
        data = render(error.to_json(), ERROR_BUDGET)
        data.pop("omitted")
        return data
    number = os.urandom(4).hex()
    logger.error("unexpected error %s in %s", number, where, exc_info=error)
    return {
        "code": TcfsError.code,
        "exit_code": TcfsError.exit_code,
        "message": f"{where} failed unexpectedly; the log (stderr) has the details as {number}",
        "remedy": "Report it with that part of the log.",
        "retryable": False,
        "details": {"log_id": number},
    }
