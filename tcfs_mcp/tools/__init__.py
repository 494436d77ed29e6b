"""The tools: plain functions that know nothing of MCP. ``serve`` and ``call`` run the same ones."""

from tcfs_mcp.registry import Registry, ToolSpec

STATUS = "tcfs_mcp.tools.status"
TRANSFER = "tcfs_mcp.tools.transfer"
CONFLICTS = "tcfs_mcp.tools.conflicts"
HISTORY = "tcfs_mcp.tools.history"
GIT = "tcfs_mcp.tools.git"
UPKEEP = "tcfs_mcp.tools.upkeep"
JOBS = "tcfs_mcp.tools.jobs"
TRUST = "tcfs_mcp.tools.trust"
FLEET = "tcfs_mcp.tools.fleet"

TOOLS = Registry(
    (
        ToolSpec("device_status", "Device and fleet", STATUS, "status", read_only=True),
        ToolSpec("sync_status", "State of one file", STATUS, "status", read_only=True),
        ToolSpec("daemon_status", "Background service", STATUS, "status", read_only=True),
        ToolSpec("credential_status", "Sources of credentials", STATUS, "status", read_only=True),
        ToolSpec("config_show", "Settings", STATUS, "status", read_only=True),
        ToolSpec(
            "push",
            "Send changes to the fleet",
            TRANSFER,
            "transfer",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec(
            "pull",
            "Fetch the fleet's changes",
            TRANSFER,
            "transfer",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec("list_conflicts", "Conflicts", CONFLICTS, "conflicts", read_only=True),
        ToolSpec("show_conflict", "One conflict", CONFLICTS, "conflicts", read_only=True),
        ToolSpec(
            "resolve_conflict",
            "Settle a conflict",
            CONFLICTS,
            "conflicts",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec("log", "History", HISTORY, "history", read_only=True),
        ToolSpec("why", "Why a file is as it is", HISTORY, "history", read_only=True),
        ToolSpec(
            "restore",
            "Bring a version back",
            HISTORY,
            "history",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec("undo", "Revert changes as a unit", HISTORY, "history", destructive=True),
        ToolSpec("audit", "Who did what", TRUST, "trust", read_only=True),
        ToolSpec("explain_access", "Who may do what", TRUST, "trust", read_only=True),
        ToolSpec("git_status", "Git repositories", GIT, "git", read_only=True),
        ToolSpec(
            "gc",
            "Garbage collection",
            UPKEEP,
            "upkeep",
            destructive=True,
            idempotent=True,
            admin=True,
        ),
        ToolSpec("fleet_check", "Definition of the fleet", FLEET, "fleet", read_only=True),
        ToolSpec(
            "fleet_render", "Write a host's file", FLEET, "fleet", idempotent=True, admin=True
        ),
        ToolSpec("fleet_diff", "Declared against running", FLEET, "fleet", read_only=True),
        ToolSpec("fleet_drift", "Devices out of line", FLEET, "fleet", read_only=True),
        ToolSpec("fleet_switch", "Switch this host", FLEET, "fleet", destructive=True, admin=True),
        ToolSpec(
            "fleet_rollout", "Place of a rollout", FLEET, "fleet", idempotent=True, admin=True
        ),
        ToolSpec("job_status", "State of a job", JOBS, "jobs", read_only=True),
        ToolSpec("job_cancel", "Stop a job", JOBS, "jobs", idempotent=True),
    )
)
