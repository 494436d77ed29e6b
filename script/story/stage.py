"""What both stories stand on: devices of this machine, their commands, and what must hold."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from script.story.telling import Teller, count_text, size_text
from script.story.trees import Copied, copy_tree, differences, shown, tree_size

BIN: Final = Path(sys.executable).parent


class Failed(Exception):
    """The demo did not go as it must; the text says what is wrong, in one line or a few."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device of this machine: a name, a home, a working directory, and its tree."""

    name: str
    place: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        """The synced directory."""
        return self.place / "tree"

    def environment(self) -> dict[str, str]:
        """The user's environment without settings of the user's own tcfs."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
        kept |= {"TCFS_HOME": str(self.place / "home"), "TCFS_SYNC_EXCLUDE_PATTERNS": "[]"}
        return kept | dict(self.settings)


class Stage:
    """A directory that is empty at the beginning, and a tree as it must be in the end."""

    def __init__(self, teller: Teller, source: Path, place: Path) -> None:
        self.tell = teller
        self.source = source
        self.place = place
        self.expected = place / "expected"
        self.notes = "notes"
        """A directory that the source does not have, for what the story writes."""
        self.seconds = 0.0
        """How long the last command took."""

    def prepare(self, first: Device, others: Sequence[Device], copies: int) -> Copied:
        """Copy the source into the first device's tree, and as what is expected.

        Args:
            copies: how often the source's bytes will be on disk, at most.
        """
        source = os.fsencode(self.source)
        needed, free = copies * tree_size(source), shutil.disk_usage(self.place).free
        if needed > free:
            raise Failed(
                f"{self.place} has {size_text(free)} free, and about {size_text(needed)} are "
                "needed. Set TMPDIR to a directory with more room."
            )
        copied = copy_tree(source, os.fsencode(self.expected))
        for device in (first, *others):
            device.place.mkdir()
        copy_tree(os.fsencode(self.expected), os.fsencode(first.tree))
        while os.path.lexists(self.expected / self.notes):
            self.notes += "-demo"
        holds = [count_text(copied.files, "file"), count_text(copied.directories, "directory")]
        holds += [count_text(copied.links, "symlink")] if copied.links else []
        self.tell.fact("tree", f"a copy of {shown(source)}")
        self.tell.fact("", f"{', '.join(holds)}, {size_text(copied.size)}")
        for text in copied.omitted[:5]:
            self.tell.fact("omitted", text)
        if len(copied.omitted) > 5:
            self.tell.fact("", f"and {len(copied.omitted) - 5} more")
        return copied

    def run(
        self,
        device: Device,
        *words: str,
        code: int = 0,
        given: str | None = None,
        quiet: bool = False,
        secret: bool = False,
        most: int = 12,
    ) -> str:
        """Run a command in the device's directory and show it with what it printed.

        Args:
            code: the exit code that it must end with.
            given: its standard input.
            quiet: show nothing.
            secret: of its standard output, show the last line in part.
            most: lines of output that are shown.

        Returns:
            Its standard output.
        """
        begun = time.monotonic()
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            cwd=device.place if device.place.exists() else self.place,
            env=device.environment(),
            input=given or "",
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self.seconds = time.monotonic() - begun
        out, err = self.short(done.stdout), self.short(done.stderr)
        if done.returncode != code:
            raise Failed(
                f"{shlex.join(words)} ended with {done.returncode}, not {code}\n{err or out}"
            )
        if not quiet:
            self.tell.command(device.name, words, self.seconds)
            if secret:
                *before, last = out.splitlines()
                out = "\n".join([*before, f"{last[:24]}… ({len(last)} characters)"])
            self.tell.output(out + ("" if out.endswith("\n") else "\n") + err, most)
        return done.stdout

    def invite(self, admin: Device, *devices: Device) -> None:
        """Let devices join, each with an invite of its own."""
        for device in devices:
            code = self.run(admin, "tcfs", "device", "invite", "--expires", "10m", secret=True)
            enroll = ("device", "enroll", "--name", device.name, "--invite", "-")
            self.run(device, "tcfs", *enroll, given=code)

    def short(self, text: str) -> str:
        """A text without the temporary directory's name."""
        return text.replace(str(self.place), "…")

    def write(self, device: Device, name: str, text: str, *, expect: bool = True) -> None:
        """Write one of the story's files on a device."""
        path = device.tree / self.notes / name
        path.write_text(text + "\n", encoding="utf-8")
        path.chmod(0o644)
        if expect:
            self.expect(name, text)
            shutil.copystat(path, self.expected / self.notes / name)

    def expect(self, name: str, text: str) -> None:
        """Say what one of the story's files must be in the end."""
        path = self.expected / self.notes / name
        path.write_text(text + "\n", encoding="utf-8")
        path.chmod(0o644)

    def compare(
        self,
        *devices: Device,
        directory_times: bool = False,
        any_time: Collection[bytes] = (),
    ) -> None:
        """Compare what is expected with the first device's tree, and that with the others'.

        Raises:
            Failed: anything differs.
        """
        trees = [self.expected, *(device.tree for device in devices)]
        for one, other in ((trees[0], trees[1]), *((trees[1], tree) for tree in trees[2:])):
            found = differences(
                os.fsencode(one),
                os.fsencode(other),
                directory_times=directory_times,
                any_time=any_time if one == self.expected else (),
            )
            if found:
                lines = [self.short(line) for line in found[:10]]
                raise Failed(
                    f"{count_text(len(found), 'difference')} between {self.short(str(one))} and "
                    f"{self.short(str(other))}:\n" + "\n".join(f"  {line}" for line in lines)
                )
