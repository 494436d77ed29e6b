"""What is left out of a tree: patterns as in ``.gitignore``, and our own names.

Patterns come from the configuration and from ``.tcfsignore`` files, each of which speaks for its
directory and below; a deeper file has the last word, as in git. ``.gitignore`` itself is not
heeded: what a version control system leaves out is often the only copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from msgspec import Struct

from tcfs.errors import ConfigError
from tcfs.model.paths import METADATA_DIR, TEMP_PREFIX, show

IGNORE_FILE: Final = b".tcfsignore"
MAX_IGNORE_FILE: Final = 1 << 20
_SPECIAL: Final = re.compile(r"[/*?\\]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]*[*]?[A-Za-z0-9._-]+")
"""Patterns that are sure to mean something."""
_DIRECTORY_MARK: Final = "(?P<ps_d>/)"


class PatternSet:
    """The patterns of one source. The last pattern that matches decides."""

    def __init__(self, lines: Iterable[str], source: str) -> None:
        """Compile patterns. Raises ConfigError, naming ``source``, if one means nothing."""
        self._lines = list(lines)
        self._source = source
        self.words = _words(self._lines)
        # The last word first.
        self._runs: list[tuple[bool, re.Pattern[str]]] | None = None
        # Loading the library costs more than a small push, and nearly none has a use for it: what
        # is certain to mean something is compiled when ``words`` are met.
        if not all(map(_PLAIN.fullmatch, self._lines)):
            self._runs = self._compiled()

    def _compiled(self) -> list[tuple[bool, re.Pattern[str]]]:
        from pathspec import GitIgnoreSpec

        try:
            patterns = GitIgnoreSpec.from_lines(self._lines).patterns
        except (ValueError, re.error) as error:  # `[z-a]` is not caught by the library
            said = show(str(error).encode("utf-8", "surrogateescape"))
            raise ConfigError(f"{self._source}: {said}") from None
        runs: list[tuple[bool, re.Pattern[str]]] = []

        def close(include: bool | None, run: list[str]) -> None:
            if include is not None and run:
                # One expression for many patterns: a tree of 50,000 files is matched in 50 ms.
                runs.append((include, re.compile("|".join(f"(?:{regex})" for regex in run))))

        run: list[str] = []
        previous: bool | None = None
        for pattern in patterns:
            regex = getattr(pattern, "regex", None)
            if pattern.include is None or regex is None:
                continue
            if pattern.include is not previous:
                close(previous, run)
                run, previous = [], pattern.include
            run.append(regex.pattern.replace(_DIRECTORY_MARK, "/"))
        close(previous, run)
        return runs[::-1]

    def decide(self, path: str) -> bool | None:
        """Whether the path is left out; None if no pattern matches. Directories end in ``/``."""
        if self._runs is None:
            self._runs = self._compiled()
        for include, regex in self._runs:
            if regex.match(path):
                return include
        return None


def _words(lines: Iterable[str]) -> frozenset[bytes] | None:
    """Bytes of which every path that one of these patterns leaves out holds some.

    The longest stretch of each pattern that stands for itself. None if one has no such stretch.
    """
    words = set()
    for line in lines:
        # What follows a bracket may be within it; what a "!" brings back was left out by another.
        plain = _SPECIAL.split(line.strip().partition("[")[0])
        if line[:1] in ("!", "#") or not line.strip():
            continue
        longest = max(plain, key=len)
        if not longest:
            return None
        words.add(longest.encode("utf-8", "surrogateescape"))
    return frozenset(words)


class Exclusion(Struct, frozen=True):
    """What decides for the entries of one directory: its own patterns last."""

    hidden_dirs: bool
    """Whether directories whose name begins with a dot are synced."""
    git_dirs: bool
    """Whether ``.git`` is synced."""
    sets: tuple[tuple[int, PatternSet], ...] = ()
    """Pattern sets with the length of the directory path they are relative to, outermost first."""

    def within(self, directory: bytes, read: Callable[[], bytes]) -> Exclusion:
        """The exclusion for a directory that has an ignore file.

        Raises:
            ConfigError: the file is too large, or a pattern in it means nothing.
        """
        text = read()
        source = show(directory + b"/" + IGNORE_FILE if directory else IGNORE_FILE)
        if len(text) > MAX_IGNORE_FILE:
            raise ConfigError(f"{source} is larger than {MAX_IGNORE_FILE} bytes")
        lines = text.decode("utf-8", "surrogateescape").splitlines()
        start = len(directory) + 1 if directory else 0
        return Exclusion(
            self.hidden_dirs, self.git_dirs, (*self.sets, (start, PatternSet(lines, source)))
        )

    def may_leave_out(self, directory: bytes, names: Iterable[bytes]) -> bool:
        """Whether patterns may leave out any of these entries of a directory.

        False is certain, and quickly found: nearly no directory holds anything to be left out. What
        ``leaves_out`` says of names that begin with a dot is another matter.
        """
        words = self.words
        if not words:
            return words is None
        text = b"\n".join((directory, *names))
        return any(word in text for word in words)

    @property
    def words(self) -> frozenset[bytes] | None:
        """Bytes of which every path that a pattern leaves out holds some; None if unknown."""
        known = [patterns.words for _, patterns in self.sets]
        return None if None in known else frozenset().union(*filter(None, known))

    def leaves_out(self, path: bytes, name: bytes, is_dir: bool) -> bool:
        """Whether an entry is left out. ``path`` is relative to the root."""
        if name[:1] == b".":
            if name == METADATA_DIR or name.startswith(TEMP_PREFIX):
                return True
            if name == b".git":
                return not self.git_dirs
            if is_dir and not self.hidden_dirs:
                return True
        if not self.sets:
            return False
        text = (path + b"/" if is_dir else path).decode("utf-8", "surrogateescape")
        for start, patterns in reversed(self.sets):
            decided = patterns.decide(text[start:] if start else text)
            if decided is not None:
                return decided
        return False


def exclusion(patterns: Iterable[str], *, hidden_dirs: bool, git_dirs: bool) -> Exclusion:
    """The exclusion at the top of a root. Raises ConfigError if a pattern means nothing."""
    lines = tuple(patterns)
    if not lines:
        return Exclusion(hidden_dirs, git_dirs)
    return Exclusion(hidden_dirs, git_dirs, ((0, _configured(lines)),))


@lru_cache(maxsize=4)
def _configured(lines: tuple[str, ...]) -> PatternSet:
    # An undo asks about each of its paths: compiling takes far longer than the answer.
    return PatternSet(lines, "sync.exclude_patterns")
