"""Faults on demand, for tests: which operation of a run fails, and how.

A run is first recorded with ``FaultPlan()``, whose ``count`` says how many operations it took, and
then repeated with ``crash_at(k, moment)`` for each of them. One plan may serve a file system and a
store together, so that their operations are numbered in one sequence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Moment = Literal["before", "middle", "after"]


class SimulatedCrash(BaseException):
    """The process ends here, as by kill -9. No ``except Exception`` sees it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a run.

    ``number`` counts from 1; 0 for the reads of a file system, which are not counted. ``name`` is
    the method, ``target`` the key or path it is about.
    """

    number: int
    name: str
    target: str | bytes


Hook = Callable[[Operation, Moment], None]
"""Called at each moment of each operation; what it raises, the operation raises."""


def _no_fault(operation: Operation, moment: Moment) -> None:
    pass


class FaultPlan:
    """Numbers operations and asks ``hook`` at each.

    Once the hook raised SimulatedCrash, every further operation raises it too: the code under test
    is dead, and what its ``finally`` blocks attempt must not happen.
    """

    def __init__(self, hook: Hook = _no_fault) -> None:
        self._hook = hook
        self._lock = threading.Lock()
        self.crashed = False
        self.operations: list[Operation] = []
        """What was counted, in order."""

    @property
    def count(self) -> int:
        """How many operations have begun."""
        return len(self.operations)

    def begin(self, name: str, target: str | bytes, *, counted: bool = True) -> Operation:
        """Number an operation and pass its moment ``before``."""
        with self._lock:
            operation = Operation(len(self.operations) + 1 if counted else 0, name, target)
            if counted:
                self.operations.append(operation)
        self.reach(operation, "before")
        return operation

    def reach(self, operation: Operation, moment: Moment) -> None:
        """Pass a moment of an operation that has begun."""
        if self.crashed:
            raise SimulatedCrash
        try:
            self._hook(operation, moment)
        except SimulatedCrash:
            self.crashed = True
            raise


def crash_at(number: int, moment: Moment) -> FaultPlan:
    """A plan that crashes at one moment of one operation."""
    return fail_at(number, moment, SimulatedCrash)


def fail_at(number: int, moment: Moment, error: Callable[[], BaseException]) -> FaultPlan:
    """A plan that raises what ``error`` makes, at one moment of one operation."""

    def hook(operation: Operation, reached: Moment) -> None:
        if operation.number == number and reached == moment:
            raise error()

    return FaultPlan(hook)
