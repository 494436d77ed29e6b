"""When what is due: pure, with the time passed in. Times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tcfs.model.ids import RelPath

QUIET_S: Final = 0.03
"""A file that was not touched for so long is pushed."""
LONGEST_S: Final = 1.0
"""A file that is touched again and again is pushed this long after the first time all the same."""
GIT_QUIET_S: Final = 0.2
"""A repository whose git directory was not touched for so long is pushed, as one: git does one
thing in many steps, and a repository in the middle of something has to wait anyway."""
GIT_LONGEST_S: Final = 5.0
TOO_MANY: Final = 5000
"""Paths from which one look at the whole root is cheaper."""
SECOND_LOOKS_S: Final = (0.5, 3.0)
"""When a directory that was just made is looked at again: a watcher misses what is put into it
before it watches it."""


@dataclass(slots=True)
class Pending:
    """Paths of one root that may have changed.

    Attributes:
        git: whether git directories travel: then their changes are waited for longer.
    """

    git: bool = False
    paths: set[RelPath] = field(default_factory=set)
    everything: bool = False
    first: float = 0.0
    last: float = 0.0
    git_last: float = float("-inf")
    """When a git directory last changed, of those that wait."""
    later: list[tuple[float, RelPath]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.everything or bool(self.paths)

    def touched(self, paths: set[RelPath], now: float) -> None:
        """These may have changed."""
        if not self:
            self.first = now
        self.last = now
        if self.git and any(b".git" in path.split(b"/") for path in paths):
            self.git_last = now
        if not self.everything:
            self.paths |= paths
            if len(self.paths) > TOO_MANY:
                self.all(now)

    def made(self, directories: set[RelPath], now: float) -> None:
        """These directories are new: look at them again in a while."""
        self.later += [(now + wait, path) for path in directories for wait in SECOND_LOOKS_S]
        if len(self.later) > TOO_MANY:
            self.later = [(now + wait, RelPath(b"")) for wait in SECOND_LOOKS_S]

    def all(self, now: float) -> None:
        """Everything may have changed."""
        if not self:
            self.first = now
        self.last = now
        self.everything = True
        self.paths.clear()

    def due(self, now: float) -> bool:
        """Whether it is time to push."""
        ripe = {path for at, path in self.later if at <= now}
        if ripe:
            self.later = [(at, path) for at, path in self.later if at > now]
            if RelPath(b"") in ripe:
                self.all(now - QUIET_S)
            else:
                self.touched(ripe, now - QUIET_S)
        return bool(self) and now >= self.when()

    def when(self) -> float:
        """The next time at which something may be due; infinity if nothing waits."""
        times = [at for at, _ in self.later]
        if self:
            quiet = max(self.last + QUIET_S, self.git_last + GIT_QUIET_S)
            longest = LONGEST_S if self.git_last == float("-inf") else GIT_LONGEST_S
            times.append(min(quiet, self.first + longest))
        return min(times, default=float("inf"))

    def take(self) -> set[RelPath] | None:
        """What is to be pushed now; None for everything."""
        paths = None if self.everything else self.paths
        self.paths, self.everything, self.git_last = set(), False, float("-inf")
        return paths

    def put_back(self, paths: set[RelPath] | None, now: float) -> None:
        """It could not be pushed."""
        if paths is None:
            self.all(now)
        else:
            self.touched(paths, now)


@dataclass(slots=True)
class Due:
    """One thing that is to be done at a time, and later again if it fails."""

    at: float = float("inf")
    failures: int = 0
    not_before: float = 0.0
    """While it fails, nobody's wish makes it happen sooner."""

    def wish(self, at: float) -> None:
        """Do it at this time, or sooner if that was wished already."""
        self.at = min(self.at, at)

    def due(self, now: float) -> bool:
        """Whether it is time."""
        return now >= self.when()

    def when(self) -> float:
        """The time it is due."""
        return max(self.at, self.not_before)

    def begun(self) -> None:
        """It is being done: wishes from now on are for the next time."""
        self.at = float("inf")

    def succeeded(self) -> None:
        """It worked."""
        self.failures, self.not_before = 0, 0.0

    def failed(self, now: float, first_s: float, most_s: float) -> None:
        """It did not: again after ``first_s``, doubled with every failure up to ``most_s``."""
        wait = min(first_s * 2 ** min(self.failures, 30), most_s)
        self.failures += 1
        self.at = self.not_before = now + wait
