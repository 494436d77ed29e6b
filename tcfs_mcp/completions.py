"""Completing paths and device names while someone types them."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import anyio.to_thread
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from tcfs.errors import TcfsError
from tcfs_mcp.bound import clean
from tcfs_mcp.door import Door

if TYPE_CHECKING:
    from mcp.server import MCPServer

MAX_VALUES = 50
ACTOR = "mcp"
logger = logging.getLogger(__name__)


def add_completions(server: MCPServer[None], door: Door) -> None:
    """Complete the arguments ``path`` and ``device`` of prompts and resources."""

    async def complete(
        _ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _context: CompletionContext | None,
    ) -> Completion:
        values = await anyio.to_thread.run_sync(
            functools.partial(_values, door, argument.name, argument.value)
        )
        return Completion(values=values[:MAX_VALUES], has_more=len(values) > MAX_VALUES)

    server.completion()(complete)  # type: ignore[no-untyped-call]


def _values(door: Door, name: str, begun: str) -> list[str]:
    """What may be meant; empty where nothing is known, since a completion is only a help."""
    if name not in ("path", "device"):
        return []
    try:
        with door.context(ACTOR).fleet() as fleet:
            if name == "path":
                return [clean(path) for path in fleet.complete_paths(begun, MAX_VALUES + 1)]
            names = (clean(device.name) for device in fleet.devices())
            return sorted(found for found in names if found.startswith(begun))
    except TcfsError as error:
        logger.info("no completion: %s", error.code)
    return []
