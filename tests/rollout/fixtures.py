"""A fleet's definition to work on, and this machine as one of its hosts."""

import getpass
import os
import platform
import shutil
from pathlib import Path

import pytest

from tcfs.rollout import switch as switching
from tcfs.rollout.render import this_platform
from tests.nix.support import EXAMPLE, nix_missing

HOST = platform.node().partition(".")[0]

RECORDS = """\
#!/bin/sh
printf '%s\\n' "$0" "$@" > "$RECORD"
env > "$RECORD.env"
echo "building the configuration..."
echo "warning: no lock file" >&2
printf 'activating\\r\\033[31mdone\\033[0m\\n'
ln -sfn "$GENERATION" "$PROFILE"
"""
FAILS = "#!/bin/sh\necho building\necho 'error: attribute missing' >&2\nexit 3\n"
FAILS_LATE = RECORDS + "echo 'activation failed' >&2\nexit 4\n"
HANGS = '#!/bin/sh\nsleep 1000 &\necho $! > "$RECORD"\necho building\nwait\n'
STUBBORN = (
    "#!/bin/sh\ntrap '' TERM\necho $$ > \"$RECORD\"\necho building\nwhile :; do sleep 1; done\n"
)
LEAVES_SOMETHING = '#!/bin/sh\nsleep 1000 &\necho $! > "$RECORD"\necho done\n'


class Machine:
    """This machine as one host of a fleet, managed by stand-ins."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, lab: Path) -> None:
        self.lab = lab
        self.record = folder / "record"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.profiles = folder / "nix" / "profiles"
        self.profiles.mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        monkeypatch.setenv("RECORD", str(self.record))
        monkeypatch.setenv("NIX_STATE_DIR", str(folder / "nix"))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))
        self._monkeypatch = monkeypatch
        self.host("nixos", getpass.getuser())

    def host(self, manager: str, user: str) -> None:
        """Declare this machine."""
        self.manager = manager
        settings = f'manager = "{manager}"; user = "{user}"; platform = "{this_platform()}";'
        (self.lab / "hosts" / f"{HOST}.nix").write_text(f"{{ {settings} syncRoot = null; }}")
        name = "home-manager" if manager == "home-manager" else "system"
        self.profile = self.profiles / name
        self._monkeypatch.setenv("PROFILE", str(self.profile))
        self._monkeypatch.setenv("GENERATION", f"{name}-43-link")
        self.active(42)

    def active(self, generation: int) -> None:
        """Let this generation be the active one."""
        self.profile.unlink(missing_ok=True)
        self.profile.symlink_to(f"{self.profile.name}-{generation}-link")

    def program(self, text: str) -> None:
        """Let the manager's program be this."""
        file = self.bin / switching.PROGRAMS[self.manager]
        file.write_text(text)
        file.chmod(0o755)

    def recorded(self) -> list[str]:
        return self.record.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Path) -> Machine:
    made = Machine(tmp_path, monkeypatch, lab)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made.program(RECORDS)
    return made


def gone(pid: int) -> bool:
    """Whether a process has ended; one that waits for its parent's look has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A copy of the lab fleet."""
    if nix_missing():
        pytest.skip(nix_missing())
    folder = tmp_path / "lab"
    shutil.copytree(EXAMPLE, folder)
    return folder
