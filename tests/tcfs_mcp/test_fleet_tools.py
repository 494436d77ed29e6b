"""The tools for the declared fleet: answers, limits, and a person's yes before a switch."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from mcp.types import ElicitResult

from tcfs.errors import AccessError, LimitError, PlanChangedError, SwitchError, ToolError
from tcfs_mcp import schema
from tcfs_mcp.door import Door
from tcfs_mcp.jobs import Jobs
from tcfs_mcp.policy import Policy, make_policy
from tcfs_mcp.tools import TOOLS
from tests.cli.test_fleet import Desk
from tests.rollout.fixtures import HANGS, HOST, Machine, gone
from tests.tcfs_mcp.fake import FakeFleet, make_door
from tests.tcfs_mcp.test_server import ERAS, connected, error_of


@pytest.fixture
def door(fleet: FakeFleet) -> Door:
    fleet.settings = Desk()  # type: ignore[attr-defined]
    return make_door(fleet)


def run(door: Door, name: str, **arguments: Any) -> dict[str, Any]:
    answer = door.run(name, arguments, door.context("test"))
    jsonschema.validate(answer, schema.output_schema(TOOLS.get(name)))
    return answer


def test_the_tools_answer_as_their_schemas_say(door: Door, lab: Path):
    where = {"fleet": str(lab)}
    assert run(door, "fleet_check", **where)["ok"] is True
    rendered = run(door, "fleet_render", **where, host="yoga", settings={"jobs": 2}, dry_run=True)
    assert "+  jobs = 2;" in rendered["diff"]
    assert {host["state"] for host in run(door, "fleet_diff", **where)["hosts"]} == {"not_enrolled"}
    assert run(door, "fleet_drift", **where)["differing"] == 0
    assert run(door, "fleet_rollout", **where)["next"] == "1.pin"


def test_check_tells_an_assistant_where_to_mend(door: Door, lab: Path):
    (lab / "hosts" / "yoga.nix").write_text('{\n  platform = "x86_64-linux";\n  job = 1;\n}\n')
    [yoga] = [h for h in run(door, "fleet_check", fleet=str(lab))["hosts"] if not h["ok"]]
    assert yoga["problems"] == [
        {
            "option": "job",
            "message": "there is no such setting; did you mean jobs?",
            "file": "hosts/yoga.nix",
            "line": 3,
        }
    ]


def test_a_definition_outside_the_allowed_directories_is_not_read(
    fleet: FakeFleet,
    lab: Path,
    tmp_path: Path,
):
    other = tmp_path / "other"
    other.mkdir()
    door = make_door(fleet, policy=make_policy(roots=[str(other)]))
    for spec in TOOLS:
        if spec.toolset == "fleet":
            more = {"host": "yoga", "settings": {}} if spec.name == "fleet_render" else {}
            with pytest.raises(AccessError):
                run(door, spec.name, fleet=str(lab), **more)


def test_a_read_only_server_renders_and_switches_nothing(fleet: FakeFleet, lab: Path):
    door = make_door(fleet, policy=Policy(read_only=True))
    for name in ("fleet_render", "fleet_switch", "fleet_rollout"):
        with pytest.raises(ToolError):
            run(door, name, fleet=str(lab))


def test_a_rollout_step_is_marked_by_an_assistant(door: Door, lab: Path):
    run(door, "fleet_rollout", fleet=str(lab), mark="done", step="3.push", note="sent")
    marks = json.loads((lab / "rollout.json").read_text())["steps"]
    assert marks["3.push"]["by"] == "assistant"
    found = run(door, "fleet_rollout", fleet=str(lab), every=True)
    assert {s["id"]: s["state"] for s in found["steps"]}["3.push"] == "done"


def test_a_switch_is_a_dry_run_unless_told_otherwise(door: Door, machine: Machine):
    planned = run(door, "fleet_switch", fleet=str(machine.lab))
    assert (planned["status"], planned["generation"]) == ("planned", 42)
    assert planned["command"][0] == "nixos-rebuild"
    assert not machine.record.exists()


def test_a_switch_needs_its_plan_as_the_yes(door: Door, machine: Machine):
    where = {"fleet": str(machine.lab), "dry_run": False}
    with pytest.raises(LimitError):
        run(door, "fleet_switch", **where)
    with pytest.raises(PlanChangedError):
        run(door, "fleet_switch", **where, plan="ab" * 16)
    assert not machine.record.exists()
    plan = run(door, "fleet_switch", fleet=str(machine.lab))["plan"]
    done = run(door, "fleet_switch", **where, plan=plan)
    assert (done["status"], done["generation"]) == ("done", 43)
    assert done["rollback"] == "nixos-rebuild switch --rollback"
    assert done["output"][-1] == "done"


def test_a_switch_that_fails_says_so(door: Door, machine: Machine):
    machine.program("#!/bin/sh\necho 'error: no space'\nexit 1\n")
    plan = run(door, "fleet_switch", fleet=str(machine.lab))["plan"]
    with pytest.raises(SwitchError, match="no space"):
        run(door, "fleet_switch", fleet=str(machine.lab), dry_run=False, plan=plan)


def test_a_long_switch_goes_on_as_a_job_that_can_be_stopped(
    fleet: FakeFleet,
    jobs: Jobs,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
):
    from tcfs.rollout import switch as switching

    monkeypatch.setattr(switching, "_GRACE_S", 0.2)
    machine.program(HANGS)
    door = make_door(fleet, jobs=jobs, job_after=0.3)
    plan = run(door, "fleet_switch", fleet=str(machine.lab))["plan"]
    running = run(door, "fleet_switch", fleet=str(machine.lab), dry_run=False, plan=plan)
    assert running["status"] == "running"
    job = jobs.get(running["job_id"])
    run(door, "job_cancel", job_id=running["job_id"])
    assert job.wait(20)
    found = run(door, "job_status", job_id=running["job_id"])
    assert (found["state"], found["tool"]) == ("cancelled", "fleet_switch")
    assert gone(int(machine.record.read_text()))


def test_a_switch_that_ended_as_a_job_has_its_result(
    fleet: FakeFleet,
    jobs: Jobs,
    machine: Machine,
):
    door = make_door(fleet, jobs=jobs, job_after=0.0)
    plan = run(door, "fleet_switch", fleet=str(machine.lab))["plan"]
    running = run(door, "fleet_switch", fleet=str(machine.lab), dry_run=False, plan=plan)
    found = run(door, "job_status", job_id=running["job_id"], wait_s=20)
    assert found["state"] == "done"
    assert found["switch"]["generation"] == 43


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
async def test_a_person_is_asked_before_a_switch(
    fleet: FakeFleet,
    jobs: Jobs,
    era: str,
    machine: Machine,
):
    asked: list[str] = []

    async def yes(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"go_on": True})

    door = make_door(fleet, jobs=jobs)
    where = {"fleet": str(machine.lab), "dry_run": False}
    async with connected(door, era, elicitation_callback=yes) as client:
        result = await client.call_tool("fleet_switch", where)
    assert not result.is_error, result
    assert result.structured_content is not None
    assert result.structured_content["generation"] == 43
    [question] = asked
    assert f"#{HOST} would replace generation 42. Switch this machine?" in question


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "answer",
    [
        ElicitResult(action="decline"),
        ElicitResult(action="accept", content={"go_on": False}),
    ],
)
async def test_without_a_yes_nothing_is_switched(
    fleet: FakeFleet,
    jobs: Jobs,
    era: str,
    answer: ElicitResult,
    machine: Machine,
):
    async def reply(_context: Any, _params: Any) -> ElicitResult:
        return answer

    door = make_door(fleet, jobs=jobs)
    where = {"fleet": str(machine.lab), "dry_run": False}
    async with connected(door, era, elicitation_callback=reply) as client:
        error = error_of(await client.call_tool("fleet_switch", where))
    assert error["code"] == "limit"
    assert not machine.record.exists()


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_is_told_of_the_explicit_argument(
    fleet: FakeFleet,
    jobs: Jobs,
    era: str,
    machine: Machine,
):
    where = {"fleet": str(machine.lab), "dry_run": False}
    async with connected(make_door(fleet, jobs=jobs), era) as client:
        error = error_of(await client.call_tool("fleet_switch", where))
    assert error["code"] == "limit"
    assert "that plan's hash" in error["remedy"]
    assert not machine.record.exists()
