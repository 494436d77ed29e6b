"""Running Nix: pure evaluation alone, of files below the folders that are named.

``--restrict-eval`` keeps a definition from reading anything else of this machine, and the dummy
store from writing anything at all: a fleet's definition may come from someone else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tcfs.errors import FleetFileError
from tcfs.rollout.nixtext import nix_value

TIMEOUT_S: Final = 120.0
MAX_OUTPUT: Final = 64 << 20
"""Bytes of the largest answer that is read."""

_PLACE = re.compile(r"\bat (?P<file>/.*?):(?P<line>\d+):(?P<column>\d+)")


class NixFailure(Exception):
    """Nix refused an expression: what it said, and the innermost place in a file that it named."""

    def __init__(self, message: str, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line


def library() -> Path:
    """The folder of the Nix library that comes with this program."""
    return Path(__file__).resolve().parent.parent.joinpath("_nix").resolve()


def find_nix() -> str:
    """The program that evaluates.

    Raises:
        FleetFileError: it is not installed.
    """
    found = shutil.which("nix-instantiate")
    if found is None:
        raise FleetFileError(
            "nix-instantiate is not on PATH",
            remedy="Install Nix (on Debian the package nix-bin), then run the command again.",
        )
    return found


def evaluate(file: Path, arguments: dict[str, Any], *, folders: tuple[Path, ...]) -> Any:
    """The JSON value of a Nix file's function.

    Args:
        file: holds a function of ``arguments``, which are JSON values.
        folders: all that may be read.

    Raises:
        NixFailure: it did not evaluate.
        FleetFileError: Nix is not there, or takes too long.
    """
    command = [
        find_nix(),
        "--eval",
        "--strict",
        "--json",
        "--store",
        "dummy://",
        "--restrict-eval",
    ]
    for name, value in {
        "allow-import-from-derivation": "false",
        "allow-unsafe-native-code-during-evaluation": "false",
        "allowed-uris": "",
        "build-users-group": "",
        "sandbox": "false",
    }.items():
        command += ["--option", name, value]
    for folder in folders:
        command += ["-I", os.fspath(folder)]
    command.append(os.fspath(file))
    for name, value in arguments.items():
        command += ["--arg", name, nix_value(value)]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "USER")
    }
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FleetFileError(f"Nix took more than {TIMEOUT_S:.0f} s to evaluate") from None
    # Where it fails, standard output holds the beginning of an answer.
    if done.returncode != 0:
        raise _failure(done.stderr.decode("utf-8", "replace"))
    if len(done.stdout) > MAX_OUTPUT:
        raise FleetFileError("the definition evaluates to more than can be meant")
    return json.loads(done.stdout)


def _failure(text: str) -> NixFailure:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line for line in plain.splitlines() if not line.startswith("warning:")]
    plain = "\n".join(lines).replace(
        "(use '--show-trace' to show detailed location information)", ""
    )
    _, found, rest = plain.partition("error: ")
    message = (rest if found else plain).split("\n\n")[0].split("\n       at ")[0]
    message = " ".join(message.split()) or "Nix failed without a word"
    place = _PLACE.search(plain)
    if place is None:
        return NixFailure(message)
    message = _PLACE.sub("", message).strip(" ,")
    return NixFailure(message, place["file"], int(place["line"]))
