"""What the loop knows of each root, and what it needs of the world around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tcfs.service.daemon.schedule import Due, Pending
from tcfs.sync.kept import KeptRoot


class Clock(Protocol):
    """Seconds: wall time for people, monotonic time for everything else."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...


class Watch(Protocol):
    """Something that watches a root."""

    @property
    def alive(self) -> bool: ...
    def close(self) -> None: ...


class Claims(Protocol):
    """Which roots are this daemon's."""

    def take(self, root: bytes) -> None:
        """Keep other daemons from it. Again is harmless. Raises BusyError if it is another's."""
        ...

    def release(self, root: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration the loop heeds."""

    poll_interval_s: float = 30.0
    rescan_interval_s: float = 600.0
    mode: str = "auto"
    tell_paths: bool = False
    git: bool = False
    """Whether git directories travel."""


@dataclass(slots=True)
class KeptState:
    """What the loop knows of one root."""

    kept: KeptRoot
    pending: Pending = field(default_factory=Pending)
    push: Due = field(default_factory=Due)
    pull: Due = field(default_factory=Due)
    rescan: Due = field(default_factory=Due)
    watch: Watch | None = None
    watch_again: Due = field(default_factory=Due)
    claim: Due = field(default_factory=lambda: Due(at=float("-inf")))
    claimed: bool = False
    blind: str = ""
    problems: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By step: what is wrong, and what can be done."""
    last_push: float = 0.0
    last_pull: float = 0.0
    pulled: bool = False
    pushed: bool = False
