"""What a tool is, apart from any protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tcfs.errors import ToolError

if TYPE_CHECKING:
    from tcfs_mcp.caller import Role


class ToolSpec(Struct, frozen=True):
    """One tool: a typed Python function and what a caller should know before using it.

    The function takes a ``ToolContext`` and then its arguments; its docstring is the description
    that assistants read, and the return type gives the schema of the answer. It has the tool's
    name, and is imported on first use: ``call`` pays for one tool only.

    Attributes:
        module: where the function is.
        toolset: group that ``--tools`` and ``--exclude-tools`` know it by.
        read_only: it changes nothing.
        destructive: it may replace or remove something (whatever it is stays in the history).
        idempotent: doing it twice is doing it once.
        admin: it decides about the fleet or this machine, not about files alone.
    """

    name: str
    title: str
    module: str
    toolset: str
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    admin: bool = False

    @property
    def needs(self) -> Role:
        """The least role that may use it."""
        if self.read_only:
            return "reader"
        return "admin" if self.admin else "writer"

    @property
    def function(self) -> Callable[..., Any]:
        """The tool itself."""
        found: Callable[..., Any] = getattr(import_module(self.module), self.name)
        return found

    @property
    def takes_nothing(self) -> bool:
        """Whether the tool has no arguments."""
        return self.function.__code__.co_argcount == 1

    @property
    def description(self) -> str:
        """What the tool does, for whoever chooses one."""
        import inspect

        text = inspect.getdoc(self.function) or self.title
        return "\n\n".join(part.replace("\n", " ") for part in text.split("\n\n"))


class Registry:
    """All tools, in the order in which they are listed."""

    def __init__(self, specs: Iterable[ToolSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self._specs.values())

    def get(self, name: str) -> ToolSpec:
        """The tool of that name. Raises ToolError with the nearest name."""
        spec = self._specs.get(name)
        if spec is not None:
            return spec
        import difflib

        near = difflib.get_close_matches(name.replace("-", "_"), self._specs, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "List the tools with: tcfs-mcp tools"
        raise ToolError(f"unknown tool: {name[:100]!r}", remedy=hint)

    @property
    def names(self) -> frozenset[str]:
        """Names that select tools: their own and those of their groups."""
        return frozenset(self._specs) | {spec.toolset for spec in self}
