"""``tcfs fleet verify``: RFC 0001's phases 2, 3, 4 and 6, carried out as written, on real servers.

Three devices with the RFC's names are set up on this machine in a scratch prefix of the store that
is configured, with the NATS server that is configured. What is done is what the RFC tells a person
to type, with ``tcfs`` itself. Nothing of the fleet is touched; the scratch prefix, the devices'
queues and their homes are removed at the end.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tcfs.errors import CancelledError, ConflictError, TcfsError
from tcfs.service.daemon.report import Report, read

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.store.base import BlobStore

FIRST: Final = "yoga"
NAMES: Final = (FIRST, "xoxd-bates", "petting-zoo-mini")
SECONDS: Final = 30.0
"""Within which a change is to be on the other devices; the RFC says "within seconds"."""
COMMAND_S: Final = 120.0
_FORGOTTEN: Final = ("TCFS_HOME", "TCFS_CONFIG", "TCFS_ACTOR")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the RFC asks for."""

    phase: int
    what: str
    ok: bool
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How it went. After a step that failed the rest of its phase is left out."""

    ok: bool
    endpoint: str
    events: str
    """``nats``, or ``polling`` where no NATS server is configured."""
    scratch: str
    steps: tuple[Step, ...]
    left_behind: tuple[str, ...] = ()
    """What could not be removed."""


class StepFailed(Exception):
    """A step of the rehearsal did not give what the RFC says."""


class Machine:
    """One of the three devices: a home of its own, and files where the RFC has /tmp."""

    def __init__(self, top: Path, name: str, config: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.tmp = top / name / "tmp"
        self.tree = top / name / "git"
        for directory in (self.tmp, self.tree):
            directory.mkdir(parents=True)
        self._home = top / name / "home"
        self._environ = {**environ, "TCFS_HOME": str(self._home), "TCFS_CONFIG": str(config)}
        self._log = top / name / "daemon.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    def tcfs(self, *arguments: str, text: str = "", expect: int = 0) -> str:
        """Run a command and return what it printed. Raises StepFailed."""
        done = subprocess.run(
            [*_program(), *arguments],
            env=self._environ,
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        if done.returncode != expect:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise StepFailed(
                f"on {self.name}: tcfs {' '.join(arguments)} ended with {done.returncode} instead "
                f"of {expect}: {said[0] if said else 'it said nothing'}"
            )
        return done.stdout

    def start(self) -> None:
        """Start its daemon."""
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [*_program(), "daemon"], env=self._environ, stdin=subprocess.DEVNULL, stderr=log
            )

    def stop(self) -> None:
        """Take it offline, if it is not."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def report(self) -> Report:
        """How its daemon is."""
        return read(self._home / "state")

    @property
    def device_id(self) -> str:
        """Its id; empty before it is enrolled."""
        try:
            data = json.loads((self._home / "identity" / "identity.json").read_bytes())
            return str(data["device_id"])
        except (OSError, ValueError, KeyError):
            return ""


@dataclass
class _Run:
    machines: dict[str, Machine]
    live: bool
    told: Callable[[Step], None]
    cancel: Callable[[], bool]
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, phase: int, what: str) -> Iterator[list[str]]:
        """Time a step; what is put into the list is its detail."""
        begun, details = time.monotonic(), list[str]()
        if self.cancel():
            raise CancelledError("stopped as asked; the scratch fleet is removed")
        try:
            yield details
        except (StepFailed, subprocess.TimeoutExpired, OSError) as error:
            self._add(Step(phase, what, False, time.monotonic() - begun, str(error)))
            raise StepFailed(str(error)) from None
        self._add(Step(phase, what, True, time.monotonic() - begun, "; ".join(details)))

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.told(step)

    def others(self, name: str) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.name != name]


def rehearse(
    loaded: LoadedConfig,
    *,
    told: Callable[[Step], None] = lambda step: None,
    cancel: Callable[[], bool] = lambda: False,
) -> Rehearsal:
    """Carry the phases out.

    Args:
        told: hears of every step as it ends.
        cancel: asked between the steps.

    Raises:
        CancelledError: the caller asked to stop.
        TcfsError: it could not even begin: the store that is configured cannot be used.
    """
    from tcfs.config.show import redact_url

    scratch = f"verify-{secrets.token_hex(6)}"
    prefix = "/".join(filter(None, (loaded.config.storage.prefix, scratch)))
    live = bool(loaded.config.sync.nats_url)
    top = Path(tempfile.mkdtemp(prefix="tcfs-verify-"))
    left: list[str] = []
    run = _Run({}, live, told, cancel)
    try:
        config = top / "config.toml"
        config.write_text(_config_text(loaded, prefix))
        config.chmod(0o600)
        environ = _environment()
        run.machines = {name: Machine(top, name, config, environ) for name in NAMES}
        # Without its devices there is no fleet; the other phases do not need each other.
        with suppress(StepFailed):
            _enroll(run, lambda: _registry(loaded, prefix))
            for phase in (_smoke, _conflict, _real_time):
                with suppress(StepFailed):
                    phase(run)
    finally:
        for machine in run.machines.values():
            machine.stop()
        devices = [machine.device_id for machine in run.machines.values()] if live else []
        left += _remove_objects(loaded, prefix)
        if live:
            left += _remove_queues(loaded, [device for device in devices if device])
        shutil.rmtree(top, ignore_errors=True)
    return Rehearsal(
        ok=bool(run.steps) and all(step.ok for step in run.steps),
        endpoint=redact_url(loaded.endpoint),
        events="nats" if live else "polling",
        scratch=prefix,
        steps=tuple(run.steps),
        left_behind=tuple(left),
    )


