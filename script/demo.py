"""The main job of tcfs, told as it happens: two devices, one store, two conflicts.

Run by ``script/demo``. It uses the installed commands as a user would, each device with a
``TCFS_HOME`` of its own below one temporary directory, and compares the trees itself: nothing of
the engine is imported here.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
METADATA: Final = b".tcfs"
LEFT_OUT: Final = frozenset((b".git", b".venv", METADATA))
"""Names that are not copied: what tcfs leaves out as well, and this checkout's environment."""
IGNORE_FILE: Final = b".tcfsignore"
CACHE_TAG: Final = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55")
BLOCK: Final = 1 << 20
SEARCHABLE: Final = 256 << 20
"""Bytes of store up to which the demo looks for plaintext in it."""
CONFLICT: Final = 10
"""Exit code of a push that met a conflict."""

PLAN = ["Plan for the week", "", "Mon  write", "Tue  review", "Wed  rest", "Thu  test", "Fri  ship"]
MOTTO = "Motto: slow is smooth."
ANNA_MOTTO = "Motto: measure twice, cut once."
BEN_MOTTO = "Motto: done is better than perfect."


class Failed(Exception):
    """The demo did not go as it must; the text says what is wrong, in one line or a few."""


# Trees


@dataclass(slots=True)
class Copied:
    """What a copy holds, and what of the original it does not."""

    files: int = 0
    links: int = 0
    directories: int = 0
    size: int = 0
    omitted: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree; ``target`` is a symlink's."""

    kind: str
    size: int
    mode: int
    mtime_ns: int
    target: bytes = b""


