"""A fleet that lives in memory: for faults and timing that the real engine has no switch for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tcfs.config import LoadedConfig, load_config
from tcfs.errors import CancelledError, NotFoundError
from tcfs.sync import results as r
from tcfs.sync.access import AclExplanation, Answer, RuleInfo
from tcfs.sync.audit import AuditEntry, AuditReport
from tcfs.sync.facade import Limits, Progress
from tcfs.sync.gc import results as g
from tcfs.sync.git.results import GitStatus, RepositoryStatus
from tcfs_mcp.door import Door
from tcfs_mcp.jobs import Jobs
from tcfs_mcp.policy import Policy
from tcfs_mcp.tools import TOOLS
from tests.values import replace

DEVICE = "0a8c7a3e-4f0e-4f7e-9a51-3f6f2b1d0c11"


def version(path: str = "docs/a.txt", counter: int = 1, **changes: Any) -> r.VersionInfo:
    """A version of a path."""
    found = r.VersionInfo(
        id=f"{DEVICE}:{counter}",
        path=path,
        op="write",
        kind="file",
        size=12,
        file_hash="ab" * 32,
        mode=0o644,
        mtime_ns=1_700_000_000_000_000_000,
        device_id=DEVICE,
        device="alpha",
        actor="cli",
        written_at=1_700_000_000,
        lamport=counter,
        segment=f"{DEVICE}/{counter}",
        vclock={DEVICE: counter},
    )
    return replace(found, **changes)


def conflict(path: str = "docs/a.txt", **changes: Any) -> r.ConflictInfo:
    """A conflict of two versions of a path."""
    return r.ConflictInfo(
        path, (version(path, 1, **changes), version(path, 2, device="beta", **changes))
    )


def result(**changes: Any) -> r.SyncResult:
    """The outcome of a push of one file."""
    plan = r.Plan("ab" * 16, {"add": 1}, 12, 1, (r.PlannedChange("add", "docs/a.txt", 12),))
    found = r.SyncResult(plan, False, segment=f"{DEVICE}/1", remote="tcfs/default/docs/a.txt")
    return replace(found, **changes)


class FakeAudit:
    """One change, and nothing else."""

    def report(self, **asked: Any) -> AuditReport:
        entry = AuditEntry(1_700_000_000, "accepted", "write", "default", "d", "yoga", path="a")
        return AuditReport((entry,), 1, asked["verify"], (), {"default/d": (1, "e" * 64)})


class FakeAccess:
    """A rule that says no."""

    def explain(self, path: str, *, device: str = "") -> AclExplanation:
        rule = RuleInfo("any", "any", "**", ("read",), "admin")
        answers = (Answer("write", False, "the rules here do not give it write", (rule,)),)
        return AclExplanation("default", path, device or "yoga", "writer", True, answers)


@dataclass
class FakeFleet:
    """Answers what a test tells it to, and remembers what it was asked."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    actors: list[str] = field(default_factory=list)
    created: list[bool] = field(default_factory=list)
    outcome: r.SyncResult = field(default_factory=result)
    found_conflicts: list[r.ConflictInfo] = field(default_factory=list)
    versions: list[r.VersionInfo] = field(default_factory=lambda: [version()])
    roots: tuple[r.RootInfo, ...] = ()
    detail: r.ConflictDetail | None = None
    repositories: tuple[RepositoryStatus, ...] = ()
    file: r.Side = field(default_factory=lambda: r.Side(version(), "hello\n"))
    during_push: Callable[[FakeFleet, Any], None] | None = None
    limits: list[Limits] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    @property
    def audit(self) -> FakeAudit:
        return FakeAudit()

    @property
    def access(self) -> FakeAccess:
        return FakeAccess()

    def _work(self, name: str, asked: dict[str, Any]) -> r.SyncResult:
        self.calls.append((name, asked))
        self.limits.append(asked["limits"])
        if self.during_push is not None:
            self.during_push(self, asked)
        return replace(self.outcome, dry_run=asked["dry_run"])

    def push(self, paths: list[bytes], **asked: Any) -> r.SyncResult:
        return self._work("push", {"paths": paths, **asked})

    def pull(self, remote: str = "", local: bytes = b"", **asked: Any) -> r.SyncResult:
        return self._work("pull", {"remote": remote, "local": local, **asked})

    def conflicts(self, *, prefix: str = "", after: str = "", limit: int = 100) -> r.ConflictPage:
        rest = [c for c in self.found_conflicts if c.path > after and c.path.startswith(prefix)]
        page = tuple(rest[:limit])
        more = page[-1].path if len(rest) > limit else ""
        return r.ConflictPage(page, len(self.found_conflicts), more)

    def show_conflict(self, path: str, *, max_bytes: int = 16384) -> r.ConflictDetail:
        self.calls.append(("show_conflict", {"path": path, "max_bytes": max_bytes}))
        if self.detail is None:
            raise NotFoundError(f"no conflict at {path}")
        return self.detail

    def resolve(
        self, path: str, resolution: r.Resolution, *, dry_run: bool = False
    ) -> r.ResolveResult:
        self.calls.append(("resolve", {"path": path, "resolution": resolution}))
        return r.ResolveResult(path, resolution, dry_run=dry_run, message="settled")

    def log(self, path: str = "", *, before: str = "", limit: int = 50) -> r.LogPage:
        start = int(before or 0)
        page = tuple(self.versions[start : start + limit])
        more = str(start + limit) if start + limit < len(self.versions) else ""
        return r.LogPage(page, more)

    def why(self, path: str) -> r.Why:
        return r.Why(path, "up_to_date", (r.WhyStep(version(path), "current", "written"),))

    def restore(self, path: str, version: str, *, dry_run: bool = False) -> r.SyncResult:
        self.calls.append(("restore", {"path": path, "version": version}))
        return replace(self.outcome, dry_run=dry_run)

    def undo(self, **asked: Any) -> r.UndoResult:
        self.calls.append(("undo", asked))
        return r.UndoResult(("docs/a.txt",), (), asked["dry_run"], self.outcome.plan)

    def read(self, path: str, *, max_bytes: int) -> r.Side:
        self.calls.append(("read", {"path": path}))
        if path.startswith("absent"):
            raise NotFoundError(f"no such file: {path}")
        return self.file

    def status(self) -> r.Status:
        return r.Status(
            device_id=DEVICE,
            device_name="alpha",
            endpoint="file:///store",
            repo=DEVICE,
            encryption=True,
            namespace="default",
            role="admin",
            revoked=False,
            devices=2,
            conflicts=len(self.found_conflicts),
            roots=self.roots,
            outbox=0,
        )

    def path_status(self, path: bytes) -> r.PathStatus:
        self.calls.append(("path_status", {"path": path}))
        return r.PathStatus("docs/a.txt", "tcfs/default/docs/a.txt", "up_to_date", "in step")

    @property
    def gc(self) -> FakeGc:
        return FakeGc(self)

    def complete_paths(self, prefix: str, limit: int = 50) -> list[str]:
        known = ["docs/a.txt", "docs/b.txt", "music/c.flac"]
        return [path for path in known if path.startswith(prefix)][:limit]

    def devices(self) -> list[r.DeviceInfo]:
        return [
            r.DeviceInfo(DEVICE, "alpha", "admin", False, 1_700_000_000, True),
            r.DeviceInfo(DEVICE, "beta", "writer", False, 1_700_000_000, False),
        ]

    @property
    def git(self) -> FakeFleet.Git:
        return FakeFleet.Git(self.repositories)

    @dataclass
    class Git:
        """Repositories of the fake."""

        repositories: tuple[RepositoryStatus, ...]

        def status(self, path: bytes = b"") -> GitStatus:
            return GitStatus(True, "bundle", self.repositories, len(self.repositories))

    def close(self) -> None:
        self.calls.append(("close", {}))


