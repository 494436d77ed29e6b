"""What commands print: for people, and as JSON."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs

from tcfs.errors import ConflictError, UsageError
from tcfs.model.paths import show
from tcfs.sync import results as r
from tcfs.sync.upstream_import.restore import ImportReport
from tests.cli import fake
from tests.cli.conftest import Shell

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nerror: \x9b31m\u202egnp.exe\u200b\x7f"
EVERY = [
    ("init",),
    ("init", "--recover"),
    ("device", "invite"),
    ("device", "enroll", "--name", "n", "--invite", "C"),
    ("device", "list"),
    ("device", "status"),
    ("device", "revoke", "bates"),
    ("device", "passphrase", "--uses", "3"),
    ("device", "confirm"),
    ("device", "admit", "bates"),
    ("import", "s3://bucket/prefix", "--to", "docs"),
    ("device", "protect", "tpm", "--pcrs", "0,7"),
    ("push",),
    ("push", "--dry-run"),
    ("pull",),
    ("sync",),
    ("conflicts",),
    ("policy",),
    ("git", "status"),
    ("git", "status", "src/tool"),
    ("resolve-conflict", "docs/a.txt", "--keep-both"),
    ("log",),
    ("why", "docs/a.txt"),
    ("restore", "docs/a.txt", "--at", f"{fake.DEVICE}:1"),
    ("undo", "--actor", "cli"),
    ("acl", "set", "docs/**", "--any", "--permissions", "read,write"),
    ("acl", "set", "docs/**", "--device", "bates", "--remove"),
    ("acl", "list"),
    ("acl", "explain", "docs/a.txt", "--device", "bates"),
    ("acl", "group", "ops", "bates"),
    ("namespace", "create", "private", "--only", "bates"),
    ("namespace", "list"),
    ("audit", "--since", "2d"),
    ("audit", "--export", "log.jsonl", "--no-verify"),
    ("verify",),
    ("rebuild-index",),
    ("gc",),
    ("gc", "--dry-run"),
    ("snapshot",),
    ("snapshot", "--compact"),
    ("device", "expire", "bates"),
    ("retention", "show"),
    ("retention", "set", "--keep-days", "90", "--keep-versions", "5"),
    ("retention", "hold", "v1"),
    ("retention", "release", "v1"),
    ("retention", "dismiss", f"{fake.DEVICE}:1"),
    ("status",),
    ("sync-status", "docs/a.txt"),
    ("config", "show"),
    ("completion", "bash"),
]


@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
def test_json_is_exactly_one_document_and_text_has_no_escape_codes(tcfs: Shell, argv):
    stdin = fake.PHRASE if "--recover" in argv else ""
    done = tcfs(*argv, "--json", stdin=stdin)
    assert done.code == 0
    assert isinstance(done.json, dict)
    assert done.out.isascii()
    text = tcfs(*argv, stdin=stdin)
    assert text.code == 0
    assert text.out != ""
    assert "\x1b" not in text.out + text.err
    if tcfs.engine.opened:
        assert tcfs.fleet.closed


def test_the_invite_stands_alone_on_the_last_line(tcfs: Shell):
    done = tcfs("device", "invite", "--expires", "1h30m", "--role", "admin")
    assert done.out == "tcfs-invite-CODE\n"
    asked = {"expires_s": 5400, "role": "admin", "attest": [], "pcrs": (7,)}
    assert tcfs.fleet.called("invite") == [((), asked)]


def test_an_invite_can_be_piped_from_one_device_to_the_other(tcfs: Shell):
    code = tcfs("device", "invite").out
    assert tcfs("device", "enroll", "--name", "b", "--invite", "-", stdin=code).code == 0
    assert tcfs.engine.joined[0][1]["invite"] == "tcfs-invite-CODE"


def test_enroll_can_replace_a_cloned_identity(tcfs: Shell):
    tcfs("device", "enroll", "--new-identity", "--invite", "C")
    assert tcfs.engine.joined == [("enroll", {"name": "", "invite": "C", "new_identity": True})]


def test_the_phrase_is_not_printed_where_nobody_reads_it(tcfs: Shell):
    for argv in (("init",), ("init", "--json")):
        done = tcfs(*argv)
        assert "word01" not in done.out + done.err
        assert "tcfs init --show-phrase" in done.err


def test_the_phrase_is_printed_when_asked_for_by_name(tcfs: Shell):
    assert tcfs("init", "--show-phrase").out == f"{fake.PHRASE}\n"
    assert tcfs("init", "--show-phrase", "--json").json == {"phrase": fake.PHRASE}
    tcfs.engine.absent = True
    assert tcfs("init", "--show-phrase").out.splitlines()[-1] == fake.PHRASE
    tcfs.engine.absent = True
    assert tcfs("init", "--show-phrase", "--json").json["phrase"] == fake.PHRASE
    assert not tcfs.fleet.called("confirm_phrase")


def test_a_confirmed_phrase_is_not_shown_again(tcfs: Shell):
    tcfs.answers(phrase_pending=False)
    done = tcfs("init", "--show-phrase")
    assert done.code == 20
    assert "no longer kept" in done.err


def test_no_encryption_has_no_phrase_to_speak_of(tcfs: Shell):
    done = tcfs("init", "--no-encryption")
    assert done.code == 0
    assert tcfs.engine.joined == [("init", {"name": "", "encryption": False})]
    assert "phrase" not in done.err


def test_a_dry_run_prints_changes_counts_and_the_hash_of_the_plan(tcfs: Shell):
    tcfs.answers(push=fake.done(dry_run=True))
    done = tcfs("push", "--dry-run")
    assert "add" in done.out
    assert "docs/a.txt" in done.out
    assert "add 1; 5 B" in done.out
    assert f"plan {'a' * 64}" in done.out


def test_long_plans_are_cut_unless_verbose(tcfs: Shell):
    changes = tuple(r.PlannedChange("add", f"f{n}") for n in range(80))
    plan = r.Plan("e" * 64, {"add": 900}, 0, 900, changes)
    tcfs.answers(push=fake.done(dry_run=True, plan=plan))
    short = tcfs("push", "--dry-run").out
    assert "f49\n" in short
    assert "f50\n" not in short
    assert "850 more changes; see more with --verbose" in short
    assert "820 more changes\n" in tcfs("push", "--dry-run", "--verbose").out


def test_limits_and_plan_reach_the_engine(tcfs: Shell):
    tcfs("push", "--max-delete", "3", "--max-bytes", "2MiB", "--yes", "--plan", "abc")
    kwargs = tcfs.fleet.called("push")[0][1]
    assert kwargs["plan"] == "abc"
    limits = kwargs["limits"]
    assert (limits.max_delete, limits.max_bytes, limits.confirmed) == (3, 2 << 20, True)


def test_what_a_command_may_take_of_the_machine_stands_for_settings(tcfs: Shell):
    for verb in ("push", "pull", "sync"):
        tcfs(verb, "--jobs", "1", "--memory", "128MiB", "--limit", "2MB/s")
        config = tcfs.engine.opened[-1]["loaded"].config
        assert (config.sync.jobs, config.sync.memory_mb) == (1, 128)
        assert config.storage.upload_limit == config.storage.download_limit == 2_000_000
    assert tcfs("push", "--limit", "fast").code == 2
    assert "--jobs: not a number" in tcfs("push", "--jobs", "-1").err


def test_pull_passes_places_and_mode(tcfs: Shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tcfs("pull", "tcfs/default/a.txt", "/tmp/x/../a.txt", "--mode", "defer")
    [(args, kwargs)] = tcfs.fleet.called("pull")
    assert args == ("tcfs/default/a.txt", b"/tmp/a.txt")
    assert kwargs["mode"] == "defer"
    tcfs("pull")
    assert tcfs.fleet.called("pull")[1][0] == ("", b"")


def test_quiet_says_nothing_of_success(tcfs: Shell):
    done = tcfs("push", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_nothing_to_do_is_called_up_to_date(tcfs: Shell):
    tcfs.answers(push=fake.done(plan=fake.NOTHING))
    assert tcfs("push").out.startswith("push: up to date")


def test_sync_is_a_pull_and_a_push(tcfs: Shell):
    assert set(tcfs("sync", "--json").json) == {"pull", "push"}
    assert re.findall(r"^(\w+):", tcfs("sync").out, re.MULTILINE) == ["pull", "push"]


def test_status_speaks_of_daemon_storage_device_and_conflicts_and_warns(tcfs: Shell):
    done = tcfs("status")
    for words in (
        r"daemon: +not running",
        r"storage: +file:///srv/store \[ok\]",
        rf"device: +yoga \({fake.DEVICE}\)",
        r"conflicts: +1 conflict; see them with: tcfs conflicts",
        r"conflict mode: +auto",
        r"sync root: +/home/me/docs = tcfs/default \(12 tracked, 3 to pull\)",
    ):
        assert re.search(words, done.out), words
    assert "warning: the recovery phrase is not confirmed" in done.err


def test_sync_status_takes_local_and_remote_paths(tcfs: Shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("")
    for path in ("here.txt", "./gone.txt", "tcfs/default/there.txt"):
        assert tcfs("sync-status", path).code == 0
    found = [args[0] for args, _ in tcfs.fleet.called("path_status")]
    top = str(tmp_path).encode()
    assert found == [top + b"/here.txt", top + b"/gone.txt", b"tcfs/default/there.txt"]


def test_log_and_conflicts_can_be_paged(tcfs: Shell):
    assert "--before x:1" in tcfs("log", "docs", "-n", "2").err
    assert tcfs.fleet.called("log") == [(("docs",), {"before": "", "limit": 2})]
    tcfs.answers(conflicts=r.ConflictPage((fake.conflict(),), 7, "docs/a.txt"))
    assert "1 of 7; go on with --after docs/a.txt" in tcfs("conflicts").out
    tcfs("conflicts", "docs", "--after", "docs/a.txt", "--limit", "1")
    expected = {"prefix": "docs", "after": "docs/a.txt", "limit": 1}
    assert tcfs.fleet.called("conflicts")[1] == ((), expected)


def test_why_tells_the_steps(tcfs: Shell):
    done = tcfs("why", "docs/a.txt")
    assert "docs/a.txt: up to date" in done.out
    assert "written here" in done.out


@pytest.mark.parametrize("flag", ["local", "remote", "both"])
def test_resolutions_reach_the_engine(tcfs: Shell, flag: str):
    done = tcfs("resolve-conflict", "a.txt", f"--keep-{flag}", "--dry-run")
    assert done.code == 0
    expected = (("a.txt", f"keep_{flag}"), {"dry_run": True})
    assert tcfs.fleet.called("resolve") == [expected]


def test_revoke_does_not_ask_a_script(tcfs: Shell):
    assert tcfs("device", "revoke", "bates", "--reason", "lost").code == 0
    assert tcfs.fleet.called("revoke") == [(("bates",), {"reason": "lost"})]


def test_config_show_prints_toml_with_the_source_of_each_value(tcfs: Shell):
    tcfs.monkeypatch.setenv("TCFS_NATS_URL", "nats://user:hunter2@host:4222")
    tcfs.monkeypatch.setenv("TCFS_SYNC_EXCLUDE_PATTERNS", 'a"b,*.tmp')
    done = tcfs("config", "show")
    data = tomllib.loads(done.out)
    assert data["sync"]["exclude_patterns"] == ['a"b', "*.tmp"]
    assert data["sync"]["nats_url"] == "nats://***@host:4222"
    assert "# env TCFS_NATS_URL" in done.out
    assert "hunter2" not in done.out + tcfs("config", "show", "--json").out


def test_config_show_of_defaults_works_when_the_configuration_does_not(tcfs: Shell):
    tcfs.monkeypatch.setenv("TCFS_SYNC_CONFLICT_MODE", "never")
    assert tcfs("config", "show").code == 16
    done = tcfs("config", "show", "--defaults", "--json")
    assert done.json["config"]["sync"]["conflict_mode"] == "auto"


def _hostile(value: Any) -> Any:
    """The same answer with a hostile text in the place of every text that is shown."""
    data = r.__dict__
    if isinstance(value, tuple | list):
        return type(value)(map(_hostile, value))
    if type(value).__name__ in data and isinstance(value, Struct):
        found = structs.asdict(value)
        fixed = {"state", "role", "resolution", "action", "op"}
        return type(value)(**{k: v if k in fixed else _hostile(v) for k, v in found.items()})
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--verbose",), ("--json",)], ids=str)
def test_no_answer_of_the_engine_can_steer_the_terminal(tcfs: Shell, argv, more):
    plain = {name: _hostile(answer) for name, answer in fake.PLAIN.items() if not callable(answer)}
    problems = (r.Problem(HOSTILE, HOSTILE, HOSTILE, HOSTILE),)
    for name in ("push", "pull", "restore"):
        bad = fake.done(
            plan=r.Plan(HOSTILE, {HOSTILE: 1}, 1, 1, (r.PlannedChange("add", HOSTILE),)),
            dry_run="--dry-run" in argv,
            problems=problems,
            conflict_copies=(HOSTILE,),
            notices=(HOSTILE,),
        )
        plain[name] = bad
    tcfs.answers(**plain)
    done = tcfs(*argv, *more, stdin=fake.PHRASE if "--recover" in argv else "")
    written = (done.out + done.err).replace("\n", "")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e]", written)
    assert not any(line.startswith("error: \\u009b") for line in done.out.splitlines())


def test_a_notice_is_told_and_is_no_failure(tcfs: Shell):
    notice = "a.txt is called a.case-5feceb66.txt on this disk"
    tcfs.answers(pull=fake.done(notices=(notice,)))
    done = tcfs("pull")
    assert (done.code, notice in done.err) == (0, True)
    assert notice not in tcfs("pull", "--quiet").err
    assert tcfs("pull", "--json").json["notices"] == [notice]


def test_non_utf8_names_print_as_the_model_shows_them(tcfs: Shell):
    name = show(b"caf\xe9\n")
    tcfs.answers(why=r.Why(name, "up_to_date", ()))
    assert tcfs("why", "x").out == "caf\\xe9\\u000a: up to date\n"


def test_json_keeps_every_field_but_those_that_are_none(tcfs: Shell):
    detail = json.loads(tcfs("push", "--json").out)
    assert detail["segment"] == f"{fake.DEVICE}/1"
    assert detail["problems"] == []
    assert None not in detail.values()


def test_a_rule_reaches_the_engine(tcfs: Shell):
    words = ("--device", "b", "--device", "c", "--group", "g", "--any", "--namespace", "n")
    assert tcfs("acl", "set", "docs/**", "--permissions", "read, write", *words).code == 0
    ((pattern, given), options), *_ = tcfs.fleet.called("access.set")
    assert (pattern, given) == ("docs/**", ["read", "write"])
    assert options == {
        "devices": ["b", "c"],
        "groups": ["g"],
        "everyone": True,
        "namespace": "n",
        "from_start": False,
    }
    tcfs("acl", "set", "a", "--permissions", "none", "--any")
    assert tcfs.fleet.called("access.set")[1][0] == ("a", [])


def test_a_rule_that_gives_and_removes_at_once_or_neither_is_a_mistake(tcfs: Shell):
    assert tcfs("acl", "set", "docs/**", "--any").code == 2
    assert tcfs("acl", "set", "a", "--any", "--remove", "--permissions", "read").code == 2


@pytest.mark.parametrize("text", ["2d", "2026-01-31", "2026-01-31T12:00:00+01:00"])
def test_an_audit_begins_at_a_date_or_so_long_ago(tcfs: Shell, text: str):
    assert tcfs("audit", "--since", text, "--actor", "mcp:x").code == 0
    ((_, options),) = tcfs.fleet.called("audit.report")
    assert options["since"] > 1_700_000_000
    assert options["actor"] == "mcp:x"


def test_an_audit_that_does_not_hold_ends_with_its_own_code(tcfs: Shell):
    bad = fake.AUDIT.__class__((), 0, False, ("ledger/x: damaged",), {})
    tcfs.answers(**{"audit.report": bad})
    done = tcfs("audit")
    assert done.code == 11
    assert "damaged" in done.err
    assert tcfs("audit", "--since", "yesterday").code == 2


def test_how_keys_are_guarded_reaches_the_engine(tcfs: Shell):
    assert tcfs("init", "--protect", "tpm", "--pcrs", "0,7").code == 0
    assert tcfs("device", "protect", "passphrase").code == 0
    made, changed = tcfs.engine.keys
    assert (made.kind, made.pcrs) == ("tpm", (0, 7))
    assert changed.kind == "passphrase"
    assert changed.ask("?") == "", "there is nobody to ask"
    assert tcfs("init", "--protect", "magic").code == 2


def test_a_device_enrolls_by_the_passphrase_of_the_environment(tcfs: Shell, monkeypatch):
    monkeypatch.setenv("TCFS_PASSPHRASE", "several good words")
    assert tcfs("device", "enroll", "--name", "n").code == 0
    ((_, asked),) = tcfs.engine.joined
    assert (asked["passphrase"], asked["invite"]) == ("several good words", "")
    assert tcfs("device", "passphrase", "--expires", "2h").code == 0
    ((words, options),) = tcfs.fleet.called("access.open_enrollment")
    assert words == ("several good words",)
    assert options == {"uses": 10, "expires_s": 7200, "role": "writer"}


def test_gc_names_whom_it_waits_for_and_what_can_be_done(tcfs: Shell):
    done = tcfs("gc", "--plan", "e" * 32)
    assert tcfs.fleet.called("run")[0][1]["plan"] == "e" * 32
    assert "waits for bates" in done.out
    assert "tcfs device expire" in done.err


def test_a_retention_that_says_nothing_or_too_much_is_a_usage_error(tcfs: Shell):
    assert tcfs("retention", "set").code == 2
    assert tcfs("retention", "set", "--keep-all", "--keep-days", "3").code == 2
    assert tcfs("retention", "set", "--keep-days", "9O").code == 2
    assert tcfs("retention", "set", "--keep-day", "90").code == 2
    assert not tcfs.fleet.called("set_retention")
    assert tcfs("retention", "set", "--keep-all").code == 0
    assert tcfs.fleet.called("set_retention") == [((), {"keep_days": None, "keep_versions": None})]


def test_an_import_goes_into_the_fleet_unless_a_directory_is_named(tcfs: Shell, tmp_path: Path):
    done = tcfs("import", "s3://bucket/prefix", "--to", "docs", "--dry-run")
    assert done.out.startswith("would import: 2 files, 10 B, 1 up to date")
    [(args, kwargs)] = tcfs.fleet.called("upstream.run")
    assert args == ("s3://bucket/prefix", "docs")
    assert kwargs["dry_run"] is True
    refused = tcfs("import", "s3://bucket/prefix", str(tmp_path / "new"), "--to", "docs")
    assert refused.code == UsageError.exit_code
    tcfs.answers(**{"upstream.run": ImportReport(files=1, conflicts=["docs/a"])})
    conflict = tcfs("import", "s3://bucket/prefix")
    assert conflict.code == ConflictError.exit_code
    assert "conflict: docs/a" in conflict.out