def shown(path: bytes) -> str:
    """A path on one line, whatever bytes it has."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _is_cache(directory: bytes) -> bool:
    name, signature = CACHE_TAG
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read(len(signature)) == signature
    except OSError:
        return False


def tree_size(source: bytes) -> int:
    """Bytes of the files that ``copy_tree`` would copy."""
    total = 0
    for directory, names, files in os.walk(source):
        names[:] = [n for n in names if n not in LEFT_OUT and not _is_cache(directory + b"/" + n)]
        for name in files:
            try:
                status = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def copy_tree(source: bytes, target: bytes) -> Copied:
    """Copy a directory: bytes, modes, times in nanoseconds, symlinks as symlinks."""
    done = Copied()
    os.mkdir(target, 0o700)
    _copy_into(source, target, b"", done)
    return done


def _copy_into(source: bytes, target: bytes, prefix: bytes, done: Copied) -> None:
    try:
        entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    except OSError as error:
        done.omitted.append(f"{shown(prefix) or '.'}: {error.strerror}")
        entries = []
    for entry in entries:
        path = prefix + entry.name
        if entry.name in LEFT_OUT or entry.name == IGNORE_FILE:
            continue
        there = os.path.join(target, entry.name)
        try:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), there)
                done.links += 1
                _copy_times(entry.path, there)
            elif entry.is_dir():
                if _is_cache(entry.path):
                    continue
                os.mkdir(there, 0o700)
                done.directories += 1
                _copy_into(entry.path, there, path + b"/", done)
            elif entry.is_file():
                shutil.copyfile(entry.path, there)
                os.chmod(there, stat.S_IMODE(os.lstat(entry.path).st_mode))
                _copy_times(entry.path, there)
                done.files += 1
                done.size += os.lstat(there).st_size
            else:
                done.omitted.append(f"{shown(path)}: neither file, directory nor symlink")
        except OSError as error:
            done.omitted.append(f"{shown(path)}: {error.strerror}")
            if os.path.lexists(there) and not os.path.isdir(there):
                os.unlink(there)
    os.chmod(target, stat.S_IMODE(os.stat(source).st_mode) | 0o700)
    _copy_times(source, target)


def _copy_times(source: bytes, target: bytes) -> None:
    mtime = os.lstat(source).st_mtime_ns
    os.utime(target, ns=(mtime, mtime), follow_symlinks=False)


def entries_of(tree: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
    """Every path below ``tree``, without the directory that tcfs keeps for itself there."""
    for found in os.scandir(os.path.join(tree, prefix)):
        path = prefix + found.name
        if path == METADATA:
            continue
        status = found.stat(follow_symlinks=False)
        mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if found.is_symlink():
            yield path, Entry("symlink", 0, 0, mtime, os.readlink(found.path))
        elif found.is_dir():
            yield path, Entry("directory", 0, mode, mtime)
            yield from entries_of(tree, path + b"/")
        else:
            kind = "file" if stat.S_ISREG(status.st_mode) else "special file"
            yield path, Entry(kind, status.st_size, mode, mtime)


def differences(
    one: bytes,
    other: bytes,
    *,
    directory_times: bool = False,
    any_time: Collection[bytes] = (),
) -> list[str]:
    """What tells two trees apart, a line each: names, kinds, bytes, modes, times, link targets.

    Args:
        directory_times: compare the times of directories as well. They change with every entry,
            and tcfs does not send such changes alone.
        any_time: paths whose time does not matter.
    """
    ours, theirs = dict(entries_of(one)), dict(entries_of(other))
    found = [f"{shown(path)}: only in {shown(one)}" for path in ours.keys() - theirs.keys()]
    found += [f"{shown(path)}: only in {shown(other)}" for path in theirs.keys() - ours.keys()]
    for path in ours.keys() & theirs.keys():
        a, b = ours[path], theirs[path]
        what = []
        if (a.kind, a.size, a.target) != (b.kind, b.size, b.target):
            what.append(f"{a.kind} of {a.size} bytes, {b.kind} of {b.size} bytes")
            if a.target != b.target:
                what.append(f"leads to {shown(a.target)}, {shown(b.target)}")
        elif a.kind == "file" and not _same_bytes(
            os.path.join(one, path), os.path.join(other, path)
        ):
            what.append("other bytes")
        if a.mode != b.mode:
            what.append(f"mode {a.mode:o}, {b.mode:o}")
        timed = path not in any_time and (directory_times or a.kind != "directory")
        if timed and a.mtime_ns != b.mtime_ns:
            what.append(f"mtime {a.mtime_ns} ns, {b.mtime_ns} ns")
        found += [f"{shown(path)}: {text}" for text in what]
    return sorted(found)


def _same_bytes(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as ours, open(other, "rb") as theirs:
        while True:
            mine = ours.read(BLOCK)
            if mine != theirs.read(BLOCK):
                return False
            if not mine:
                return True


def objects_with(store: bytes, text: bytes) -> tuple[int, int]:
    """How many objects a store holds, and how many have ``text`` in them, name or bytes."""
    objects = found = 0
    for path, entry in entries_of(store):
        if entry.kind == "file":
            objects += 1
            with open(os.path.join(store, path), "rb") as file:
                found += text in path or text in file.read()
    return objects, found


def remove_tree(path: bytes) -> None:
    """Remove everything, also from directories that may not be written to."""
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path)


# Telling


def size_text(size: float) -> str:
    """``512 B``, ``1.5 KiB``, ``3.0 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count_text(number: int, noun: str) -> str:
    """``1 file``, ``2 files``, ``2 directories``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


class Teller:
    """Writes the story to standard output; colours only where a terminal shows them."""

    def __init__(self) -> None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") == "dumb"
        self._colours = sys.stdout.isatty() and not plain
        self._width = max(60, min(shutil.get_terminal_size((88, 24)).columns, 96))
        self._step = 0

    def paint(self, code: str, text: str) -> str:
        """The text in a colour, where there are colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and text else text

    def line(self, text: str = "") -> None:
        """One line, at once: whoever watches should see it happen."""
        print(text, flush=True)

    def title(self, text: str) -> None:
        """What all of it is about."""
        self.line(self.paint("1", text))
        self.line()

    def fact(self, name: str, text: str) -> None:
        """A name and what is to be known of it."""
        self.line(f"  {self.paint('2', f'{name:<8}')} {text}")

    def step(self, text: str) -> None:
        """The next chapter."""
        self._step += 1
        self.line()
        self.line(self.paint("1;36", f"{self._step:>2}  {text}"))

    def say(self, text: str) -> None:
        """What it means."""
        for line in textwrap.wrap(text, self._width - 4, break_on_hyphens=False):
            self.line(f"    {line}")

    def command(self, device: str, words: Sequence[str], seconds: float) -> None:
        """A command as a user would type it, and how long it took."""
        typed = f"{device}$ {shlex.join(words)}"
        took = f"{seconds:.1f} s"
        room = max(self._width - 4 - len(typed) - len(took), 2)
        self.line(f"    {self.paint('1', typed)}{' ' * room}{self.paint('2', took)}")

    def output(self, text: str, most: int = 12) -> None:
        """What it printed; of many lines the first."""
        lines = [line for line in text.splitlines() if line.strip()]
        for line in lines[:most]:
            cut = line if len(line) <= self._width - 6 else line[: self._width - 7] + "…"
            self.line(f"      {self.paint('2', cut)}")
        if len(lines) > most:
            self.line(f"      {self.paint('2', f'… and {len(lines) - most} more lines')}")

    def good(self, text: str) -> None:
        """Something was checked, and holds."""
        first, *rest = textwrap.wrap(text, self._width - 8, break_on_hyphens=False)
        self.line(f"    {self.paint('32', 'ok')}  {first}")
        for line in rest:
            self.line(f"        {line}")

    def end(self, seconds: float) -> None:
        """All is well."""
        self.line()
        done = self.paint("1;32", "All three trees are the same.")
        self.line(f"{done} It took {seconds:.0f} s, and nothing is left of it but this text.")

    def bad(self, text: str) -> None:
        """Why all of it failed."""
        self.line()
        self.line(self.paint("1;31", f"FAILED: {text}"))


