"""Reading small files that hold secrets."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from tcfs.errors import AccessError, ConfigError, LocalFileError
from tcfs.model.paths import show
from tcfs.secrets.chain import SourceState

LONGEST: Final = 1 << 20
"""Bytes of a file of secrets; a longer one is something else."""


def stamp_of(path: Path) -> Hashable:
    """Equal as long as the file is the same."""
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def file_state(name: str, path: Path, *, private: bool = True) -> SourceState:
    """What may be told of a file."""
    shown = show(os.fsencode(path))
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return SourceState(name, False, f"{shown}: {error.strerror}")
    warning = ": others can read it" if private and mode & 0o077 else ""
    return SourceState(name, True, f"{shown}, mode {mode:04o}{warning}")


def read_secret(path: Path, *, private: bool) -> bytes | None:
    """The file's bytes, or None if it is not there.

    Raises:
        AccessError: it is ``private``, and others may read it.
        ConfigError: it is too long.
        LocalFileError: it cannot be read.
    """
    shown = show(os.fsencode(path))
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LONGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalFileError(f"cannot read {shown}: {error.strerror}") from error
    if private and mode & 0o077:
        raise AccessError(
            f"{shown} can be read by others", remedy=f"Take that right away: chmod 600 {shown}"
        )
    if len(data) > LONGEST:
        raise ConfigError(f"{shown} is too long for credentials", remedy="Name another file.")
    return data


def text_of(data: bytes, path: Path) -> str:
    """The file's text. Raises ConfigError."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{show(os.fsencode(path))} is not text", remedy="Name another file."
        ) from None
