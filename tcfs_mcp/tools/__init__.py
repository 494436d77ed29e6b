"""The tools: plain functions that know nothing of MCP. ``serve`` and ``call`` run the same ones."""

from tcfs_mcp.registry import Registry, ToolSpec
from tcfs_mcp.tools.conflicts import list_conflicts, resolve_conflict, show_conflict
from tcfs_mcp.tools.history import log, restore, undo, why
from tcfs_mcp.tools.jobs import job_cancel, job_status
from tcfs_mcp.tools.status import (
    config_show,
    credential_status,
    daemon_status,
    device_status,
    sync_status,
)
from tcfs_mcp.tools.transfer import pull, push

TOOLS = Registry(
    (
        ToolSpec("device_status", "Device and fleet", device_status, "status", read_only=True),
        ToolSpec("sync_status", "State of one file", sync_status, "status", read_only=True),
        ToolSpec("daemon_status", "Background service", daemon_status, "status", read_only=True),
        ToolSpec(
            "credential_status",
            "Sources of credentials",
            credential_status,
            "status",
            read_only=True,
        ),
        ToolSpec("config_show", "Settings", config_show, "status", read_only=True),
        ToolSpec(
            "push", "Send changes to the fleet", push, "transfer", destructive=True, idempotent=True
        ),
        ToolSpec(
            "pull",
            "Fetch the fleet's changes",
            pull,
            "transfer",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec("list_conflicts", "Conflicts", list_conflicts, "conflicts", read_only=True),
        ToolSpec("show_conflict", "One conflict", show_conflict, "conflicts", read_only=True),
        ToolSpec(
            "resolve_conflict",
            "Settle a conflict",
            resolve_conflict,
            "conflicts",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec("log", "History", log, "history", read_only=True),
        ToolSpec("why", "Why a file is as it is", why, "history", read_only=True),
        ToolSpec(
            "restore",
            "Bring a version back",
            restore,
            "history",
            destructive=True,
            idempotent=True,
        ),
        ToolSpec("undo", "Revert changes as a unit", undo, "history", destructive=True),
        ToolSpec("job_status", "State of a job", job_status, "jobs", read_only=True),
        ToolSpec("job_cancel", "Stop a job", job_cancel, "jobs", idempotent=True),
    )
)
