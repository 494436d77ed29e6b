"""``tcfs-mcp call --server``: a tool of a server that runs elsewhere, or that we start."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import CallToolResult, Implementation, TextContent
from mcp.types import Tool as ServerTool

from tcfs import __version__
from tcfs.errors import ConfigError, TcfsError, ToolError, UsageError
from tcfs_mcp.bearer import BearerAuth, TokenFor
from tcfs_mcp.bound import clean, clip
from tcfs_mcp.words import from_words


class ServerError(ToolError):
    """What the server said, passed on with its own code and exit code."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(clean(str(data.get("message", "the tool failed"))))
        self._data = data

    def to_json(self) -> dict[str, Any]:
        """The error as the server told it."""
        told = {key: self._data[key] for key in super().to_json() if key in self._data}
        if not isinstance(told.get("exit_code"), int):
            told.pop("exit_code", None)
        return {**super().to_json(), **told}


def call_server(
    server: str,
    tool: str,
    words: Sequence[str],
    whole: str,
    token_file: str = "",
    token_for: TokenFor | None = None,
) -> dict[str, Any]:
    """Call a tool of a server and return its answer.

    Args:
        server: URL of a streamable HTTP server, or a command line that starts one on stdio.
        words: arguments as ``key=value``; whole: all as one JSON object.
        token_file: file with the bearer token of an HTTP server.
        token_for: finds the token of this device's sign-in, where the server asks for one.

    Raises:
        TcfsError: no such server, tool or argument, or what the tool says.
    """
    try:
        return anyio.run(_call, server, tool, words, whole, token_file, token_for)
    except BaseExceptionGroup as group:
        # Transports run in task groups: what went wrong is somewhere inside.
        error = _first(group)
        if isinstance(error, KeyboardInterrupt):
            raise error from None
        raise _told(error, server) from error
    except (OSError, MCPError, ValueError) as error:
        raise _told(error, server) from error


async def _call(
    server: str,
    tool: str,
    words: Sequence[str],
    whole: str,
    token_file: str,
    token_for: TokenFor | None,
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        if server.startswith(("http://", "https://")):
            auth = BearerAuth(server, token_for, _token(token_file) if token_file else "")
            http = await stack.enter_async_context(create_mcp_http_client(auth=auth))
            transport: Any = streamable_http_client(server, http_client=http)
        else:
            command = shlex.split(server)
            if not command:
                raise UsageError("--server is empty", remedy="Give a URL or a command line.")
            transport = StdioServerParameters(
                command=command[0], args=command[1:], env=dict(os.environ)
            )
        info = Implementation(name="tcfs-mcp-call", version=__version__)
        client = await stack.enter_async_context(Client(transport, client_info=info))
        found = await _find(client, tool)
        properties = found.input_schema.get("properties", {})
        kinds = {name: str(part.get("type", "string")) for name, part in properties.items()}
        arguments = from_words(tool, kinds, words, whole)
        result = await client.call_tool(tool, arguments, progress_callback=_show_progress)
        return _answer(result)


async def _find(client: Client, name: str) -> ServerTool:
    """The server's tool of that name. Raises ToolError with the nearest name."""
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            if tool.name == name:
                return tool
            names.append(tool.name)
        cursor = page.next_cursor
        if not cursor:
            break
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise ToolError(
        f"the server offers no tool {clean(name)[:100]!r}",
        remedy=f"Did you mean {near[0]}?" if near else f"It offers: {', '.join(names)}",
    )


def _answer(result: CallToolResult) -> dict[str, Any]:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    if result.is_error:
        try:
            data = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            data = {"message": clip(text, 2_000)}
        raise ServerError(data if isinstance(data, dict) else {"message": str(data)})
    if isinstance(result.structured_content, dict):
        return result.structured_content
    return {"text": text}


async def _show_progress(
    progress: float, total: float | None = None, message: str | None = None
) -> None:
    if sys.stderr.isatty():
        line = clean(message or f"{progress:g}/{total or 0:g}", multiline=False)
        print(f"\r\033[K{clip(line, 100)}", end="", file=sys.stderr, flush=True)


def _token(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise ConfigError("the token file cannot be read", remedy="Check its path.") from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(error: BaseException, server: str) -> TcfsError:
    if isinstance(error, TcfsError):
        return error
    return ToolError(
        f"cannot talk to the server {clean(server)[:200]!r}: {clip(clean(str(error)), 300)}",
        remedy="Check that it runs and that the URL ends in /mcp, or that the command is right.",
    )
