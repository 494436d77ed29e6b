"""The fleet on real servers: three daemons, SeaweedFS, NATS, a conflict, a device that is away."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from script.story.stage import BIN, Device, Failed, Stage
from script.story.telling import Teller, count_text
from script.story.trees import tree_size

FIRST: Final = "yoga"
OTHERS: Final = ("xoxd-bates", "petting-zoo-mini")
PATIENCE_S: Final = 60.0
STOP_S: Final = 30.0
LONGEST_SOCKET: Final = 100
"""Bytes of a socket's path that every system takes."""
SOCKET: Final = "s/home/data/servers/weed/f.sock"

NEWS = "Seen on yoga, wanted on all three."
PLANS = {"yoga": "Ship on Friday.", "xoxd-bates": "Ship on Monday."}


class ServersStory(Stage):
    """Three devices whose daemons keep one tree in sync.

    Args:
        rehearse: run ``tcfs fleet verify`` as well.
    """

    trees = "four"

    def __init__(self, teller: Teller, source: Path, place: Path, *, rehearse: bool) -> None:
        super().__init__(teller, source, place)
        self._rehearse = rehearse
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._up = False
        # A short name: below it are sockets, whose paths must not be long.
        self._servers = Device("servers", place / "s")
        self._devices: list[Device] = []

    def play(self) -> None:
        """Tell all of it.

        Raises:
            Failed: something differs, or a command ended as it must not.
        """
        self.tell.title(f"tcfs {version('tcfs')}: three devices, SeaweedFS, NATS")
        if len(os.fsencode(self.place / SOCKET)) > LONGEST_SOCKET:
            raise Failed(
                f"the path {self.place} is too long for sockets. Set TMPDIR to a short one."
            )
        self._start_servers()
        self._enroll()
        self._start_daemons()
        self._save()
        self._away()
        self._conflict()
        if self._rehearse:
            self._verify_fleet()
        self._stop()

    def close(self) -> None:
        """End what still runs, however the story ended."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        if self._up:
            self.run(self._servers, "tcfs", "servers", "down", quiet=True)
            self._up = False

    # Steps

    def _start_servers(self) -> None:
        tell = self.tell
        tell.step("Two private servers, on loopback alone, with keys of their own")
        self._servers.place.mkdir()
        self._up = True
        told = json.loads(self.run(self._servers, "tcfs", "servers", "up", "--json", quiet=True))
        tell.command(self._servers.name, ["tcfs", "servers", "up"], self.seconds)
        for server in told["servers"]:
            if not server["running"]:
                raise Failed(f"{server['name']} does not run")
            tell.output(f"{server['name']}: {server['endpoint']}")
        settings = _exported(Path(told["environment"]))
        tell.say(
            f"The devices are told by variables: {', '.join(sorted(settings))}. They look at the "
            "store every minute as well, should an event be lost."
        )
        self._devices = [
            Device(name, self.place / name, settings | {"TCFS_SYNC_POLL_INTERVAL": "60"})
            for name in (FIRST, *OTHERS)
        ]

    def _enroll(self) -> None:
        tell = self.tell
        yoga, *others = self._devices
        tell.step("Three devices, one fleet")
        copied = self.prepare(yoga, others, copies=8)
        tell.fact("…", f"stands for {self.place}")
        if not copied.files:
            raise Failed("the directory has no files; take another one")
        self.run(yoga, "tcfs", "init", "--name", yoga.name)
        self.invite(yoga, *others)
        self.run(yoga, "tcfs", "device", "list")
        for device in others:
            device.tree.mkdir()
        for device in self._devices:
            self.run(device, "tcfs", "root", "add", "tree", "--as", "tree")

    def _start_daemons(self) -> None:
        tell = self.tell
        tell.step("A daemon on each: yoga's tree appears on the others by itself")
        begun = time.monotonic()
        for device in self._devices:
            self._start(device)
        size = tree_size(os.fsencode(self.expected))
        for device in self._devices[1:]:
            self._until(
                f"yoga's tree to be on {device.name}",
                lambda device=device: tree_size(os.fsencode(device.tree)) == size,  # type: ignore[misc]
            )
        took = time.monotonic() - begun
        for device in self._devices:
            self._until(
                f"{device.name} to be in sync",
                lambda device=device: self._in_sync(device),  # type: ignore[misc]
                every=0.2,
            )
        self.compare(*self._devices)
        files = count_text(sum(1 for path in self.expected.rglob("*") if path.is_file()), "file")
        tell.good(f"{files} are the same on all three, {took:.1f} s after the daemons were started")

    def _save(self) -> None:
        tell = self.tell
        yoga = self._devices[0]
        tell.step("A save on one is seen arriving on the others")
        for tree in (yoga.tree, self.expected):
            (tree / self.notes).mkdir()
            (tree / self.notes).chmod(0o755)
        for device in self._devices:
            name = f"from-{device.name}.txt"
            begun = time.monotonic()
            self.write(device, name, f"{NEWS} Written on {device.name}.")
            text = (device.tree / self.notes / name).read_bytes()
            arrived = self._arrivals(name, text, begun, apart_from=device)
            tell.say(
                f"{device.name} saves {self.notes}/{name}: on "
                + ", on ".join(f"{other} after {1000 * s:.0f} ms" for other, s in arrived.items())
            )

    def _away(self) -> None:
        tell = self.tell
        yoga, xoxd, petting = self._devices
        tell.step(f"{petting.name} goes offline, everybody goes on, and it comes back")
        self._end(petting)
        begun = time.monotonic()
        self.write(yoga, "while-away.txt", "Nobody waits for a device that is away.")
        text = (yoga.tree / self.notes / "while-away.txt").read_bytes()
        self._arrivals("while-away.txt", text, begun, apart_from=yoga, of=[xoxd])
        removed = f"from-{yoga.name}.txt"
        for tree in (xoxd.tree, self.expected):
            (tree / self.notes / removed).unlink()
        self._until("the deletion", lambda: not (yoga.tree / self.notes / removed).exists())
        self.write(petting, "meanwhile.txt", "Written offline.")
        tell.say(
            f"yoga adds a file, {xoxd.name} deletes one, and {petting.name} writes one meanwhile."
        )
        begun = time.monotonic()
        self._start(petting)
        self._until("it to catch up", lambda: not (petting.tree / self.notes / removed).exists())
        self._arrivals("while-away.txt", text, begun, apart_from=yoga, of=[petting])
        own = (petting.tree / self.notes / "meanwhile.txt").read_bytes()
        self._arrivals("meanwhile.txt", own, begun, apart_from=petting)
        self.compare(*self._devices)
        tell.good(f"all three are the same again, {time.monotonic() - begun:.1f} s after its start")

    def _conflict(self) -> None:
        tell = self.tell
        yoga, xoxd, petting = self._devices
        tell.step(f"yoga and {xoxd.name} write one file without knowing of each other")
        self._end(xoxd)
        begun = time.monotonic()
        for device in (yoga, xoxd):
            self.write(device, "plan.txt", PLANS[device.name], expect=False)
        data = (yoga.tree / self.notes / "plan.txt").read_bytes()
        self._arrivals("plan.txt", data, begun, apart_from=yoga, of=[petting])
        tell.say(f"{xoxd.name} is offline at that moment, and sends its version when it is back.")
        self._start(xoxd)
        kept = f"plan.conflict-{yoga.name}.txt"
        self.expect("plan.txt", PLANS[xoxd.name])
        self.expect(kept, PLANS[yoga.name])
        for name in ("plan.txt", kept):
            wanted = (self.expected / self.notes / name).read_bytes()
            self._arrivals(name, wanted, begun, apart_from=None)
        both = {f"{self.notes}/{name}".encode() for name in ("plan.txt", kept)}
        self.compare(*self._devices, any_time=both)
        tell.good(
            f"both versions are on all three: {xoxd.name}'s as plan.txt, since its name sorts "
            f"first, yoga's beside it as {kept}"
        )
        self.run(petting, "tcfs", "why", f"tree/{self.notes}/plan.txt")
        tell.say(
            "Every device decides alike, from what was signed. With sync.conflict_mode = defer it "
            "would wait for a person."
        )

    def _verify_fleet(self) -> None:
        tell = self.tell
        tell.step("The rehearsal that an operator runs against a real fleet's servers")
        self.run(self._devices[0], "tcfs", "fleet", "verify", most=24)
        tell.say("In a scratch place of the store, with three devices of its own, all removed.")

    def _stop(self) -> None:
        tell = self.tell
        tell.step("Everything is checked and stopped")
        for device in self._devices:
            self._end(device)
        self.run(self._devices[1], "tcfs", "verify", "--read-data", "--local")
        self.run(self._servers, "tcfs", "servers", "down")
        told = json.loads(
            self.run(self._servers, "tcfs", "servers", "status", "--json", quiet=True)
        )
        if any(server["running"] for server in told["servers"]):
            raise Failed("a server runs on after it was stopped")
        self._up = False
        names = ("plan.txt", f"plan.conflict-{FIRST}.txt")
        self.compare(*self._devices, any_time={f"{self.notes}/{name}".encode() for name in names})
        tell.good("the trees of all three, and what they must be now, are the same, byte for byte")

    # Helpers

    def _start(self, device: Device) -> None:
        self.tell.command(device.name, ["tcfs", "daemon"], None)
        with (device.place / "daemon.log").open("ab") as log:
            self._daemons[device.name] = subprocess.Popen(
                [BIN / "tcfs", "daemon"],
                cwd=device.place,
                env=device.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is this program's to handle
            )

    def _end(self, device: Device) -> None:
        daemon = self._daemons.pop(device.name)
        daemon.send_signal(signal.SIGTERM)
        try:
            code = daemon.wait(STOP_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            raise Failed(f"the daemon on {device.name} does not end") from None
        if code:
            raise Failed(f"the daemon on {device.name} ended with {code}: {self._said(device)}")

    def _in_sync(self, device: Device) -> bool:
        told = json.loads(self.run(device, "tcfs", "status", "--json", quiet=True))["daemon"]
        states = [root["state"] for root in told["roots"]]
        return bool(told["live"] == "live" and states == ["in sync"])

    def _arrivals(
        self,
        name: str,
        data: bytes,
        begun: float,
        *,
        apart_from: Device | None,
        of: Iterable[Device] | None = None,
    ) -> dict[str, float]:
        """Seconds after which a file of the story was on each device."""
        chosen = self._devices if of is None else of
        waiting = {d.name: d for d in chosen if d is not apart_from}
        found: dict[str, float] = {}

        def arrived() -> bool:
            for device in list(waiting.values()):
                try:
                    there = (device.tree / self.notes / name).read_bytes() == data
                except FileNotFoundError:
                    there = False
                if there:
                    found[device.name] = time.monotonic() - begun
                    del waiting[device.name]
            return not waiting

        self._until(f"{name} to arrive", arrived)
        return found

    def _until(self, what: str, holds: Callable[[], bool], *, every: float = 0.002) -> None:
        """Wait for something that a daemon does.

        Raises:
            Failed: it did not come within a minute, or a daemon ended.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            for device in self._devices:
                daemon = self._daemons.get(device.name)
                if daemon is not None and daemon.poll() is not None:
                    raise Failed(f"the daemon on {device.name} ended: {self._said(device)}")
            if time.monotonic() > deadline:
                raise Failed(f"waited {PATIENCE_S:g} s for {what}")
            time.sleep(every)

    def _said(self, device: Device) -> str:
        lines = (device.place / "daemon.log").read_text(errors="replace").strip().splitlines()
        return self.short(lines[-1]) if lines else "it said nothing"


def _exported(file: Path) -> dict[str, str]:
    """The variables that a file of ``export NAME=VALUE`` lines sets."""
    words = shlex.split(file.read_text(encoding="utf-8"))
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: value for name, _, value in pairs}