# Doing


@dataclass(frozen=True, slots=True)
class Device:
    """One device of this machine: a name, a home, a working directory, and its tree."""

    name: str
    place: Path
    remote: str = ""

    @property
    def tree(self) -> Path:
        """The synced directory."""
        return self.place / "tree"

    def environment(self) -> dict[str, str]:
        """The user's environment without settings of the user's own tcfs."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
        kept |= {"TCFS_HOME": str(self.place / "home"), "TCFS_SYNC_EXCLUDE_PATTERNS": "[]"}
        return kept | ({"TCFS_REMOTE": self.remote} if self.remote else {})


class Demo:
    """The story, in a directory that is empty at its beginning."""

    def __init__(self, teller: Teller, source: Path, place: Path) -> None:
        self._tell = teller
        self._source = source
        self._place = place
        self._store = place / "store"
        self._expected = place / "expected"
        self.anna = Device("anna", place / "anna", self._store.as_uri())
        self.ben = Device("ben", place / "ben")
        self._notes = "notes"

    def run(self) -> None:
        """Tell all of it.

        Raises:
            Failed: something differs, or a command ended as it must not.
        """
        copied = self._prepare()
        self._first_device(copied)
        self._second_device(copied)
        self._every_day()
        self._conflicts()
        self._assistant()
        self._checks()

    # Steps

    def _prepare(self) -> Copied:
        tell = self._tell
        tell.title(f"tcfs {version('tcfs')}: two devices, one store")
        needed = 5 * tree_size(os.fsencode(self._source))
        free = shutil.disk_usage(self._place).free
        if needed > free:
            raise Failed(
                f"{self._place} has {size_text(free)} free, and about {size_text(needed)} are "
                "needed. Set TMPDIR to a directory with more room."
            )
        copied = copy_tree(os.fsencode(self._source), os.fsencode(self._expected))
        for device in (self.anna, self.ben):
            device.place.mkdir()
        copy_tree(os.fsencode(self._expected), os.fsencode(self.anna.tree))
        holds = [count_text(copied.files, "file"), count_text(copied.directories, "directory")]
        holds += [count_text(copied.links, "symlink")] if copied.links else []
        tell.fact("tree", f"a copy of {shown(os.fsencode(self._source))}")
        tell.fact("", f"{', '.join(holds)}, {size_text(copied.size)}")
        tell.fact("devices", "anna and ben, on this machine, each with a TCFS_HOME of its own")
        tell.fact("store", "a directory; an object store would be used in the same way")
        tell.fact("…", f"stands for {self._place}")
        for text in copied.omitted[:5]:
            tell.fact("omitted", text)
        if len(copied.omitted) > 5:
            tell.fact("", f"and {len(copied.omitted) - 5} more")
        return copied

    def _first_device(self, copied: Copied) -> None:
        tell = self._tell
        tell.step("Anna starts a fleet and sends her tree")
        self._run(self.anna, "tcfs", "init", "--name", "anna")
        tell.say(
            "A repository, this device's keys, and a recovery phrase of 24 words, which is shown "
            "to a person at a terminal only."
        )
        self._run(self.anna, "tcfs", "push", "tree", "--as", "tree")
        stored = tree_size(os.fsencode(self._store))
        ratio = f", {100 * stored / copied.size:.0f}\u00a0% of the tree" if copied.size else ""
        tell.say(
            f"Cut into chunks, compressed, encrypted and signed here; the store holds "
            f"{size_text(stored)}{ratio}."
        )
        self._run(self.anna, "tcfs", "push", "tree")
        tell.say("Nothing changed: no file is read again, and nothing is written to the store.")

    def _second_device(self, copied: Copied) -> None:
        tell = self._tell
        tell.step("Ben joins with an invite and pulls")
        code = self._run(self.anna, "tcfs", "device", "invite", "--expires", "10m", secret=True)
        tell.say("The code works once, for ten minutes. Nobody needs to be online when it is used.")
        self._run(
            self.ben, "tcfs", "device", "enroll", "--name", "ben", "--invite", "-", given=code
        )
        self._run(self.ben, "tcfs", "pull", "tree", "tree")
        self._compare(directory_times=True)
        tell.good(
            f"{count_text(copied.files, 'file')}: bytes, modes, times to the nanosecond and links "
            "are equal in the copy, Anna's tree and Ben's"
        )

    def _every_day(self) -> None:
        tell = self._tell
        while os.path.lexists(self.anna.tree / self._notes):
            self._notes += "-demo"
        notes = self._notes
        tell.step("Changes travel: a new directory, then a move and a deletion")
        tell.say(f"Anna writes {notes}/plan.txt, {notes}/motto.txt and {notes}/draft.txt.")
        for tree in (self.anna.tree, self._expected):
            (tree / notes).mkdir()
            (tree / notes).chmod(0o755)
        for name, text in (("plan", "\n".join(PLAN)), ("motto", MOTTO), ("draft", "scribble " * 9)):
            self._write(self.anna, f"{name}.txt", text)
        self._run(self.anna, "tcfs", "push", "tree")
        self._run(self.ben, "tcfs", "pull", "tree")
        tell.say(f"Ben files the draft away as {notes}/old/draft.txt and sends that.")
        for tree in (self.ben.tree, self._expected):
            (tree / notes / "old").mkdir()
            (tree / notes / "old").chmod(0o755)
        self._move(self.ben.tree / notes)
        self._move(self._expected / notes)
        self._run(self.ben, "tcfs", "push", "tree", "--dry-run")
        tell.say("A plan first: --plan HASH would do exactly this, or refuse if anything changed.")
        self._run(self.ben, "tcfs", "push", "tree")
        self._run(self.anna, "tcfs", "pull", "tree")
        self._compare()
        tell.good("equal again; the move sent no content")

    def _conflicts(self) -> None:
        tell = self._tell
        notes = self._notes
        plan, motto = f"tree/{notes}/plan.txt", f"tree/{notes}/motto.txt"
        tell.step("Both edit the same two files without knowing of each other")
        ours, theirs = list(PLAN), list(PLAN)
        ours[2], theirs[6] = "Mon  write, with tea", "Fri  ship, with cake"
        self._write(self.anna, "plan.txt", "\n".join(ours), expect=False)
        self._write(self.anna, "motto.txt", ANNA_MOTTO, expect=False)
        self._write(self.ben, "plan.txt", "\n".join(theirs), expect=False)
        self._write(self.ben, "motto.txt", BEN_MOTTO, expect=False)
        tell.say("In plan.txt they change different lines, in motto.txt the same one.")
        self._run(self.anna, "tcfs", "push", "tree")
        self._run(self.ben, "tcfs", "push", "tree", code=CONFLICT)
        tell.say(
            f"Found: Ben had not seen Anna's versions. His are stored beside hers, nothing is "
            f"overwritten, and exit code {CONFLICT} tells scripts."
        )
        tell.step("The conflicts are shown and settled")
        self._run(self.ben, "tcfs", "conflicts")
        self._run(self.ben, "tcfs", "resolve-conflict", plan, "--merge")
        both = list(PLAN)
        both[2], both[6] = ours[2], theirs[6]
        self._expect("plan.txt", "\n".join(both))
        merged = (self.ben.tree / notes / "plan.txt").read_text()
        tell.output("\n".join(f"| {line}" for line in merged.splitlines() if line))
        tell.say("A three-way merge against the version both began with: both edits are in it.")
        self._run(self.ben, "tcfs", "resolve-conflict", motto, "--merge", code=CONFLICT)
        tell.say("Refused, with the reason: no program can know which motto is meant. Keep both:")
        self._run(self.ben, "tcfs", "resolve-conflict", motto, "--keep-both")
        self._expect("motto.txt", ANNA_MOTTO)
        self._expect("motto.conflict-ben.txt", BEN_MOTTO)
        self._run(self.anna, "tcfs", "pull", "tree")
        self._run(self.anna, "tcfs", "why", motto)
        tell.say("Every version stays in the signed history: tcfs restore brings any of them back.")

    def _assistant(self) -> None:
        tell = self._tell
        call = ["tcfs-mcp", "call", "device_status"]
        tell.step("The door for assistants and scripts")
        answer = json.loads(self._run(self.anna, *call, quiet=True))
        device = answer["device"]
        rest = {"fleet": [d["name"] for d in answer["fleet"]], "conflicts": device["conflicts"]}
        tell.command(self.anna.name, call, self._seconds)
        tell.output(
            json.dumps({"device": device["device_name"], **rest, "…": "…"}, ensure_ascii=False)
        )
        tell.say(
            "The tools that tcfs-mcp serve offers over MCP, in a shell: JSON out, the same exit "
            "codes. This is a part of the answer."
        )

    def _checks(self) -> None:
        tell = self._tell
        tell.step("Everything is checked")
        self._run(self.ben, "tcfs", "verify", "--read-data", "--local")
        tell.say(
            "Every signature, every hash chain, every chunk in the store, every file of Ben's."
        )
        if tree_size(os.fsencode(self._store)) <= SEARCHABLE:
            word = ANNA_MOTTO.encode()
            objects, found = objects_with(os.fsencode(self._store), word)
            if found:
                raise Failed(f"{found} objects of the store hold the plaintext {word!r}")
            tell.good(
                f"in none of the store's {objects} objects stands Anna's motto: all is sealed"
            )
        resolved = {f"{self._notes}/{name}".encode() for name in ("plan.txt", "motto.txt")}
        self._compare(any_time=resolved | {f"{self._notes}/motto.conflict-ben.txt".encode()})
        tell.good("Anna's tree, Ben's, and what they must be now are the same, byte for byte")

    # Helpers

    def _run(
        self,
        device: Device,
        *words: str,
        code: int = 0,
        given: str | None = None,
        quiet: bool = False,
        secret: bool = False,
    ) -> str:
        """Run a command in the device's directory and show it with what it printed.

        Args:
            code: the exit code that it must end with.
            given: its standard input.
            quiet: show nothing.
            secret: of its standard output, show the last line in part.

        Returns:
            Its standard output.
        """
        begun = time.monotonic()
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            cwd=device.place if device.place.exists() else self._place,
            env=device.environment(),
            input=given or "",
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._seconds = time.monotonic() - begun
        out, err = self._short(done.stdout), self._short(done.stderr)
        if done.returncode != code:
            raise Failed(
                f"{shlex.join(words)} ended with {done.returncode}, not {code}\n{err or out}"
            )
        if not quiet:
            self._tell.command(device.name, words, self._seconds)
            if secret:
                *before, last = out.splitlines()
                out = "\n".join([*before, f"{last[:24]}… ({len(last)} characters)"])
            self._tell.output(out + ("" if out.endswith("\n") else "\n") + err)
        return done.stdout

    def _short(self, text: str) -> str:
        return text.replace(str(self._place), "…")

    def _write(self, device: Device, name: str, text: str, *, expect: bool = True) -> None:
        path = device.tree / self._notes / name
        path.write_text(text + "\n", encoding="utf-8")
        path.chmod(0o644)
        if expect:
            self._expect(name, text)
            shutil.copystat(path, self._expected / self._notes / name)

    def _expect(self, name: str, text: str) -> None:
        path = self._expected / self._notes / name
        path.write_text(text + "\n", encoding="utf-8")
        path.chmod(0o644)

    def _move(self, notes: Path) -> None:
        (notes / "draft.txt").rename(notes / "old" / "draft.txt")

    def _compare(self, *, directory_times: bool = False, any_time: Collection[bytes] = ()) -> None:
        for one, other in ((self._expected, self.anna.tree), (self.anna.tree, self.ben.tree)):
            found = differences(
                os.fsencode(one),
                os.fsencode(other),
                directory_times=directory_times,
                any_time=any_time if one == self._expected else (),
            )
            if found:
                lines = [self._short(line) for line in found[:10]]
                raise Failed(
                    f"{count_text(len(found), 'difference')} between {self._short(str(one))} and "
                    f"{self._short(str(other))}:\n" + "\n".join(f"  {line}" for line in lines)
                )


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="script/demo",
        description="Show what tcfs does, with two devices and one store, on a copy of DIR.",
    )
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", default=str(ROOT), help="default: this checkout"
    )
    source = Path(parser.parse_args(arguments).dir).resolve()
    if not source.is_dir():
        parser.error(f"not a directory: {shown(os.fsencode(source))}")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _end)
    teller = Teller()
    started = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="tcfs-demo-"))
    try:
        Demo(teller, source, place).run()
    except Failed as failure:
        teller.bad(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        remove_tree(os.fsencode(place))
    teller.end(time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
