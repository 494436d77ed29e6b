"""An engine that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcfs.errors import LimitError, RepositoryError
from tcfs.sync import access as a
from tcfs.sync import results as r
from tcfs.sync.audit import AuditEntry, AuditReport
from tcfs.sync.facade import Progress
from tcfs.sync.gc import results as g
from tcfs.sync.git.results import BranchStatus, DeviceCopy, GitStatus, RepositoryStatus
from tcfs.sync.upstream_import.restore import ImportReport
from tests.values import replace

DEVICE = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
PHRASE = " ".join(f"word{n:02}" for n in range(1, 25))

PLAN = r.Plan(
    hash="a" * 64,
    counts={"add": 1, "change": 0},
    bytes=5,
    total=1,
    changes=(r.PlannedChange("add", "docs/a.txt", 5),),
)
NOTHING = r.Plan(hash="b" * 64, counts={}, bytes=0, total=0, changes=())


def version(path: str = "docs/a.txt", counter: int = 1, device: str = "yoga", **more: Any):
    """A version with plausible values."""
    fields: dict[str, Any] = {
        "id": f"{DEVICE}:{counter}",
        "path": path,
        "op": "write",
        "kind": "file",
        "size": 5,
        "file_hash": "c" * 64,
        "mode": 0o644,
        "mtime_ns": 0,
        "device_id": DEVICE,
        "device": device,
        "actor": "cli",
        "written_at": 1_700_000_000,
        "lamport": counter,
        "segment": f"{DEVICE}/1",
    }
    return r.VersionInfo(**(fields | more))


def conflict(path: str = "docs/a.txt"):
    """Two devices wrote to one path."""
    ours, theirs = version(path, 1), version(path, 2, "bates", device_id=OTHER)
    return r.ConflictInfo(path, (ours, theirs), local_version=ours.id, would_win=theirs.id)


def done(**more: Any) -> r.SyncResult:
    """A push or pull that changed one file."""
    base = r.SyncResult(
        plan=PLAN,
        dry_run=False,
        transfer=r.Transfer(files=1, bytes_sent=100, seconds=0.5),
        segment=f"{DEVICE}/1",
        remote="tcfs/default/docs",
        local="/home/me/docs",
    )
    return replace(base, **more)


class FakeFleet:
    """Answers by method name from ``answers`` (an exception is raised), else something plain."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.closed = False
        self.reports: list[Progress] = []

    def called(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments of every call of ``name``."""
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]

    def close(self) -> None:
        self.closed = True

    @property
    def access(self) -> Part:
        return Part(self, "access")

    @property
    def upstream(self) -> Part:
        return Part(self, "upstream")

    @property
    def audit(self) -> Part:
        return Part(self, "audit")

    @property
    def git(self) -> FakeGit:
        return FakeGit(self)

    @property
    def gc(self) -> FakeFleet:
        """Its methods are answered for like the others."""
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in PLAIN and name not in self.answers:
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            for report in self.reports:
                if kwargs.get("progress"):
                    kwargs["progress"](report)
            answer = self.answers.get(name, PLAIN.get(name))
            if callable(answer):
                answer = answer(*args, **kwargs)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


class Part:
    """A property of the fleet with methods of its own: ``access.rules`` and so on."""

    def __init__(self, fleet: FakeFleet, name: str) -> None:
        self._fleet = fleet
        self._name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._fleet, f"{self._name}.{name}")


class FakeGit:
    """``fleet.git``."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet = fleet

    def status(self, path: bytes = b"") -> GitStatus:
        return self._fleet.git_status(path)


def within_share(*_args: Any, **kwargs: Any) -> Any:
    """Refuses to delete so much until someone said yes."""
    if kwargs["limits"].confirmed:
        return done()
    return LimitError(
        "40 of 50 paths would be deleted; 25 are allowed in one go",
        remedy="Look at them with --dry-run. If they are meant, say --yes.",
        details={"deletions": 40, "allowed": 25, "plan": "f" * 64},
    )


def resolved(path: str, resolution: str, **kwargs: Any) -> r.ResolveResult:
    """What settling a conflict answers."""
    return r.ResolveResult(path, resolution, dry_run=kwargs.get("dry_run", False))  # type: ignore[arg-type]


STATUS = r.Status(
    device_id=DEVICE,
    device_name="yoga",
    endpoint="file:///srv/store",
    repo="d" * 32,
    encryption=True,
    namespace="default",
    role="admin",
    revoked=False,
    devices=2,
    conflicts=1,
    roots=(r.RootInfo("/home/me/docs", "tcfs/default", True, 12, 3),),
    outbox=0,
    warnings=("the recovery phrase is not confirmed; run: tcfs init --show-phrase",),
)
DEVICES = [
    r.DeviceInfo(DEVICE, "yoga", "admin", False, 1_700_000_000, True),
    r.DeviceInfo(OTHER, "bates", "writer", True, 1_700_000_000, False),
]
DETAIL = r.ConflictDetail(
    path="docs/a.txt",
    base=r.Side(version(counter=0), "one\n"),
    ours=r.Side(version(counter=1), "one\ntwo\n"),
    theirs=r.Side(version(counter=2, device="bates"), "zero\none\n"),
    merge_possible=True,
    proposed_merge="zero\none\ntwo\n",
)

RULES = a.AclList(
    "default",
    (a.RuleInfo(f"device:{OTHER}", "bates", "docs/**", ("read", "write"), "admin"),),
    {"ops": ("bates",)},
    ("bates", "yoga"),
)
AUDIT = AuditReport(
    entries=(
        AuditEntry(1_700_000_000, "accepted", "write", "default", DEVICE, "yoga", path="docs/a"),
        AuditEntry(
            1_700_000_001,
            "refused",
            "acl",
            "_control",
            OTHER,
            "bates",
            reason="no rule lets its author set rules",
            details={"subject": "any"},
        ),
    ),
    total=3,
    verified=True,
    problems=(),
    heads={f"default/{DEVICE}": (1, "e" * 64)},
)
REPOSITORIES = GitStatus(
    enabled=True,
    mode="bundle",
    total=1,
    repositories=(
        RepositoryStatus(
            "src/tool",
            "/home/me/src/tool",
            "remote_newer",
            head="main",
            branches=(BranchStatus("main", "behind", "a" * 40, ("b" * 40,), 0, 2),),
            branch_count=1,
            uncommitted=1,
            paths=("notes.txt",),
            devices=(
                DeviceCopy(
                    OTHER,
                    "bates",
                    False,
                    1_700_000_000,
                    "main",
                    config_differs=("remote.origin.url: https://example.org (here: unset)",),
                ),
            ),
        ),
    ),
)
PENDING = r.PendingDevice(
    OTHER, "bates", "writer", "0011 2233 4455 6677 8899 aabb ccdd eeff", "i1", 1_700_000_000, 1
)

PLAIN: dict[str, Any] = {
    "push": done(),
    "pull": done(),
    "sync": (done(plan=NOTHING), done()),
    "conflicts": r.ConflictPage((conflict(),), 1),
    "show_conflict": DETAIL,
    "resolve": resolved,
    "log": r.LogPage((version(live=True), version(counter=0)), next="x:1"),
    "why": r.Why(
        "docs/a.txt", "up_to_date", (r.WhyStep(version(live=True), "current", "written here"),)
    ),
    "restore": done(),
    "undo": r.UndoResult(("docs/a.txt",), (), False, PLAN),
    "verify": r.VerifyReport(True, 3, 2, 0, 0),
    "rebuild_index": r.RebuildResult(3, 4, 5, 2),
    "status": STATUS,
    "path_status": r.PathStatus("docs/a.txt", "tcfs/default/docs/a.txt", "up_to_date", "in step"),
    "complete_paths": ["docs/", "docs/a.txt"],
    "git_status": REPOSITORIES,
    "devices": DEVICES,
    "invite": r.InviteResult("tcfs-invite-CODE", "i1", "writer", 1_700_003_600),
    "revoke": DEVICES[1],
    "access.rules": RULES,
    "access.set": RULES,
    "access.set_group": RULES,
    "access.explain": a.AclExplanation(
        "default",
        "docs/a.txt",
        "bates",
        "writer",
        False,
        (a.Answer("write", False, "the rules here do not give it write", RULES.rules),),
    ),
    "access.create_namespace": a.NamespaceInfo("private", 1, ("yoga",), True),
    "access.namespaces": [a.NamespaceInfo("default", 2, ("yoga", "bates"), True)],
    "access.confirm": [DEVICES[0]],
    "access.pending": [PENDING],
    "access.request": PENDING,
    "access.admit": DEVICES[1],
    "access.open_enrollment": r.EnrollmentResult(10, "writer", 1_700_003_600),
    "upstream.run": ImportReport(files=2, bytes=10, up_to_date=1, segment=f"{DEVICE}/1"),
    "audit.report": AUDIT,
    "audit.export": AUDIT,
    "run": g.GcResult(
        False,
        "e" * 32,
        orphans=g.Amount(2, 5_000_000),
        swept=g.Amount(1, 3_000_000),
        waiting=g.Amount(1, 1_000_000),
        waiting_for=(g.Awaited(OTHER, "bates", 1_700_000_000, 1),),
    ),
    "expire": DEVICES[1],
    "retention": g.RetentionInfo(90, None, (g.HoldInfo("v1", 3),), 10, 2),
    "set_retention": g.RetentionInfo(90, 5, (), 10, 2),
    "hold": g.RetentionInfo(None, None, (g.HoldInfo("v1", 3),), 10, 0),
    "release": g.RetentionInfo(None, None, (), 10, 0),
    "dismiss": None,
    "snapshot": g.SnapshotResult("f" * 64, 10, 4, 20, 3000, 2, ("bates",)),
    "phrase_pending": True,
    "pending_phrase": PHRASE,
    "confirm_phrase": None,
}


class FakeEngine:
    """The entry points of the engine."""

    def __init__(self, fleet: FakeFleet, *, absent: bool = False) -> None:
        self.fleet = fleet
        self.absent = absent
        self.opened: list[dict[str, Any]] = []
        self.joined: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[Any] = []
        """How identities were to be guarded."""

    def open_fleet(self, loaded: Any, **kwargs: Any) -> FakeFleet:
        self.opened.append({"loaded": loaded, **kwargs})
        if self.absent:
            raise RepositoryError("the store holds no repository")
        return self.fleet

    def _join(self, how: str, kwargs: dict[str, Any], phrase: str = "") -> r.InitResult:
        self.keys.append(kwargs.pop("keys"))
        self.joined.append((how, kwargs))
        self.absent = False
        return r.InitResult(DEVICE, "yoga", "file:///srv/store", "d" * 32, phrase, ("made keys",))

    def init_fleet(self, loaded: Any, **kwargs: Any) -> r.InitResult:
        return self._join("init", kwargs, "" if kwargs["encryption"] is False else PHRASE)

    def recover_fleet(self, loaded: Any, **kwargs: Any) -> r.InitResult:
        return self._join("recover", kwargs)

    def enroll_fleet(self, loaded: Any, **kwargs: Any) -> r.InitResult:
        if not kwargs.get("passphrase"):
            kwargs.pop("passphrase", None)
        return self._join("enroll", kwargs)

    def protect_device(self, loaded: Any, keys: Any) -> str:
        self.keys.append(keys)
        return "file"