class FakeGc:
    """Garbage collection, made up."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet = fleet

    def run(self, **asked: Any) -> g.GcResult:
        self._fleet.calls.append(("gc", asked))
        return g.GcResult(asked["dry_run"], "e" * 32, orphans=g.Amount(1, 300))


def until_cancelled(fleet: FakeFleet, asked: dict[str, Any]) -> None:
    """A push that works until it is told to stop."""
    asked["progress"](Progress("upload", 1, 10, "files"))
    fleet.entered.set()
    wait = threading.Event()
    # The engine asks between steps; so does this, without being busy.
    while not asked["cancel"]():
        wait.wait(0.005)
    fleet.stopped.set()
    raise CancelledError("stopped as asked")


def until_released(fleet: FakeFleet, asked: dict[str, Any]) -> None:
    """A push that works until the test lets it end."""
    asked["progress"](Progress("upload", 1, 10, "files"))
    fleet.entered.set()
    assert fleet.hold.wait(30)


def make_door(
    fleet: FakeFleet,
    *,
    policy: Policy | None = None,
    jobs: Jobs | None = None,
    job_after: float = 20.0,
    **more: Any,
) -> Door:
    """A door to the fake."""

    def open_fleet(
        _loaded: LoadedConfig, actor: str, create: bool, _notice: Callable[[str], None]
    ) -> Any:
        fleet.actors.append(actor)
        fleet.created.append(create)
        return fleet

    return Door(
        registry=TOOLS,
        load=lambda: load_config(environ={"HOME": "/nowhere", "TCFS_HOME": "/nowhere/tcfs"}),
        open_fleet=open_fleet,
        policy=policy or Policy(),
        jobs=jobs,
        job_after=job_after,
        warn=lambda _text: None,
        **more,
    )
