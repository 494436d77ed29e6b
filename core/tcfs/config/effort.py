"""What a single command may take of the machine: the flags that stand for settings."""

from __future__ import annotations

from tcfs.config.units import parse_size
from tcfs.errors import UsageError

_MIB = 1 << 20


def effort(jobs: str | None, memory: str | None, limit: str | None) -> dict[str, object]:
    """Settings by dotted key of ``--jobs``, ``--memory`` and ``--limit``; None is not given.

    Args:
        jobs: processes.
        memory: bytes in flight, as people write sizes.
        limit: bytes a second in each direction; 0 for no limit.

    Raises:
        UsageError: a flag means nothing.
    """
    rate = _size("--limit", limit)
    room = _size("--memory", memory)
    if jobs is not None and not (jobs.isascii() and jobs.isdigit()):
        raise UsageError(f"--jobs: not a number of processes: {jobs!r}")
    return {
        "sync.jobs": None if jobs is None else int(jobs),
        "sync.memory_mb": None if room is None else room // _MIB,
        "storage.upload_limit": rate,
        "storage.download_limit": rate,
    }


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text.removesuffix("/s"))
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}", remedy=error.remedy) from None
