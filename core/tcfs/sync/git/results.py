"""What is told of repositories: plain values, bounded, paths and names shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BranchState = Literal[
    "same", "ahead", "behind", "diverged", "conflict", "only_here", "not_here", "unknown"
]
RepositoryState = Literal[
    "in_step",
    "local_newer",
    "remote_newer",
    "conflict",
    "postponed",
    "refused",
    "not_here",
    "removed",
    "not_pushed",
]


@dataclass(frozen=True, slots=True)
class BranchStatus:
    """One branch, here and in the fleet.

    Attributes:
        ahead, behind: commits that one side has and the other has not, where both are known here.
        fleet: the fleet's values, more than one in a conflict.
    """

    name: str
    state: BranchState
    here: str = ""
    fleet: tuple[str, ...] = ()
    ahead: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class DeviceCopy:
    """One device's copy of a repository, as of its last push from there.

    Attributes:
        behind: branches that it had other commits of than the fleet has now, or did not have.
        paths: some of the uncommitted ones.
        config_differs: settings that differ from this device's, as ``key: theirs (here: ours)``.
    """

    device_id: str
    device: str
    this_device: bool
    reported_at: int
    head: str
    branches: dict[str, str] = field(default_factory=dict)
    behind: tuple[str, ...] = ()
    stashes: int = 0
    uncommitted: int = 0
    paths: tuple[str, ...] = ()
    not_carried: tuple[str, ...] = ()
    config_differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryStatus:
    """One repository.

    Attributes:
        path: where it is in the fleet.
        local: where it is here; empty if it is not.
        state: ``in_step``; ``local_newer`` and ``remote_newer``: a push or pull has something to
            do; ``conflict``; ``postponed``: somebody is in the middle of something here;
            ``refused``: it does not travel; ``not_here``; ``removed``: from the fleet, and this
            device has it still; ``not_pushed`` yet.
        reason: why it waits or is refused.
    """

    path: str
    local: str
    state: RepositoryState
    reason: str = ""
    head: str = ""
    branches: tuple[BranchStatus, ...] = ()
    branch_count: int = 0
    conflicts: tuple[str, ...] = ()
    uncommitted: int = 0
    paths: tuple[str, ...] = ()
    stashes: int = 0
    devices: tuple[DeviceCopy, ...] = ()


@dataclass(frozen=True, slots=True)
class GitStatus:
    """Repositories in path order. ``enabled``: whether this device syncs them, as bundles."""

    enabled: bool
    mode: str
    repositories: tuple[RepositoryStatus, ...]
    total: int
