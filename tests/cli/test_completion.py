"""Shell completion: what the scripts offer, and that names from the store are never run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tcfs.errors import RepositoryError
from tests.cli.conftest import Shell

BASH = shutil.which("bash")


def _complete(script: str, tmp_path: Path, *words: str, candidates: str = "") -> list[str]:
    """What bash offers for the last of the words; ``tcfs`` is a stand-in that prints candidates."""
    (tmp_path / "candidates").write_text(candidates)
    tool = tmp_path / "tcfs"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/candidates\n')
    tool.chmod(0o755)
    program = f"""
PATH={tmp_path}:$PATH
{script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
_tcfs
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [str(BASH), "--norc", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    return done.stdout.splitlines()


@pytest.fixture
def script(tcfs: Shell) -> str:
    return tcfs("completion", "bash").out


pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")


def test_bash_completes_commands_options_and_choices(script: str, tmp_path: Path):
    assert _complete(script, tmp_path, "tcfs", "pu") == ["push", "pull"]
    assert "invite" in _complete(script, tmp_path, "tcfs", "device", "")
    assert _complete(script, tmp_path, "tcfs", "pull", "--dr") == ["--dry-run"]
    assert _complete(script, tmp_path, "tcfs", "pull", "--mode", "i") == ["interactive"]
    assert _complete(script, tmp_path, "tcfs", "--json", "completion", "z") == ["zsh"]


def test_bash_completes_local_files_and_asks_for_remote_ones(script: str, tmp_path: Path):
    (tmp_path / "notes").mkdir()
    assert _complete(script, tmp_path, "tcfs", "push", "no") == ["notes"]
    assert not (tmp_path / "asked").exists()
    offered = _complete(script, tmp_path, "tcfs", "why", "do", candidates="docs/\ndocs/a b.txt\n")
    assert offered == ["docs/", "docs/a b.txt"]
    assert (tmp_path / "asked").read_text() == "__complete remote -- do\n"
    _complete(script, tmp_path, "tcfs", "device", "revoke", "")
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "__complete device -- "


def test_bash_does_not_run_what_a_name_says(script: str, tmp_path: Path):
    evil = "$(touch run1)\n`touch run2`\na;touch run3\n*\n"
    assert _complete(script, tmp_path, "tcfs", "log", "", candidates=evil) == evil.splitlines()
    assert not list(tmp_path.glob("run*"))


def test_candidates_are_one_a_line_and_unprintable_ones_left_out(tcfs: Shell):
    tcfs.answers(complete_paths=["docs/", "bad\nname", "esc\x1b[2J", "docs/a.txt"])
    done = tcfs("__complete", "remote", "--", "do")
    assert (done.code, done.out, done.err) == (0, "docs/\ndocs/a.txt\n", "")
    assert tcfs.fleet.called("complete_paths") == [(("do", 50), {})]
    assert tcfs("__complete", "device", "--", "ba").out == "bates\n"


def test_completion_fails_in_silence(tcfs: Shell):
    tcfs.answers(complete_paths=RepositoryError("gone"))
    done = tcfs("__complete", "remote", "--", "x")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_every_script(tcfs: Shell, shell: str):
    text = tcfs("completion", shell).out
    for word in ("resolve-conflict", "rebuild-index", "invite", "max-delete", "interactive"):
        assert word in text
    program = shutil.which(shell)
    if program:
        option = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([program, option], input=text, text=True, check=True)
