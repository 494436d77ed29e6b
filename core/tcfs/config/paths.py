"""Where a device keeps its things. Nothing is created by asking."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct


class HomePaths(Struct, frozen=True):
    """The places of one device, all absolute.

    With ``TCFS_HOME`` set everything lies below it, so that several devices can live on one
    machine. Otherwise the XDG base directories are used and, on macOS where no ``XDG_*`` variable
    says differently, ``~/Library``. The identity is with the data and not with the configuration,
    which people commit to dotfile repositories.
    """

    config_file: Path
    identity_dir: Path
    state_dir: Path
    cache_dir: Path
    data_dir: Path
    runtime_dir: Path
    """For sockets."""

    @property
    def embedded_store(self) -> Path:
        """Directory of the store that is used when no endpoint is configured."""
        return self.data_dir / "store"

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] | None = None, *, platform: str = sys.platform
    ) -> HomePaths:
        """The places that these environment variables name (by default the process's own)."""
        env = os.environ if environ is None else environ
        home = user_home(env)
        if env.get("TCFS_HOME"):
            top = absolute(env["TCFS_HOME"], home=home, base=Path.cwd())
            return cls(
                config_file=top / "config.toml",
                identity_dir=top / "identity",
                state_dir=top / "state",
                cache_dir=top / "cache",
                data_dir=top / "data",
                runtime_dir=top / "run",
            )
        mac = platform == "darwin"
        support = home / "Library" / "Application Support"

        def place(variable: str, fallback: Path) -> Path:
            # The XDG specification: a relative path in one of these is to be ignored.
            value = env.get(variable, "")
            return (Path(value) if value.startswith("/") else fallback) / "tcfs"

        data = place("XDG_DATA_HOME", support if mac else home / ".local" / "share")
        state = place("XDG_STATE_HOME", support if mac else home / ".local" / "state")
        state = state / "state" if state == data else state
        config = place("XDG_CONFIG_HOME", support if mac else home / ".config")
        caches = home / "Library" / "Caches" if mac else home / ".cache"
        runtime = env.get("XDG_RUNTIME_DIR", "")
        return cls(
            config_file=config / "config.toml",
            identity_dir=data / "identity",
            state_dir=state,
            cache_dir=place("XDG_CACHE_HOME", caches),
            data_dir=data,
            runtime_dir=Path(runtime) / "tcfs" if runtime.startswith("/") else state / "run",
        )


def user_home(environ: Mapping[str, str]) -> Path:
    """The user's home directory, by ``HOME`` or the password database."""
    home = environ.get("HOME", "")
    return Path(home) if home.startswith("/") else Path.home()


def absolute(text: str | Path, *, home: Path, base: Path) -> Path:
    """``text`` with ``~`` expanded, and taken from ``base`` if it is relative.

    ``..`` stays: what it means behind a symlink is for the file system to say.
    """
    path = os.fspath(text)
    if path == "~" or path.startswith("~/"):
        path = os.path.join(home, path[2:])
    return Path(os.path.join(base, path))
