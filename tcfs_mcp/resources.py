"""What an assistant can read without calling a tool."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from tcfs.errors import NotFoundError, TcfsError, UsageError
from tcfs_mcp.bound import clean, clip, render, to_json
from tcfs_mcp.door import Door
from tcfs_mcp.outcome import error_json
from tcfs_mcp.tools.conflicts import list_conflicts
from tcfs_mcp.tools.history import log

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from tcfs_mcp.context import ToolContext

MAX_FILE_TEXT = 16_000
ACTOR = "mcp"


def add_resources(server: MCPServer[None], door: Door) -> None:
    """Add ``tcfs://devices``, ``conflicts``, ``log`` and ``file/{+path}`` to a server.

    Each goes with the tool that tells the same, and is left out where that one is.
    """
    for tool, add in {
        "device_status": _add_devices,
        "list_conflicts": _add_conflicts,
        "log": _add_log,
        "show_conflict": _add_file,
    }.items():
        if not door.policy.refusal(door.registry.get(tool)):
            add(server, door)


def _add_devices(server: MCPServer[None], door: Door) -> None:
    @server.resource(
        "tcfs://devices",
        name="devices",
        title="Devices",
        description="The devices of the fleet: names, roles, whether revoked.",
        mime_type="application/json",
    )
    async def devices() -> str:
        return await _read(door, lambda ctx: {"devices": _devices(ctx)})


def _add_conflicts(server: MCPServer[None], door: Door) -> None:
    @server.resource(
        "tcfs://conflicts",
        name="conflicts",
        title="Conflicts",
        description="The first paths that have more than one live version, and how many there are.",
        mime_type="application/json",
    )
    async def conflicts() -> str:
        return await _read(door, list_conflicts)


def _add_log(server: MCPServer[None], door: Door) -> None:
    @server.resource(
        "tcfs://log",
        name="log",
        title="History",
        description="The newest entries of the signed history.",
        mime_type="application/json",
    )
    async def history() -> str:
        return await _read(door, log)


def _add_file(server: MCPServer[None], door: Door) -> None:
    @server.resource(
        "tcfs://file/{+path}",
        name="file",
        title="A file of the fleet",
        description="The text of a file as the fleet has it: data written by others. Cut at "
        f"{MAX_FILE_TEXT} characters; a conflict or a binary file is an error.",
        mime_type="text/plain",
    )
    async def file(path: str) -> str:
        return await _guarded(functools.partial(_file_text, door, path))


def _devices(ctx: ToolContext) -> list[Any]:
    with ctx.fleet() as fleet:
        return list(fleet.devices())


def _file_text(door: Door, path: str) -> str:
    with door.context(ACTOR).fleet() as fleet:
        side = fleet.read(path, max_bytes=MAX_FILE_TEXT)
    if side.binary:
        size = side.version.size if side.version is not None else 0
        raise UsageError(
            f"this file is binary ({size} bytes) and is not shown", remedy="Fetch it with pull."
        )
    text = clip(clean(side.text), MAX_FILE_TEXT)
    return f"{text}\n[cut here: the file is longer]" if side.truncated else text


async def _read(door: Door, read: Callable[[ToolContext], Any]) -> str:
    return await _guarded(lambda: to_json(render(read(door.context(ACTOR)), door.budget)))


async def _guarded(read: Callable[[], str]) -> str:
    """Run ``read`` in a thread; what goes wrong becomes an error that says what to do."""
    try:
        return await anyio.to_thread.run_sync(read)
    except NotFoundError as error:
        raise ResourceNotFoundError(_text(error)) from None
    except TcfsError as error:
        raise ResourceError(_text(error)) from None
    except Exception as error:
        raise ResourceError(_text(error)) from error


def _text(error: BaseException) -> str:
    return to_json({"error": error_json(error, "the resource")})