# The phases


def _enroll(run: _Run, registry: Callable[[], bytes]) -> None:
    """Phase 2. The first device makes the repository; an invite lets each other one in."""
    first = run.machines[FIRST]
    with run.step(2, "enroll the three devices"):
        first.tcfs("init", "--name", FIRST, "--quiet")
        for machine in run.others(FIRST):
            code = first.tcfs("device", "invite", "--quiet").splitlines()[-1]
            # --invite - reads the code from standard input: a secret is not for a command line.
            enroll = ("device", "enroll", "--name", machine.name, "--invite", "-", "--json")
            joined = json.loads(machine.tcfs(*enroll, text=code))
            if joined["waiting"]:  # the store keeps no conditional writes
                first.tcfs("device", "admit", joined["fingerprint"])
            machine.tcfs("status")
    with run.step(2, "tcfs device list shows all three on each"):
        for machine in run.machines.values():
            listed = json.loads(machine.tcfs("device", "list", "--json"))["devices"]
            names = sorted(device["name"] for device in listed)
            if names != sorted(NAMES):
                raise StepFailed(f"{machine.name} lists {', '.join(names)}")
    with run.step(2, "the registry tcfs-meta/devices.json shows 3 devices"):
        found = [device["name"] for device in json.loads(registry())["devices"]]
        if sorted(found) != sorted(NAMES):
            raise StepFailed(f"it shows {', '.join(found) or 'none'}")


def _smoke(run: _Run) -> None:
    """Phase 3."""
    first, text = run.machines[FIRST], "fleet sync test\n"
    with run.step(3, f"push fleet-test.txt on {FIRST}"):
        (first.tmp / "fleet-test.txt").write_text(text)
        first.tcfs("push", str(first.tmp / "fleet-test.txt"))
    for machine in run.others(FIRST):
        with run.step(3, f"pull it on {machine.name} and compare"):
            target = machine.tmp / "fleet-test.txt"
            machine.tcfs("pull", "tcfs/default/fleet-test.txt", str(target))
            if target.read_text() != text:
                raise StepFailed("the bytes differ")


def _conflict(run: _Run) -> None:
    """Phase 4."""
    yoga, xoxd = run.machines[FIRST], run.machines["xoxd-bates"]
    with run.step(4, "push two versions of conflict.txt, the second before pulling the first"):
        (yoga.tmp / "conflict.txt").write_text("yoga version\n")
        yoga.tcfs("push", str(yoga.tmp / "conflict.txt"))
        (xoxd.tmp / "conflict.txt").write_text("xoxd version\n")
        xoxd.tcfs("push", str(xoxd.tmp / "conflict.txt"), expect=ConflictError.exit_code)
    with run.step(4, "the conflict is detected, and nothing was overwritten"):
        found = json.loads(xoxd.tcfs("conflicts", "--json"))["conflicts"]
        paths = [conflict["path"] for conflict in found]
        if paths != ["conflict.txt"] or len(found[0]["versions"]) != 2:
            raise StepFailed(f"conflicts at {paths}")
        for machine, text in ((yoga, "yoga version\n"), (xoxd, "xoxd version\n")):
            if (machine.tmp / "conflict.txt").read_text() != text:
                raise StepFailed(f"{machine.name}'s own file changed")
    with run.step(4, "tcfs resolve-conflict conflict.txt --keep-local settles it everywhere"):
        xoxd.tcfs("resolve-conflict", "conflict.txt", "--keep-local")
        for machine in run.machines.values():
            target = machine.tmp / "conflict.txt"
            machine.tcfs("pull", "tcfs/default/conflict.txt", str(target))
            if target.read_text() != "xoxd version\n":
                raise StepFailed(f"{machine.name} has {target.read_text()!r}")


def _real_time(run: _Run) -> None:
    """Phase 6. Without a NATS server the daemons find changes by looking at the store."""
    machines = list(run.machines.values())
    wanted = "live" if run.live else "polling"
    with run.step(6, "start tcfsd on each device") as details:
        for machine in machines:
            machine.tcfs("root", "add", str(machine.tree), "--as", "tcfs/default/git")
            machine.start()
        for machine in machines:
            _until(
                f"the daemon on {machine.name} to be in sync and {wanted}",
                lambda machine=machine: _in_sync(machine, wanted),  # type: ignore[misc]
            )
        details.append(f"events by {'NATS' if run.live else 'polling'}")
    for machine in machines:
        with run.step(6, f"a file saved on {machine.name} is on the others") as details:
            begun = time.monotonic()
            _save(machine, f"from-{machine.name}.txt", f"saved on {machine.name}\n")
            for other in run.others(machine.name):
                _arrives(other, f"from-{machine.name}.txt", f"saved on {machine.name}\n")
            details.append(f"{time.monotonic() - begun:.2f} s")
    away, one, other = machines[2], machines[0], machines[1]
    with run.step(6, f"{away.name} goes offline, the others change files, it catches up"):
        away.stop()
        _save(one, "while-away.txt", "one\n")
        _arrives(other, "while-away.txt", "one\n")
        _save(other, f"from-{one.name}.txt", "changed while away\n")
        (other.tree / f"from-{other.name}.txt").unlink()
        away.start()
        _arrives(away, "while-away.txt", "one\n")
        _arrives(away, f"from-{one.name}.txt", "changed while away\n")
        _until(
            "the deletion to arrive", lambda: not (away.tree / f"from-{other.name}.txt").exists()
        )


