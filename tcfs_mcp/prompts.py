"""Prompts: Markdown files with a small head, so that anyone can read and improve them.

The head stands between two lines ``---``: ``name``, ``title``, ``description``, and below
``arguments:`` one line for each, ``  name: description`` or ``  name?: description`` where it may
be left out. In the text ``{{name}}`` stands for an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from tcfs.errors import ConfigError
from tcfs_mcp.bound import clean, clip

if TYPE_CHECKING:
    from mcp.server import MCPServer

MAX_ARGUMENT = 4_096
_HOLE = re.compile(r"\{\{(\w+)\}\}")
_ARGUMENT = re.compile(r"  (\w+)(\??): (.+)")


@dataclass(frozen=True, slots=True)
class PromptArgument:
    """One thing that a prompt asks for."""

    name: str
    description: str
    required: bool


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as its file has it."""

    name: str
    title: str
    description: str
    arguments: tuple[PromptArgument, ...]
    body: str

    def fill(self, values: dict[str, str]) -> str:
        """The text with its arguments, which are data, in their places."""

        def value(match: re.Match[str]) -> str:
            text = values.get(match[1], "")
            return clip(clean(text, multiline=False), MAX_ARGUMENT)

        return _HOLE.sub(value, self.body)


def parse_prompt(text: str, source: str) -> PromptText:
    """Read a prompt's file. Raises ConfigError."""
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise ConfigError(f"the prompt {source} does not begin with a head between two lines ---")
    fields: dict[str, str] = {}
    arguments: list[PromptArgument] = []
    for line in parts[1].splitlines():
        found = _ARGUMENT.fullmatch(line)
        if found:
            arguments.append(PromptArgument(found[1], found[3].strip(), not found[2]))
            continue
        key, colon, value = line.partition(":")
        if not colon or (key == "arguments") == bool(value.strip()):
            raise ConfigError(f"the head of the prompt {source} has a line that means nothing")
        fields[key] = value.strip()
    missing = {"name", "title", "description"} - fields.keys()
    unknown = set(_HOLE.findall(parts[2])) - {argument.name for argument in arguments}
    if missing or unknown:
        raise ConfigError(f"the prompt {source} lacks {', '.join(sorted(missing | unknown))}")
    return PromptText(
        fields["name"], fields["title"], fields["description"], tuple(arguments), parts[2].strip()
    )


def load_prompts(folder: Traversable | None = None) -> list[PromptText]:
    """All prompts, by name. Raises ConfigError."""
    folder = folder if folder is not None else resources.files("tcfs_mcp") / "_prompts"
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".md")),
        key=lambda entry: entry.name,
    )
    return [parse_prompt(entry.read_text(encoding="utf-8"), entry.name) for entry in files]


def add_prompts(server: MCPServer[None]) -> None:
    """Add every prompt to a server."""
    from mcp.server.mcpserver.prompts import Prompt
    from mcp.server.mcpserver.prompts.base import PromptArgument as Argument

    for text in load_prompts():
        server.add_prompt(
            Prompt(
                name=text.name,
                title=text.title,
                description=text.description,
                arguments=[
                    Argument(name=a.name, description=a.description, required=a.required)
                    for a in text.arguments
                ],
                fn=_filled(text),
                context_kwarg=None,
            )
        )


def _filled(text: PromptText) -> Callable[..., str]:
    def fill(**values: str) -> str:
        return text.fill(values)

    return fill
