"""What may be told of files that hold secrets, and their text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tcfs.errors import ConfigError
from tcfs.host.private import handed_over
from tcfs.model.paths import show
from tcfs.secrets.chain import SourceState


def file_state(name: str, path: Path, *, private: bool = True) -> SourceState:
    """What may be told of a file."""
    shown = show(os.fsencode(path))
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return SourceState(name, False, f"{shown}: {error.strerror}")
    warning = ": others can read it" if private and mode & 0o077 and not handed_over(path) else ""
    return SourceState(name, True, f"{shown}, mode {mode:04o}{warning}")


def text_of(data: bytes, path: Path) -> str:
    """The file's text. Raises ConfigError."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{show(os.fsencode(path))} is not text", remedy="Name another file."
        ) from None
