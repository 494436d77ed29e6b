"""Reading small files that hold secrets, and seeing that one changed."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from tcfs.errors import AccessError, ConfigError, LocalFileError
from tcfs.model.paths import show

LONGEST: Final = 1 << 20
"""Bytes of a file of secrets; a longer one is something else."""


def stamp_of(path: Path) -> Hashable:
    """Equal as long as the file is the same."""
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def handed_over(path: Path) -> bool:
    """Whether a file is one of the credentials that systemd handed to this service.

    systemd keeps their directory from others. The files' own modes say nothing: where the service
    has a user of its own, an access list lets it in, which looks like a right of the group.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(directory) and path.parent == Path(directory)


def read_secret(path: Path, *, private: bool) -> bytes | None:
    """The file's bytes, or None if it is not there.

    Raises:
        AccessError: it is to be ``private``, and others may read it.
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
    if private and mode & 0o077 and not handed_over(path):
        raise AccessError(
            f"{shown} can be read by others", remedy=f"Take that right away: chmod 600 {shown}"
        )
    if len(data) > LONGEST:
        raise ConfigError(f"{shown} is too long for credentials", remedy="Name another file.")
    return data
