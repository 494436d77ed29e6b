"""``fleet_render``: write a host's file, or change a few settings in it and nothing else."""

from __future__ import annotations

import difflib
import os
import platform as machine
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tcfs.errors import FleetFileError, LocalFileError, UsageError
from tcfs.rollout.check import report_of
from tcfs.rollout.definition import FILE, HOSTS, HostProblem, read_definition
from tcfs.rollout.names import FACTS, find_option
from tcfs.rollout.nixtext import HostText, new_file

PLATFORMS: Final = ("x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin")
MANAGERS: Final = ("home-manager", "nixos", "nix-darwin")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class RenderResult:
    """A host's file, and what became of it.

    Attributes:
        file: below the fleet's folder.
        diff: unified; empty if nothing changes.
        written: whether the file on disk is now the new one.
        problems: what the host's evaluation says about the new file. It is not written then.
        notes: what else is to be done or known.
    """

    host: str
    file: str
    diff: str
    written: bool
    problems: tuple[HostProblem, ...] = ()
    notes: tuple[str, ...] = ()


def this_platform() -> str:
    """This machine's platform as Nix calls it; empty if it is none of those that tcfs knows."""
    cpu = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.machine(), machine.machine())
    found = f"{cpu}-{machine.system().lower()}"
    return found if found in PLATFORMS else ""


def render_host(
    folder: Path,
    host: str,
    answers: Mapping[str, Any],
    *,
    devices: Sequence[str] | None = None,
    dry_run: bool = False,
) -> RenderResult:
    """Write or update ``hosts/<host>.nix``.

    The new file is evaluated before it replaces the old one.

    Args:
        answers: values by option (``conflictMode``), dotted key (``sync.conflict_mode``) or fact
            about the host (``platform``).
        devices: the names in the fleet's registry; None if they are not known.

    Raises:
        UsageError: no such setting, no platform for a new host, or a file that is more than a
            plain set of settings.
        FleetFileError: there is no fleet there, its other parts are wrong, or Nix is missing.
        LocalFileError: the file cannot be written, or changed meanwhile.
    """
    if not _HOST.fullmatch(host):
        raise UsageError(
            f"not a host name: {host[:100]!r}", remedy="Use letters, digits, '.', '_' and '-'."
        )
    folder = Path(os.path.realpath(folder))
    if not (folder / FILE).is_file():
        read_definition(folder)
    wanted = {find_option(name): value for name, value in answers.items()}
    relative = Path(HOSTS, f"{host}.nix")
    target = folder / relative
    before = _read(target)
    notes: list[str] = []
    if before is None:
        wanted = {"platform": _platform_of(host, wanted, devices), **wanted}
        ordered = sorted(wanted.items(), key=lambda item: (item[0] not in FACTS, item[0]))
        after = new_file(dict(ordered))
        notes.append("a flake sees files that Git knows alone: run git add for a new one")
    else:
        after = before
        for name, value in wanted.items():
            after = HostText(after, str(relative)).with_value(name, value)
    if devices is not None and str(wanted.get("deviceName") or host) not in devices:
        notes.append(f"no device of the fleet is named {wanted.get('deviceName') or host} yet")
    diff = "".join(
        difflib.unified_diff(
            (before or "").splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"a/{relative}" if before is not None else "/dev/null",
            f"b/{relative}",
        )
    )
    if not diff:
        return RenderResult(host, str(relative), "", False, notes=tuple(notes))
    problems = _tried(folder, host, target, before, after, keep=not dry_run)
    return RenderResult(
        host, str(relative), diff, not dry_run and not problems, problems, tuple(notes)
    )


def _platform_of(host: str, wanted: Mapping[str, Any], devices: Sequence[str] | None) -> Any:
    if "platform" in wanted:
        return wanted["platform"]
    if host == machine.node().partition(".")[0] and this_platform():
        return this_platform()
    raise UsageError(
        f"the platform of the new host {host} is not known",
        remedy=f"Add platform=..., one of: {', '.join(PLATFORMS)}",
    )


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalFileError(f"cannot read {file}: {error}") from None


def _tried(
    folder: Path, host: str, target: Path, before: str | None, after: str, *, keep: bool
) -> tuple[HostProblem, ...]:
    """Put the new text in place if it evaluates there; what is wrong with it otherwise."""
    temp = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(exist_ok=True)
        temp.write_text(after, encoding="utf-8")
        definition = read_definition(folder, [host], instead=temp)
        if definition.problems:
            raise FleetFileError(f"{folder / FILE}: {definition.problems[0].message}")
        [checked] = report_of(definition).hosts
        if checked.problems or not keep:
            return checked.problems
        if _read(target) != before:
            raise LocalFileError(
                f"{target} changed meanwhile", remedy="Nothing was written. Run the command again."
            )
        if before is not None:
            shutil.copymode(target, temp)
        os.replace(temp, target)
    except OSError as error:
        raise LocalFileError(f"cannot write {target}: {error.strerror}") from None
    finally:
        temp.unlink(missing_ok=True)
    return ()
