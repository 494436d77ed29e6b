"""What a person at a terminal meets: questions, the recovery phrase, progress, Ctrl-C."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.fake import PHRASE
from tests.cli.person import Person

WORDS = PHRASE.split()


def _asked(person: Person) -> str:
    """The word that the prompt wants."""
    person.reads("Word ")
    number = person.reads(": ").removesuffix(": ")
    return WORDS[int(number) - 1]


def test_init_shows_the_phrase_takes_it_away_and_confirms_it_word_by_word(tmp_path: Path):
    person = Person("init", "--name", "yoga", home=tmp_path / "h", scenario="absent")
    shown = person.reads("Press Enter")
    assert sorted(re.findall(r"word\d\d", shown)) == WORDS
    person.types("")
    person.reads("A\x1b[J")
    for _ in range(3):
        person.types(_asked(person))
    person.reads("Confirmed.")
    assert person.leaves() == 0
    assert ["confirm_phrase", [PHRASE]] in person.record["calls"]
    assert person.record["joined"] == [["init", {"name": "yoga", "encryption": None}]]


def test_a_wrong_word_is_asked_again_and_three_wrong_ones_confirm_nothing(tmp_path: Path):
    person = Person("init", home=tmp_path / "h", scenario="absent")
    person.reads("Press Enter")
    person.types("")
    for left in ("2", "1"):
        person.reads("Word ")
        person.types("wrong")
        person.reads(f"Tries left: {left}")
    person.types("wrong")
    person.reads("Not confirmed")
    assert person.leaves() == 0
    assert "confirm_phrase" not in [name for name, _ in person.record["calls"]]


def test_the_phrase_goes_to_the_screen_even_where_output_goes_to_a_file(tmp_path: Path):
    out = tmp_path / "out"
    person = Person("init", "--show-phrase", home=tmp_path / "h", out=out)
    person.reads("word24")
    person.types("\x04")
    person.reads("Not confirmed")
    assert person.leaves() == 0
    assert "word" not in out.read_text()


def test_recovery_reads_the_phrase_without_echo(tmp_path: Path):
    person = Person("init", "--recover", home=tmp_path / "h", scenario="absent")
    person.reads("not shown): ")
    person.types(f"  {PHRASE.upper()}  ")
    person.reads("repository")
    assert person.leaves() == 0
    assert "word" not in person.screen.lower().replace("recovery phrase (24 words", "")
    assert person.record["joined"] == [["recover", {"phrase": PHRASE, "name": ""}]]


def test_enroll_without_a_code_asks_for_it_without_echo(tmp_path: Path):
    person = Person("device", "enroll", "--name", "bates", home=tmp_path / "h")
    person.reads("not shown): ")
    person.types("SECRET-CODE")
    person.reads("repository")
    assert person.leaves() == 0
    assert "SECRET" not in person.screen
    expected = {
        "name": "bates",
        "invite": "",
        "passphrase": "SECRET-CODE",
        "new_identity": False,
    }
    assert person.record["joined"] == [["enroll", expected]]


def test_interactive_pull_asks_about_each_conflict_and_skipped_ones_stand(tmp_path: Path):
    person = Person("pull", "--mode", "interactive", home=tmp_path / "h", scenario="conflicting")
    shown = person.reads("[s]kip? ")
    assert "ours" in shown
    assert "+zero" in shown
    person.types("nonsense")
    person.reads("[s]kip? ")
    person.types("m")
    person.reads("[s]kip? ")
    person.types("s")
    person.reads("1 conflict stands")
    assert person.leaves() == 10
    resolved = [args for name, args in person.record["calls"] if name == "resolve"]
    assert resolved == [["a.txt", "merge"], ["b.txt", "defer"]]


def test_resolve_conflict_without_a_choice_shows_both_sides_and_asks(tmp_path: Path):
    person = Person("resolve-conflict", "docs/a.txt", home=tmp_path / "h")
    assert "base" in person.reads("[s]kip? ")
    person.types("l")
    person.reads("keep local")
    assert person.leaves() == 0
    assert ["resolve", ["docs/a.txt", "keep_local"]] in person.record["calls"]


@pytest.mark.parametrize(("answer", "code", "pushes"), [("y", 0, 2), ("", 19, 1)])
def test_deleting_much_asks_first(tmp_path: Path, answer: str, code: int, pushes: int):
    person = Person("push", home=tmp_path / "h", scenario="deleting")
    person.reads("40 of 50 paths")
    person.reads("[y/N] ")
    person.types(answer)
    assert person.leaves() == code
    assert person.record["plans"] == ["", "f" * 64][:pushes]


def test_who_admits_a_device_is_shown_its_fingerprint_and_asked(tmp_path: Path):
    shown = "0011 2233 4455 6677 8899 aabb ccdd eeff"
    for answer, code, admitted in (("n", 22, []), ("y", 0, [["access.admit", [shown]]])):
        person = Person("device", "admit", "bates", home=tmp_path / "h")
        assert shown in person.reads("[y/N] ")
        person.types(answer)
        assert person.leaves() == code
        assert [call for call in person.record["calls"] if call[0] == "access.admit"] == admitted


def test_interrupting_stops_cleanly_with_the_code_of_an_interrupt(tmp_path: Path):
    person = Person("push", home=tmp_path / "h", scenario="endless")
    person.reads("pushing")
    person.types("\x03")
    person.reads("what is done is kept")
    person.reads("error: \x1b[0mthe push was stopped")
    assert person.leaves() == 130


def test_interrupting_a_question_ends_the_command_at_once(tmp_path: Path):
    person = Person("resolve-conflict", "docs/a.txt", home=tmp_path / "h")
    person.reads("[s]kip? ")
    person.types("\x03")
    assert person.leaves() == 130
    assert "Traceback" not in person.screen


def test_progress_shows_at_a_terminal_and_file_names_cannot_steer_it(tmp_path: Path):
    person = Person("push", home=tmp_path / "h", scenario="slow")
    assert person.leaves() == 0
    assert "committing" in person.screen
    assert "hash\\u001b[2Jing" in person.screen
    assert "\x1b[2J" not in person.screen
    assert "\x1b]0;" not in person.screen


def test_colours_at_a_terminal_and_none_where_they_are_not_wanted(tmp_path: Path):
    def screen(*argv: str, **environ: str) -> str:
        person = Person("device", "list", *argv, home=tmp_path / "h", environ=environ)
        assert person.leaves() == 0
        return person.screen

    assert "\x1b[31mrevoked" in screen()
    assert "\x1b" not in screen("--no-color")
    assert "\x1b" not in screen(NO_COLOR="1")
    assert "\x1b" not in screen(TERM="dumb")
