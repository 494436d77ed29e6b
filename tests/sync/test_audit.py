"""The ledger as an audit log: complete, with what was refused, and checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcfs.errors import LocalFileError
from tests.sync.kit import World
from tests.sync.test_access import lawless


def test_an_audit_tells_what_everybody_did_and_what_was_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = world.devices("anna", "ben")
    ben.actor = "mcp:helper"
    anna.fill({"docs/a": "1"})
    anna.push()
    ben.pull()
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    ben.fill({"docs/a": "2", "free": "f"})
    with lawless(monkeypatch):
        ben.push()
    found = anna.fleet.audit.report()
    assert found.verified
    assert not found.problems
    told = {(e.outcome, e.kind, e.device, e.actor, e.path) for e in found.entries}
    assert ("accepted", "write", "anna", "test", "docs/a") in told
    assert ("accepted", "write", "ben", "mcp:helper", "free") in told
    assert ("refused", "write", "ben", "mcp:helper", "docs/a") in told
    assert {e.kind for e in found.entries if e.namespace == "_control"} >= {
        "admit",
        "epoch",
        "invite",
        "acl",
    }
    (refusal,) = [e for e in found.entries if e.outcome == "refused"]
    assert refusal.reason == "the rules here do not give it write"
    (rule,) = [e for e in found.entries if e.kind == "acl"]
    assert rule.details["path"] == "docs/**"
    by_ben = anna.fleet.audit.report(device="ben", actor="mcp:helper", verify=False)
    assert not by_ben.verified
    assert {e.path for e in by_ben.entries} == {"docs/a", "free"}
    assert anna.fleet.audit.report(since=1 << 40, verify=False).total == 0


def test_an_audit_notices_a_store_that_took_something_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": "1"})
    anna.push()
    ben.pull()
    before = ben.fleet.audit.report().heads
    (segment,) = world.objects(f"ledger/default/{anna.fleet._context.identity.device_id}")
    segment.unlink()
    found = ben.fleet.audit.report()
    assert not found.verified
    assert any("no longer" in problem for problem in found.problems)
    assert "rollback" in {e.kind for e in found.entries if e.outcome == "noticed"}
    assert found.heads == before, "what was known is not unlearned"


def test_an_audit_shows_no_keys_and_nothing_that_steers(world: World) -> None:
    anna, _ = world.devices("anna", "ben")
    identity = anna.fleet._context.identity
    anna.fleet.revoke("ben", reason="\x1b[2Jlost")
    text = repr([e.details for e in anna.fleet.audit.report().entries])
    assert "\x1b" not in text
    assert "lost" in text
    assert identity.public_key.hex() not in text
    assert "commitment" not in text


def test_an_export_has_every_entry_and_ends_with_what_was_checked(
    world: World, tmp_path: Path
) -> None:
    (anna,) = world.devices("anna")
    anna.fill({f"f{n}": str(n) for n in range(30)})
    anna.push()
    target = tmp_path / "audit.jsonl"
    report = anna.fleet.audit.export(target)
    *entries, last = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(entries) == report.total == anna.fleet.audit.report(limit=5).total
    assert len(anna.fleet.audit.report(limit=5).entries) == 5
    assert last["summary"]["verified"] is True
    assert last["summary"]["heads"].keys() == report.heads.keys()
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(LocalFileError):
        anna.fleet.audit.export(target)
