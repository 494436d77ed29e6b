"""A rollout keeps its place, believes its eyes before words, and goes on anywhere."""

import json
from pathlib import Path

import pytest

from tcfs.errors import ConflictError, FleetFileError, NotFoundError, RepositoryError, UsageError
from tcfs.rollout.compare import HostDiff
from tcfs.rollout.definition import read_definition
from tcfs.rollout.phases import Facts, look
from tcfs.rollout.progress import mark_step, rollout_status

NOW = 1_700_000_000


def facts(lab: Path, state: str = "same") -> Facts:
    """The lab as it looks when every device has this state."""
    definition = read_definition(lab)
    names = definition.hosts
    return Facts(definition, {n: HostDiff(n, n, "id", state) for n in names})  # type: ignore[arg-type]


def states(rollout) -> dict[str, str]:
    return {step.id: step.state for step in rollout.steps}


def test_a_rollout_has_the_phases_of_the_rfc_for_these_hosts(lab: Path):
    found = rollout_status(facts(lab))
    assert sorted({step.phase for step in found.steps}) == [1, 2, 3, 4, 5, 6, 7]
    ids = {step.id for step in found.steps}
    assert {"2.enroll/yoga", "3.pull/xoxd-bates", "4.resolve", "6.catch-up", "7.verify"} <= ids
    # Of the three hosts, yoga alone syncs Git repositories.
    assert {i for i in ids if i.startswith("5.")} == {"5.push/yoga", "5.pull/yoga"}


def test_what_can_be_seen_is_done_when_it_is_seen(lab: Path):
    before = states(rollout_status(facts(lab, "not_enrolled")))
    assert (before["1.check"], before["1.pin"], before["2.enroll/yoga"]) == ("done", "todo", "todo")
    (lab / "flake.lock").write_text(
        json.dumps({"root": "root", "nodes": {"root": {"inputs": {"tcfs": "tcfs"}}}})
    )
    after = states(rollout_status(facts(lab, "differs")))
    assert (after["1.pin"], after["2.enroll/yoga"], after["2.settings/yoga"]) == (
        "done",
        "done",
        "todo",
    )
    assert states(rollout_status(facts(lab)))["2.settings/yoga"] == "done"


def test_what_is_seen_not_to_be_done_cannot_be_told_to_be(lab: Path):
    with pytest.raises(ConflictError, match=r"2\.enroll/yoga is not done"):
        mark_step(facts(lab, "not_enrolled"), "2.enroll/yoga", "done", now=NOW)
    done = mark_step(facts(lab, "silent"), "2.settings/yoga", "skipped", note="later", now=NOW)
    assert states(done)["2.settings/yoga"] == "skipped"


def test_the_place_is_kept_and_can_be_taken_up_by_another(lab: Path):
    mark_step(facts(lab), "3.push", "done", note="sent 16 B", by="anna", now=NOW)
    found = rollout_status(facts(lab))
    [step] = [step for step in found.steps if step.id == "3.push"]
    assert (step.state, step.note, step.by, step.at) == ("done", "sent 16 B", "anna", NOW)
    mark_step(facts(lab), "3.push", "todo", now=NOW)
    assert states(rollout_status(facts(lab)))["3.push"] == "todo"


def test_the_next_step_is_the_first_that_is_not_done(lab: Path):
    everything = facts(lab)
    found = rollout_status(everything)
    assert (found.next, found.phase) == ("1.pin", 1)
    for step in found.steps:
        if step.kind == "told":
            found = mark_step(everything, step.id, "done", now=NOW)
    found = mark_step(everything, "1.pin", "skipped", note="a path is enough here", now=NOW)
    assert (found.next, found.phase, found.done) == ("", 7, found.total)


def test_a_skip_needs_a_reason_and_a_step_that_is_there(lab: Path):
    with pytest.raises(UsageError, match="for a reason"):
        mark_step(facts(lab), "3.push", "skipped", now=NOW)
    with pytest.raises(NotFoundError, match=r"no step '3\.pusch'"):
        mark_step(facts(lab), "3.pusch", "done", now=NOW)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2, "steps": {}}', '{"format": 1, "steps": 3}']
)
def test_a_file_that_is_no_place_is_not_overwritten(lab: Path, text: str):
    (lab / "rollout.json").write_text(text)
    with pytest.raises(FleetFileError, match="not the place of a rollout"):
        mark_step(facts(lab), "3.push", "done", now=NOW)
    assert (lab / "rollout.json").read_text() == text


def test_a_rollout_begins_before_there_is_a_fleet(lab: Path):
    def nothing():
        raise RepositoryError("this device belongs to no repository yet")

    found = rollout_status(look(lab, nothing))
    [step] = [step for step in found.steps if step.id == "2.enroll/yoga"]
    assert step.state == "todo"
    assert "belongs to no repository" in step.why


def test_a_wrong_definition_is_the_first_thing_to_mend(lab: Path):
    (lab / "hosts" / "yoga.nix").write_text("{ }")
    found = rollout_status(facts(lab))
    assert found.next == "1.check"
    assert "hosts with problems: 1" in found.steps[0].why