def _in_sync(machine: Machine, live: str) -> bool:
    report = machine.report()
    return report.live == live and [root.state for root in report.roots] == ["in sync"]


def _save(machine: Machine, name: str, text: str) -> None:
    (machine.tree / name).write_text(text)


def _arrives(machine: Machine, name: str, text: str) -> None:
    def there() -> bool:
        try:
            return (machine.tree / name).read_text() == text
        except FileNotFoundError:
            return False

    _until(f"{name} to arrive on {machine.name}", there)


def _until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise StepFailed(f"waited {SECONDS:g} s for {what}")
        time.sleep(0.02)


# Around them


def _program() -> list[str]:
    beside = Path(sys.executable).with_name("tcfs")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from tcfs.cli.main import main; raise SystemExit(main())"]


def _config_text(loaded: LoadedConfig, prefix: str) -> str:
    """How the store and the bus are reached, and nothing else of this device's settings."""
    import tomlkit

    storage = loaded.config.storage.model_dump(mode="json", exclude_none=True)
    storage |= {"endpoint": loaded.endpoint, "prefix": prefix, "remote_name": "tcfs"}
    sync = loaded.config.sync.model_dump(mode="json", exclude_none=True)
    sync = {key: value for key, value in sync.items() if key.startswith("nats_")}
    sync["poll_interval"] = min(loaded.config.sync.poll_interval, 2.0)
    secret = loaded.config.secrets.model_dump(mode="json", exclude_none=True)
    return tomlkit.dumps({"storage": storage, "sync": sync, "secrets": secret})


def _environment() -> dict[str, str]:
    """This process's, without settings of ours: credentials stay."""
    from tcfs.config.load import ALIASES
    from tcfs.config.schema import settings

    ours = {f"TCFS_{key.replace('.', '_').upper()}" for key, _ in settings()}
    ours |= {*ALIASES, *_FORGOTTEN}
    return {name: value for name, value in os.environ.items() if name not in ours}


def _open(loaded: LoadedConfig, prefix: str) -> BlobStore:
    from msgspec.structs import replace

    from tcfs.sync.stores import configured_endpoint, open_configured

    storage = loaded.config.storage.model_copy(update={"prefix": prefix})
    config = loaded.config.model_copy(update={"storage": storage})
    scratch = replace(loaded, config=config)
    return open_configured(scratch, configured_endpoint(scratch))


def _registry(loaded: LoadedConfig, prefix: str) -> bytes:
    from tcfs.model.ids import StoreKey

    try:
        store = _open(loaded, prefix)
        try:
            return store.get(StoreKey("tcfs-meta/devices.json"))
        finally:
            store.close()
    except TcfsError as error:
        raise StepFailed(error.message) from None


def _remove_objects(loaded: LoadedConfig, prefix: str) -> list[str]:
    """Empty the scratch prefix. Returns what is left."""
    try:
        store = _open(loaded, prefix)
        try:
            for info in list(store.list("")):
                store.delete(info.key)
        finally:
            store.close()
        _remove_directories(loaded, prefix)
    except TcfsError as error:
        return [f"objects below {prefix}/ in the store: {error.message}"]
    return []


def _remove_directories(loaded: LoadedConfig, prefix: str) -> None:
    """A store in a directory keeps the directories that its keys were in."""
    from tcfs.sync.stores import configured_endpoint

    place = configured_endpoint(loaded).path
    if place:
        top = os.path.join(place, prefix.encode())
        for directory, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # something is in it, and stays
                os.rmdir(directory)


def _remove_queues(loaded: LoadedConfig, devices: list[str]) -> list[str]:
    """Remove the devices' durable consumers. Returns what is left."""
    import asyncio

    from tcfs.live.base import STREAM, queue_name
    from tcfs.live.connection import NatsSettings, abandon, connect, reason_of

    async def remove() -> None:
        config = loaded.config
        client = await connect(NatsSettings.of(config, config.sync.nats_url), "verify")
        try:
            stream = client.jetstream(timeout=5)
            for device in devices:
                await stream.delete_consumer(STREAM, queue_name(device))
        finally:
            await abandon(client)

    try:
        asyncio.run(remove())
    except Exception as error:  # noqa: BLE001 - told, whatever it is
        return [f"queues of {len(devices)} devices in NATS: {reason_of(error)}"]
    return []
