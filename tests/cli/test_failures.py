"""Exit codes and messages when something goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcfs import errors
from tcfs.cli.outcome import codes
from tcfs.store.base import ObjectMissing
from tcfs.sync import results as r
from tests.cli import fake
from tests.cli.conftest import Shell

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("cls", errors.TcfsError.__subclasses__(), ids=lambda cls: cls.__name__)
def test_every_error_class_has_its_exit_code_a_message_and_a_remedy(tcfs: Shell, cls):
    tcfs.answers(status=cls("it went wrong"))
    done = tcfs("status")
    assert done.code == cls.exit_code
    assert done.out == ""
    assert done.err.startswith("error: it went wrong\n  try: ")
    found = tcfs("status", "--json")
    assert found.code == cls.exit_code
    assert found.json["error"]["code"] == cls.code
    assert found.err == ""


def test_subclasses_share_the_exit_code_of_their_class():
    assert codes()[ObjectMissing.code] == errors.StoreError.exit_code
    assert errors.exit_codes().items() - {("ok", 0)} <= codes().items()


def test_standing_conflicts_exit_10_after_the_result(tcfs: Shell):
    tcfs.answers(push=fake.done(conflicts=(fake.conflict(),)))
    done = tcfs("push")
    assert done.code == 10
    assert "conflict  docs/a.txt" in done.out
    assert "1 conflict stands" in done.err
    found = tcfs("push", "--json")
    assert (found.code, found.err) == (10, "")
    assert found.json["conflicts"][0]["path"] == "docs/a.txt"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (["local"], 14),
        (["local", "integrity"], 11),
        ([ObjectMissing.code], 13),
        (["something new"], 1),
    ],
)
def test_problems_exit_with_their_class_before_conflicts(tcfs: Shell, found: list[str], code: int):
    problems = tuple(r.Problem(f"p{n}", kind, "no", "mend it") for n, kind in enumerate(found))
    tcfs.answers(push=fake.done(problems=problems, conflicts=(fake.conflict(),)))
    done = tcfs("push")
    assert done.code == code
    assert done.err.count("try: mend it") == 1
    assert "p0: no" in done.err


def test_interactive_mode_without_a_person_leaves_conflicts_standing(tcfs: Shell):
    tcfs.answers(pull=fake.done(conflicts=(fake.conflict(),)))
    assert tcfs("pull", "--mode", "interactive").code == 10
    assert not tcfs.fleet.called("resolve")


def test_too_many_deletions_need_a_yes_that_a_script_gives_beforehand(tcfs: Shell):
    tcfs.answers(push=fake.within_share)
    done = tcfs("push")
    assert done.code == 19
    assert "say --yes" in done.err
    assert tcfs("push", "--yes").code == 0


def test_a_limit_given_on_the_command_line_keeps_its_own_remedy(tcfs: Shell):
    tcfs.answers(push=errors.LimitError("too much", remedy="Raise it."))
    assert "Raise it." in tcfs("push", "--max-bytes", "1k").err


def test_failed_verification_exits_with_the_class_of_its_problems(tcfs: Shell):
    problems = (r.Problem("packs/aa", "integrity", "bit flipped"),)
    tcfs.answers(verify=r.VerifyReport(False, 1, 1, 9, 0, problems, 5))
    done = tcfs("verify", "--read-data")
    assert done.code == 11
    assert done.out.startswith("5 problems")
    assert "and 4 more problems" in done.err


def test_surprises_exit_1_without_their_message_which_may_hold_a_secret(tcfs: Shell):
    tcfs.answers(status=KeyError("hunter2"))
    done = tcfs("status")
    assert done.code == 1
    assert "unexpected KeyError" in done.err
    assert "hunter2" not in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in tcfs("status", "--verbose").err


def test_system_errors_are_local_errors_with_the_files_name(tcfs: Shell):
    tcfs.answers(status=OSError(28, "No space left on device", "/data/x"))
    done = tcfs("status")
    assert done.code == 14
    assert "No space left on device: /data/x" in done.err


def test_an_interrupt_exits_130_in_silence(tcfs: Shell):
    tcfs.answers(push=KeyboardInterrupt())
    done = tcfs("push")
    assert (done.code, done.out, done.err) == (130, "", "")
    assert tcfs.fleet.closed


def test_the_fleet_is_closed_after_an_error(tcfs: Shell):
    tcfs.answers(push=errors.StoreError("gone"))
    tcfs("push")
    assert tcfs.fleet.closed


def test_configuration_errors_come_before_the_engine(tcfs: Shell):
    done = tcfs("--config", "/nowhere/x.toml", "status")
    assert done.code == 16
    assert "/nowhere/x.toml" in done.err
    assert not tcfs.engine.opened


def test_unknown_variables_are_warned_of_and_quiet_is_quiet(tcfs: Shell):
    tcfs.monkeypatch.setenv("TCFS_SYNC_CONFLICT_MODUS", "auto")
    assert "did you mean TCFS_SYNC_CONFLICT_MODE?" in tcfs("status").err
    assert tcfs("status", "--quiet").err == ""


def _process(script: str, **kwargs) -> subprocess.Popen[bytes]:
    env = os.environ | {"PYTHONPATH": str(ROOT / "core")}
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, **kwargs)


SHOW = (
    "import sys; from tcfs.cli.main import main; sys.exit(main(['config', 'show', '--defaults']))"
)


def test_a_closed_pipe_ends_the_command_in_silence():
    reader, writer = os.pipe()
    os.close(reader)
    process = _process(SHOW, stdout=writer)
    os.close(writer)
    assert process.communicate()[1] == b""
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error():
    with open("/dev/full", "wb") as full:
        process = _process(SHOW, stdout=full)
        message = process.communicate()[1]
    assert process.returncode == 14
    assert message.startswith(b"error: ")
    assert b"No space left on device" in message
    assert b"Traceback" not in message


def test_a_locale_without_the_characters_does_not_end_the_command(tmp_path: Path):
    script = "import sys; from tcfs.cli.main import main; sys.exit(main(['config', 'show']))"
    env = os.environ | {"PYTHONPATH": str(ROOT / "core"), "PYTHONIOENCODING": "ascii"}
    env |= {"TCFS_HOME": str(tmp_path / "häuschen")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True)
    assert b"h\\xe4uschen" in done.stdout or b"h%C3%A4uschen" in done.stdout
