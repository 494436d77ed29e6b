"""``fleet.git.status``: who has which heads, what is uncommitted where, what is behind."""

from __future__ import annotations

import pytest

from tcfs.errors import NotFoundError
from tests.sync.git.repos import BUNDLE, clean, repo
from tests.sync.kit import World


def test_status_tells_heads_uncommitted_work_and_who_is_behind(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    one, other = repo(anna).init(), repo(ben)
    one.commit("a.txt", "one\n")
    one("config", "remote.origin.url", "https://anna:secret@example.org/x.git")
    (before,) = anna.fleet.git.status().repositories
    assert (before.path, before.state) == ("repo", "not_pushed")
    clean(anna.push())
    (seen,) = ben.fleet.git.status().repositories
    assert (seen.state, seen.local, [b.state for b in seen.branches]) == (
        "not_here",
        "",
        ["not_here"],
    )
    clean(ben.pull())
    clean(ben.push())
    first = one.head
    one.commit("a.txt", "two\n")
    one.write("b.txt", "untracked\n")
    (ahead,) = anna.fleet.git.status(anna.path("repo")).repositories
    assert ahead.state == "local_newer"
    assert [(b.name, b.state, b.ahead, b.behind) for b in ahead.branches] == [
        ("main", "ahead", 1, 0)
    ]
    assert (ahead.uncommitted, ahead.paths) == (1, ("b.txt",))
    clean(anna.push())
    (behind,) = ben.fleet.git.status(b"repo").repositories
    assert behind.state == "remote_newer"
    assert [(b.name, b.here, b.fleet) for b in behind.branches] == [("main", first, (one.head,))]
    by_name = {device.device: device for device in behind.devices}
    assert by_name["ben"].behind == ("main",)
    assert by_name["ben"].this_device
    assert by_name["anna"].behind == ()
    assert (by_name["anna"].uncommitted, by_name["anna"].paths) == (1, ("b.txt",))
    # Her settings are told, not applied, and without the password.
    assert by_name["anna"].config_differs == (
        "remote.origin.url: https://example.org/x.git (here: unset)",
    )
    assert other("config", "--get", "remote.origin.url", check=False) == ""
    clean(ben.pull())
    (after,) = ben.fleet.git.status().repositories
    assert after.state == "in_step"


def test_status_tells_why_a_repository_waits(world: World) -> None:
    (anna,) = world.devices("anna", **BUNDLE)
    one = repo(anna).init()
    one.commit("a.txt", "one\n")
    (one.path / ".git" / "MERGE_HEAD").write_text(one.head)
    (waiting,) = anna.fleet.git.status().repositories
    assert (waiting.state, waiting.reason) == ("postponed", "a merge is in progress")


def test_status_of_a_place_without_a_repository_says_so(world: World) -> None:
    (anna,) = world.devices("anna", **BUNDLE)
    anna.fill({"docs/a.txt": "a"})
    anna.push()
    assert anna.fleet.git.status().total == 0
    with pytest.raises(NotFoundError, match="no git repository"):
        anna.fleet.git.status(b"docs")


def test_a_device_that_does_not_sync_repositories_says_so(world: World) -> None:
    (anna,) = world.devices("anna")
    repo(anna).init().commit("a.txt", "one\n")
    anna.push()
    status = anna.fleet.git.status()
    assert (status.enabled, status.mode, status.total) == (False, "off", 1)
