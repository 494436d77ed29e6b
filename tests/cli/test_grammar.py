"""The grammar: help, global options anywhere, mistakes, cheap start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcfs.cli.arguments import build_parser
from tcfs.cli.commands import MODULES
from tcfs.cli.shells import describe
from tests.cli.conftest import Shell

COMMANDS = [spec.path for spec in describe(build_parser())]
HEAVY = ("pydantic", "rich", "cryptography", "tomlkit", "dataclasses", "json", "logging", "asyncio")


def test_every_command_of_the_issue_is_there():
    names = {" ".join(path) for path in COMMANDS}
    assert names == {
        "",
        "init",
        "device",
        "device invite",
        "device enroll",
        "device list",
        "device status",
        "device revoke",
        "device protect",
        "device passphrase",
        "device tpm-key",
        "device confirm",
        "device admit",
        "device expire",
        "gc",
        "snapshot",
        "retention",
        "retention show",
        "retention set",
        "retention hold",
        "retention release",
        "retention dismiss",
        "push",
        "pull",
        "sync",
        "conflicts",
        "resolve-conflict",
        "policy",
        "git",
        "git status",
        "log",
        "why",
        "restore",
        "undo",
        "acl",
        "acl set",
        "acl list",
        "acl explain",
        "acl group",
        "namespace",
        "namespace create",
        "namespace list",
        "audit",
        "auth",
        "auth login",
        "auth status",
        "auth logout",
        "credentials",
        "credentials list",
        "credentials resolve",
        "credentials import",
        "rotate-credentials",
        "verify",
        "rebuild-index",
        "import",
        "status",
        "sync-status",
        "fleet",
        "fleet verify",
        "root",
        "root add",
        "root list",
        "root remove",
        "daemon",
        "servers",
        "servers up",
        "servers down",
        "servers status",
        "config",
        "config show",
        "fleet check",
        "fleet render",
        "fleet diff",
        "fleet drift",
        "fleet switch",
        "fleet rollout",
        "completion",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(tcfs: Shell, path: tuple[str, ...]):
    done = tcfs(*path, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: {' '.join(('tcfs', *path))}")
    assert "--json" in done.out
    assert "__complete" not in done.out
    assert done.err == ""


@pytest.mark.parametrize(
    "argv", [("--json", "status"), ("status", "--json"), ("--no-color", "status", "--json", "-q")]
)
def test_global_options_may_stand_before_or_after_the_command(tcfs: Shell, argv: tuple[str, ...]):
    assert tcfs(*argv).json["device_name"] == "yoga"


def test_global_options_may_stand_before_between_and_after_nested_commands(tcfs: Shell):
    for argv in (
        ("--json", "device", "list"),
        ("device", "--json", "list"),
        ("device", "list", "--json"),
    ):
        assert len(tcfs(*argv).json["devices"]) == 2


def test_paths_and_options_may_be_mixed(tcfs: Shell, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tcfs("push", "a", "--as", "r", "b", "--dry-run").code == 0
    [(args, kwargs)] = tcfs.fleet.called("push")
    here = os.fsencode(tmp_path)
    assert args == ([here + b"/a", here + b"/b"],)
    assert kwargs["as_remote"] == "r"
    assert kwargs["dry_run"] is True


def test_a_path_that_looks_like_an_option_follows_two_dashes(tcfs: Shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tcfs("push", "x", "-qv", "--", "--odd", "-v").code == 0
    assert tcfs("log", "-vn3", "--", "-n").code == 0
    [(args, _)] = tcfs.fleet.called("push")
    assert args == ([os.fsencode(tmp_path) + name for name in (b"/x", b"/--odd", b"/-v")],)
    assert tcfs.fleet.called("log") == [(("-n",), {"before": "", "limit": 3})]


def test_names_that_are_not_utf8_reach_the_engine_unchanged(tcfs: Shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tcfs("push", os.fsdecode(b"caf\xe9")).code == 0
    [(args, _)] = tcfs.fleet.called("push")
    assert args == ([os.fsencode(tmp_path) + b"/caf\xe9"],)


def test_dots_in_a_path_are_resolved_where_the_file_system_would(tcfs, tmp_path, monkeypatch):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "far" / "deep")
    monkeypatch.chdir(tmp_path / "here")
    for given in (".", "./x/", "link/../x", "link/.."):
        tcfs("push", given)
    found = [args[0][0] for args, _ in tcfs.fleet.called("push")]
    top = os.fsencode(tmp_path.resolve())
    assert found == [top + b"/here", top + b"/here/x", top + b"/far/x", top + b"/far"]


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        ((), "no command was given"),
        (("device",), "no command was given"),
        (("psuh",), "did you mean 'push'?"),
        (("pull", "--mode", "x"), "--mode: not 'x'; use auto, interactive, defer"),
        (("push", "--dry"), "--dry"),
        (("push", "--max-delete", "-1"), "--max-delete"),
        (("push", "--max-delete", "many"), "not a whole number"),
        (("push", "--max-bytes", "lots"), "--max-bytes: not a size"),
        (("device", "invite", "--expires", "soon"), "--expires: not a duration"),
        (("device", "invite", "--expires", "0"), "--expires"),
        (("device", "enroll", "--name", "n"), "no invite was given"),
        (("restore", "a"), "--at"),
        (("undo",), "--actor"),
        (("resolve-conflict", "a"), "was not said"),
        (("resolve-conflict", "a", "--merge", "--defer"), "not allowed with"),
        (("push", ""), "empty path"),
        (("init", "--recover"), "no recovery phrase"),
    ],
)
def test_mistakes_exit_2_and_say_what_to_do(tcfs: Shell, argv: tuple[str, ...], hint: str):
    done = tcfs(*argv)
    assert done.code == 2
    assert done.out == ""
    assert hint in done.err
    assert done.err.startswith("error: ")
    assert "\n  try: " in done.err


def test_mistakes_with_json_are_one_json_document(tcfs: Shell):
    done = tcfs("push", "--jsno", "--json")
    assert done.code == 2
    assert done.json["error"]["code"] == "usage"
    assert done.err == ""


def test_undo_takes_whose_changes_and_who_undoes_them(tcfs: Shell):
    assert tcfs("--actor", "me", "undo", "--actor", "robot").code == 0
    assert tcfs.engine.opened[0]["actor"] == "me"
    assert tcfs.fleet.called("undo")[0][1]["actor"] == "robot"


@pytest.mark.parametrize(
    ("environ", "argv", "actor"),
    [(None, (), "cli"), ("env", (), "env"), ("env", ("--actor", "flag"), "flag")],
)
def test_the_actor_is_recorded(tcfs: Shell, environ, argv: tuple[str, ...], actor: str):
    if environ:
        tcfs.monkeypatch.setenv("TCFS_ACTOR", environ)
    tcfs("push", *argv)
    assert tcfs.engine.opened[0]["actor"] == actor


def test_only_sending_commands_create_a_repository_unasked(tcfs: Shell):
    for argv in (("push",), ("sync",), ("pull",), ("status",), ("log",)):
        tcfs(*argv)
    assert [kwargs["create"] for kwargs in tcfs.engine.opened] == [True, True, False, False, False]


def test_a_command_is_found_without_making_the_others():
    for name, commands in MODULES.items():
        for command in commands:
            specs = [spec.path[0] for spec in describe(build_parser((command, "x"))) if spec.path]
            assert set(specs) == {c for c in commands if not c.startswith("__")}, name


def test_a_mistake_beside_the_name_of_a_command_is_told_by_all_of_them(tcfs: Shell):
    shown = tcfs("stauts", "push")
    assert shown.code == 2
    assert "did you mean 'status'?" in shown.err


def test_help_imports_nothing_heavy():
    code = f"""
import sys
from tcfs.cli.main import main
assert main(["push", "--help"]) == 0
print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
