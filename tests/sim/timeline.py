"""Simulated time, the count of operations, and the trace."""

from __future__ import annotations

from typing import Final

START_NS: Final = 1_700_000_000_000_000_000
OPERATION_NS: Final = 41_000
"""Simulated time that each operation takes."""


class Timeline:
    """What all devices of a world share: true time."""

    def __init__(self, *, traced: bool = False) -> None:
        self.now_ns = START_NS
        self.operations = 0
        """Store, file system, state and bus operations so far."""
        self.traced = traced
        self.lines: list[str] = []

    def operation(self, device: str, kind: str, name: str, target: str | bytes) -> None:
        """One more operation happens."""
        self.operations += 1
        self.now_ns += OPERATION_NS
        if self.traced:
            shown = (
                target.decode("utf-8", "backslashreplace") if isinstance(target, bytes) else target
            )
            self.lines.append(f"{self.operations:6} {device:8} {kind}.{name} {shown}")

    def note(self, text: str) -> None:
        """Something else worth a line."""
        if self.traced:
            self.lines.append(f"{self.operations:6} -- {text}")
