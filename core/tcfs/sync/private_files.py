"""Small private files of this device: mode 0600, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from tcfs.errors import AccessError, LocalFileError


def read_private(path: Path) -> bytes | None:
    """The file's bytes, or None if it is not there.

    Raises:
        AccessError: others may read it.
        LocalFileError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalFileError(f"cannot read {path}: {error.strerror}") from error
    if mode & 0o077:
        raise AccessError(
            f"{path} can be read by others", remedy=f"Take that right away: chmod 600 {path}"
        )
    return data


def write_private(path: Path, data: bytes) -> None:
    """Write the file, durably. Raises LocalFileError."""
    temp = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temp, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise LocalFileError(f"cannot write {path}: {error.strerror}") from error


def remove_private(path: Path) -> None:
    """Remove the file, durably; absent is fine. Raises LocalFileError."""
    try:
        path.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise LocalFileError(f"cannot remove {path}: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
