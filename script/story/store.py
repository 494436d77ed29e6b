"""The main job of tcfs: two devices, one store in a directory, two conflicts."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

from script.story.stage import Device, Failed, Stage
from script.story.telling import Teller, count_text, size_text
from script.story.trees import Copied, objects_with, tree_size

SEARCHABLE: Final = 256 << 20
"""Bytes of store up to which the demo looks for plaintext in it."""
CONFLICT: Final = 10
"""Exit code of a push that met a conflict."""

PLAN = ["Plan for the week", "", "Mon  write", "Tue  review", "Wed  rest", "Thu  test", "Fri  ship"]
MOTTO = "Motto: slow is smooth."
ANNA_MOTTO = "Motto: measure twice, cut once."
BEN_MOTTO = "Motto: done is better than perfect."


class StoreStory(Stage):
    """Two devices push and pull by hand."""

    trees = "three"

    def __init__(self, teller: Teller, source: Path, place: Path) -> None:
        super().__init__(teller, source, place)
        self.store = place / "store"
        self.anna = Device("anna", place / "anna", {"TCFS_REMOTE": self.store.as_uri()})
        self.ben = Device("ben", place / "ben")

    def play(self) -> None:
        """Tell all of it.

        Raises:
            Failed: something differs, or a command ended as it must not.
        """
        self.tell.title(f"tcfs {version('tcfs')}: two devices, one store")
        copied = self.prepare(self.anna, [self.ben], copies=5)
        self.tell.fact("devices", "anna and ben, on this machine, each with its own TCFS_HOME")
        self.tell.fact("store", "a directory; an object store would be used in the same way")
        self.tell.fact("…", f"stands for {self.place}")
        self._first_device(copied)
        self._second_device(copied)
        self._every_day()
        self._conflicts()
        self._assistant()
        self._checks()

    def close(self) -> None:
        """Nothing of this story runs on."""

    def _first_device(self, copied: Copied) -> None:
        tell = self.tell
        tell.step("Anna starts a fleet and sends her tree")
        self.run(self.anna, "tcfs", "init", "--name", "anna")
        tell.say(
            "A repository, this device's keys, and a recovery phrase of 24 words, which is shown "
            "to a person at a terminal only."
        )
        self.run(self.anna, "tcfs", "push", "tree", "--as", "tree")
        stored = tree_size(os.fsencode(self.store))
        ratio = f", {100 * stored / copied.size:.0f}\u00a0% of the tree" if copied.size else ""
        tell.say(
            f"Cut into chunks, compressed, encrypted and signed here; the store holds "
            f"{size_text(stored)}{ratio}."
        )
        self.run(self.anna, "tcfs", "push", "tree")
        tell.say("Nothing changed: no file is read again, and nothing is written to the store.")

    def _second_device(self, copied: Copied) -> None:
        tell = self.tell
        tell.step("Ben joins with an invite and pulls")
        self.invite(self.anna, self.ben)
        tell.say("The code works once, for ten minutes. Nobody needs to be online when it is used.")
        self.run(self.ben, "tcfs", "pull", "tree", "tree")
        self.compare(self.anna, self.ben, directory_times=True)
        tell.good(
            f"{count_text(copied.files, 'file')}: bytes, modes, times to the nanosecond and links "
            "are equal in the copy, Anna's tree and Ben's"
        )

    def _every_day(self) -> None:
        tell = self.tell
        notes = self.notes
        tell.step("Changes travel: a new directory, then a move and a deletion")
        tell.say(f"Anna writes {notes}/plan.txt, {notes}/motto.txt and {notes}/draft.txt.")
        for tree in (self.anna.tree, self.expected):
            (tree / notes).mkdir()
            (tree / notes).chmod(0o755)
        for name, text in (("plan", "\n".join(PLAN)), ("motto", MOTTO), ("draft", "scribble " * 9)):
            self.write(self.anna, f"{name}.txt", text)
        self.run(self.anna, "tcfs", "push", "tree")
        self.run(self.ben, "tcfs", "pull", "tree")
        tell.say(f"Ben files the draft away as {notes}/old/draft.txt and sends that.")
        for tree in (self.ben.tree, self.expected):
            (tree / notes / "old").mkdir()
            (tree / notes / "old").chmod(0o755)
        for tree in (self.ben.tree, self.expected):
            (tree / notes / "draft.txt").rename(tree / notes / "old" / "draft.txt")
        self.run(self.ben, "tcfs", "push", "tree", "--dry-run")
        tell.say("A plan first: --plan HASH would do exactly this, or refuse if anything changed.")
        self.run(self.ben, "tcfs", "push", "tree")
        self.run(self.anna, "tcfs", "pull", "tree")
        self.compare(self.anna, self.ben)
        tell.good("equal again; the move sent no content")

    def _conflicts(self) -> None:
        tell = self.tell
        notes = self.notes
        plan, motto = f"tree/{notes}/plan.txt", f"tree/{notes}/motto.txt"
        tell.step("Both edit the same two files without knowing of each other")
        ours, theirs = list(PLAN), list(PLAN)
        ours[2], theirs[6] = "Mon  write, with tea", "Fri  ship, with cake"
        self.write(self.anna, "plan.txt", "\n".join(ours), expect=False)
        self.write(self.anna, "motto.txt", ANNA_MOTTO, expect=False)
        self.write(self.ben, "plan.txt", "\n".join(theirs), expect=False)
        self.write(self.ben, "motto.txt", BEN_MOTTO, expect=False)
        tell.say("In plan.txt they change different lines, in motto.txt the same one.")
        self.run(self.anna, "tcfs", "push", "tree")
        self.run(self.ben, "tcfs", "push", "tree", code=CONFLICT)
        tell.say(
            f"Found: Ben had not seen Anna's versions. His are stored beside hers, nothing is "
            f"overwritten, and exit code {CONFLICT} tells scripts."
        )
        tell.step("The conflicts are shown and settled")
        self.run(self.ben, "tcfs", "conflicts")
        self.run(self.ben, "tcfs", "resolve-conflict", plan, "--merge")
        both = list(PLAN)
        both[2], both[6] = ours[2], theirs[6]
        self.expect("plan.txt", "\n".join(both))
        merged = (self.ben.tree / notes / "plan.txt").read_text()
        tell.output("\n".join(f"| {line}" for line in merged.splitlines() if line))
        tell.say("A three-way merge against the version both began with: both edits are in it.")
        self.run(self.ben, "tcfs", "resolve-conflict", motto, "--merge", code=CONFLICT)
        tell.say("Refused, with the reason: no program can know which motto is meant. Keep both:")
        self.run(self.ben, "tcfs", "resolve-conflict", motto, "--keep-both")
        self.expect("motto.txt", ANNA_MOTTO)
        self.expect("motto.conflict-ben.txt", BEN_MOTTO)
        self.run(self.anna, "tcfs", "pull", "tree")
        self.run(self.anna, "tcfs", "why", motto)
        tell.say("Every version stays in the signed history: tcfs restore brings any of them back.")

    def _assistant(self) -> None:
        tell = self.tell
        call = ["tcfs-mcp", "call", "device_status"]
        tell.step("The door for assistants and scripts")
        answer = json.loads(self.run(self.anna, *call, quiet=True))
        device = answer["device"]
        rest = {"fleet": [d["name"] for d in answer["fleet"]], "conflicts": device["conflicts"]}
        tell.command(self.anna.name, call, self.seconds)
        tell.output(
            json.dumps({"device": device["device_name"], **rest, "…": "…"}, ensure_ascii=False)
        )
        tell.say(
            "The tools that tcfs-mcp serve offers over MCP, in a shell: JSON out, the same exit "
            "codes. This is a part of the answer."
        )

    def _checks(self) -> None:
        tell = self.tell
        tell.step("Everything is checked")
        self.run(self.ben, "tcfs", "verify", "--read-data", "--local")
        tell.say(
            "Every signature, every hash chain, every chunk in the store, every file of Ben's."
        )
        if tree_size(os.fsencode(self.store)) <= SEARCHABLE:
            word = ANNA_MOTTO.encode()
            objects, found = objects_with(os.fsencode(self.store), word)
            if found:
                raise Failed(f"{found} objects of the store hold the plaintext {word!r}")
            tell.good(
                f"in none of the store's {objects} objects stands Anna's motto: all is sealed"
            )
        names = ("plan.txt", "motto.txt", "motto.conflict-ben.txt")
        resolved = {f"{self.notes}/{name}".encode() for name in names}
        self.compare(self.anna, self.ben, any_time=resolved)
        tell.good("Anna's tree, Ben's, and what they must be now are the same, byte for byte")
