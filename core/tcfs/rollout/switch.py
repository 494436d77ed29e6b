"""``fleet_switch``: build and activate this host's configuration, by its manager's own program.

Nothing happens without a plan: what would run, on which definition, over which generation. It is
carried out by its hash, and refused if anything of that changed.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform as machine
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tcfs.errors import (
    AccessError,
    CancelledError,
    FleetFileError,
    PlanChangedError,
    SwitchError,
    UsageError,
)
from tcfs.rollout.definition import Host, read_definition
from tcfs.rollout.progress import FILE as ROLLOUT_FILE
from tcfs.rollout.render import this_platform
from tcfs.sync.facade import Cancel, Progress, ProgressFn

PROGRAMS: Final = {
    "nixos": "nixos-rebuild",
    "nix-darwin": "darwin-rebuild",
    "home-manager": "home-manager",
}
TIMEOUT_S: Final = 3600.0
TAIL_LINES: Final = 40
_LINE_BYTES: Final = 2000
_LOOK_S: Final = 0.2
_GRACE_S: Final = 10.0
_DEFINING: Final = (".nix", ".lock", ".json", ".toml", ".yaml", ".yml")
_MOST_FILES: Final = 20_000
_FEATURES: Final = "extra-experimental-features = nix-command flakes"


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """What a switch of this host would run.

    Attributes:
        program: where it was found.
        generation: the number that is active now; 0 if there is none.
        rollback: the command that brings that generation back.
        needs: what stands in the way of carrying it out; empty if nothing does.
    """

    hash: str
    host: str
    manager: str
    platform: str
    fleet: str
    flake: str
    command: tuple[str, ...]
    program: str
    generation: int
    rollback: str = ""
    needs: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchResult:
    """What a switch did, or in a dry run would do.

    Attributes:
        generation: the active one now.
        output: the last lines of the program's output.
    """

    plan: SwitchPlan
    dry_run: bool
    generation: int = 0
    changed: bool = False
    rollback: str = ""
    seconds: float = 0.0
    output: tuple[str, ...] = ()


def plan_switch(folder: Path, host: str = "", *, here: bool = False) -> SwitchPlan:
    """What a switch would run. Nothing is changed or built.

    Args:
        host: by default the one with this machine's name.
        here: this machine is that host, though its name is another.

    Raises:
        UsageError: the host is not this machine.
        FleetFileError: the definition or its flake is wrong, or the program is missing.
        NotFoundError: there is no such host.
    """
    own = machine.node().partition(".")[0]
    name = host or own
    if name != own and not here:
        raise UsageError(
            f"this machine is called {own}, not {name}",
            remedy=f"Run the command on {name}; or say that this machine is it, with --here.",
        )
    definition = read_definition(folder, [name])
    found = definition.host(name)
    mine = this_platform()
    if mine and found.platform != mine:
        raise UsageError(
            f"the host {name} is a {found.platform}, and this machine a {mine}",
            remedy="Run the command on that host.",
        )
    flake = _flake(definition.folder)
    program = PROGRAMS[found.manager]
    where = shutil.which(program)
    if where is None:
        raise FleetFileError(
            f"{program} is not on PATH",
            remedy=f"The host {name} is managed by {found.manager}: install that first.",
        )
    profile = _profile(found.manager)
    generation = _generation(profile)
    command = (program, "switch", "--flake", f"{flake}#{name}")
    return SwitchPlan(
        hash=_hash(found, command, where, generation, flake),
        host=name,
        manager=found.manager,
        platform=found.platform,
        fleet=os.fspath(definition.folder),
        flake=os.fspath(flake),
        command=command,
        program=where,
        generation=generation,
        rollback=_rollback(found.manager, profile, generation),
        needs=_needs(found),
        warnings=found.warnings,
    )


def switch_host(
    plan: SwitchPlan,
    *,
    timeout_s: float = TIMEOUT_S,
    progress: ProgressFn | None = None,
    cancel: Cancel | None = None,
) -> SwitchResult:
    """Carry a plan out. Whoever calls this has somebody's yes to it.

    Progress is told line by line. A program that does not end in time is stopped with all it
    started.

    Raises:
        AccessError: another user has to do it.
        PlanChangedError: what was planned is no longer so.
        SwitchError: the program failed or did not end; ``details`` has the end of its output.
        CancelledError: the caller stopped it.
    """
    if plan.needs:
        raise AccessError(f"{plan.host} cannot be switched by this user", remedy=plan.needs)
    now = plan_switch(Path(plan.fleet), plan.host, here=True)
    if now.hash != plan.hash:
        raise PlanChangedError("the definition or the active generation changed since the plan")
    profile = _profile(plan.manager)
    started = time.monotonic()
    run = _Run(plan, started + timeout_s, progress, cancel)
    status = run.wait()
    seconds = round(time.monotonic() - started, 3)
    generation = _generation(profile)
    details = {
        "exit_status": status,
        "generation_before": plan.generation,
        "generation": generation,
        "rollback": plan.rollback if generation != plan.generation else "",
        "output": list(run.tail),
    }
    remedy = (
        f"Generation {generation} is active now. Go back to the one before: {plan.rollback}"
        if generation != plan.generation
        else f"Generation {generation} is active as before. Read the end of its output."
    )
    if run.stopped == "cancelled":
        raise CancelledError(f"{plan.command[0]} was stopped", remedy=remedy, details=details)
    if run.stopped:
        raise SwitchError(
            f"{plan.command[0]} did not end within {timeout_s:.0f} s and was stopped",
            remedy=remedy,
            details=details,
        )
    if status != 0:
        last = run.tail[-1] if run.tail else "it said nothing"
        raise SwitchError(
            f"{plan.command[0]} failed with exit status {status}: {last}",
            remedy=remedy,
            details=details,
        )
    return SwitchResult(
        plan=plan,
        dry_run=False,
        generation=generation,
        changed=generation != plan.generation,
        rollback=plan.rollback if generation != plan.generation else "",
        seconds=seconds,
        output=tuple(run.tail),
    )


class _Run:
    """The program, in a session of its own, so that it can be stopped with all it started."""

    def __init__(
        self,
        plan: SwitchPlan,
        deadline: float,
        progress: ProgressFn | None,
        cancel: Cancel | None,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.stopped = ""
        self._lines = 0
        self._name = plan.command[0]
        self._deadline = deadline
        self._progress = progress
        self._cancel = cancel
        own = os.environ.get("NIX_CONFIG", "")
        environment = {**os.environ, "NIX_CONFIG": f"{own}\n{_FEATURES}".lstrip()}
        self._process = subprocess.Popen(
            [plan.program, *plan.command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def wait(self) -> int:
        """Until it has ended; its exit status."""
        output = self._process.stdout
        assert output is not None
        try:
            self._read(output)
            if self.stopped:
                self._stop()
            return self._process.wait()
        finally:
            if self._process.poll() is None:
                self._stop()
                self._process.wait()
            output.close()

    def _read(self, output: IO[bytes]) -> None:
        """Take its lines until it ends, or has to be stopped."""
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                if self._cancel is not None and self._cancel():
                    self.stopped = "cancelled"
                elif time.monotonic() >= self._deadline:
                    self.stopped = "late"
                if self.stopped:
                    return
                if not selector.select(_LOOK_S):
                    if self._process.poll() is not None:
                        # What it left in the background may hold its output open for ever.
                        break
                    continue
                data = os.read(output.fileno(), 1 << 16)
                if not data:
                    break
                *lines, pending = re.split(rb"[\r\n]+", pending + data)
                for line in lines:
                    self._tell(line)
                if len(pending) > _LINE_BYTES:
                    self._tell(pending)
                    pending = b""
        self._tell(pending)

    def _tell(self, line: bytes) -> None:
        text = line[:_LINE_BYTES].decode("utf-8", "replace").strip()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        if not text:
            return
        self._lines += 1
        self.tail.append(text)
        if self._progress is not None:
            self._progress(Progress(self._name, self._lines, 0, "lines", text))

    def _stop(self) -> None:
        """End it and its children: first asking, then, for whatever stayed, not."""
        group = self._process.pid
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)


def _flake(folder: Path) -> Path:
    """The folder of the flake that a definition belongs to."""
    for place in (folder, *folder.parents):
        if (place / "flake.nix").is_file():
            if "#" in str(place) or "?" in str(place):
                raise FleetFileError(
                    f"{place} cannot be the name of a flake: it has # or ? in it",
                    remedy="Move it to a folder with a plain name.",
                )
            return place
    raise FleetFileError(
        f"{folder} has no flake.nix, which makes configurations of its hosts",
        remedy="Add one; a fleet with its flake is made by: nix flake init -t tcfs#fleet",
    )


def _profile(manager: str) -> Path:
    """The link that names the active generation."""
    profiles = Path(os.environ.get("NIX_STATE_DIR") or "/nix/var/nix", "profiles")
    if manager != "home-manager":
        return profiles / "system"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    own = Path(state, "nix", "profiles", "home-manager")
    old = profiles / "per-user" / getpass.getuser() / "home-manager"
    return old if old.is_symlink() and not own.is_symlink() else own


def _generation(profile: Path) -> int:
    try:
        found = re.fullmatch(rf"{re.escape(profile.name)}-(\d+)-link", os.readlink(profile))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _rollback(manager: str, profile: Path, generation: int) -> str:
    if not generation:
        return ""
    return {
        "nixos": "nixos-rebuild switch --rollback",
        "nix-darwin": "darwin-rebuild --rollback",
        "home-manager": f"{profile.parent}/{profile.name}-{generation}-link/activate",
    }[manager]


def _needs(host: Host) -> str:
    """Who has to run it, where this user cannot."""
    user = getpass.getuser()
    if host.manager == "home-manager":
        if host.user and host.user != user:
            return f"It belongs to {host.user}: run the command as that user."
    elif os.geteuid() != 0:
        return "It changes the whole system: a person has to run the command as root, with sudo."
    return ""


def _hash(host: Host, command: tuple[str, ...], program: str, generation: int, flake: Path) -> str:
    """Over everything that decides what would happen, as far as it can be known before."""
    facts = [host.settings, host.manager, host.user, command, program, generation]
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    count = 0
    for folder, names, files in os.walk(flake):
        # Git's own files and results of builds are no part of a definition.
        names[:] = sorted(n for n in names if not n.startswith((".", "result")))
        for name in sorted(files):
            if name == ROLLOUT_FILE or not name.endswith(_DEFINING):
                continue
            count += 1
            if count > _MOST_FILES:
                raise FleetFileError(
                    f"the flake {flake} has more than {_MOST_FILES:,} files",
                    remedy="Keep the definition in a folder of its own.",
                )
            file = Path(folder, name)
            found.update(os.fsencode(file.relative_to(flake)) + b"\0")
            try:
                found.update(hashlib.sha256(file.read_bytes()).digest())
            except OSError:
                # A link that leads nowhere, say: Nix will tell if it matters.
                found.update(b"unreadable")
    return found.hexdigest()[:32]
