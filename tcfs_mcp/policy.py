"""What a caller may do: read-only, which tools, below which directories, and how much at once.

The operator sets it with options of ``tcfs-mcp``; an argument of a tool can narrow it, never
widen it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from tcfs.errors import AccessError, ToolError, UsageError
from tcfs.model.paths import show, unshow
from tcfs_mcp.caller import Role, covers

if TYPE_CHECKING:
    from tcfs.sync.facade import FleetApi, Limits
    from tcfs_mcp.registry import ToolSpec

NOT_GIVEN = -1


class Policy(Struct, frozen=True):
    """The operator's limits.

    Attributes:
        read_only: no tool that changes anything, whatever else is allowed.
        tools: names of tools or toolsets to offer; empty for all.
        exclude: names of tools or toolsets not to offer.
        roots: directories (absolute, symlinks resolved) that local paths must lie in; empty for
            anywhere.
        max_delete: most deletions in one go; -1 for no limit but the configured share.
        max_bytes: most bytes of content sent or fetched in one go; -1 for no limit.
        role: of the caller, where one is known; everything the rest allows where not.
    """

    read_only: bool = False
    tools: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    roots: tuple[bytes, ...] = ()
    max_delete: int = NOT_GIVEN
    max_bytes: int = NOT_GIVEN
    role: Role = "admin"

    def refusal(self, spec: ToolSpec) -> str:
        """Why this tool may not be used; empty if it may."""
        if self.read_only and not spec.read_only:
            return "this server is read-only"
        if self.tools and not self.tools & {spec.name, spec.toolset}:
            return "it is not among the tools that --tools names"
        if self.exclude & {spec.name, spec.toolset}:
            return "it is left out by --exclude-tools"
        if not covers(self.role, spec.needs):
            return f"it takes the role {spec.needs}, and yours is {self.role}"
        return ""

    def check_tool(self, spec: ToolSpec) -> None:
        """Raises ToolError if this tool may not be used."""
        reason = self.refusal(spec)
        if reason:
            raise ToolError(
                f"the tool {spec.name} may not be used: {reason}",
                remedy="Use another tool, or ask whoever runs tcfs-mcp to allow this one.",
            )

    def local_path(self, text: str) -> bytes:
        """A local path that a caller gave: absolute, and inside the allowed directories.

        Checked right before use, since a link may have been put there meanwhile.

        Raises:
            UsageError: it is empty or contains a NUL byte.
            AccessError: it lies outside the allowed directories, also by way of a symlink.
        """
        raw = unshow(text)
        if not raw or b"\0" in raw:
            raise UsageError(
                "a local path is empty or contains a NUL byte", remedy="Give a path on this device."
            )
        path = os.path.join(os.getcwdb(), expand(raw))
        if b".." in path.split(b"/"):
            # What `..` means behind a symlink is for the file system to say.
            head, tail = os.path.split(path.rstrip(b"/"))
            head = os.path.realpath(head)
            path = os.path.realpath(path) if tail == b".." else os.path.join(head, tail)
        # A trailing slash asks to follow a symlink to a directory; the engine knows it as such.
        slash = b"/" if path.endswith(b"/") and path.strip(b"/") else b""
        path = os.path.normpath(path) + slash
        self.check_path(path)
        return path

    def check_path(self, path: bytes) -> None:
        """Raises AccessError if an absolute path lies outside the allowed directories."""
        if not self.roots:
            return
        # Where the path leads, and where the name itself stands: a link inside the allowed
        # directories that points out of them is refused as well.
        parent, name = os.path.split(path.rstrip(b"/") or b"/")
        places = [os.path.realpath(path)]
        if name not in (b"", b".", b".."):
            places.append(os.path.join(os.path.realpath(parent), name))
        if all(any(_inside(place, root) for root in self.roots) for place in places):
            return
        allowed = [show(root) for root in self.roots]
        raise AccessError(
            f"the path {show(path)} lies outside the allowed directories: {', '.join(allowed)}",
            remedy="Give a path inside one of them, or ask whoever runs tcfs-mcp to add --root.",
            details={"path": show(path), "allowed": allowed},
        )

    def check_tracked(self, fleet: FleetApi) -> None:
        """Raises AccessError if this device keeps any directory outside the allowed ones.

        Resolving, restoring and undoing work on remote paths, and what they decide is written to
        the directories that this device keeps.
        """
        if not self.roots:
            return
        for root in fleet.status().roots:
            self.check_path(unshow(root.local))

    def limits(self, max_delete: int, max_bytes: int, approved_deletes: int = NOT_GIVEN) -> Limits:
        """The limits of one call: the operator's, lowered by the arguments.

        An explicit ``max_delete``, or a person's yes, stands for the confirmation that more
        deletions than the configured share need.
        """
        from tcfs.sync.facade import Limits

        explicit = max(max_delete, approved_deletes)
        return Limits(
            max_delete=_least(self.max_delete, explicit),
            max_bytes=_least(self.max_bytes, max_bytes),
            confirmed=explicit >= 0,
        )


def _least(*values: int) -> int | None:
    return min((value for value in values if value >= 0), default=None)


def expand(path: bytes) -> bytes:
    """``~`` and ``~/...`` in the home directory; ``~name`` is a file like any other."""
    return os.path.expanduser(path) if path == b"~" or path.startswith(b"~/") else path


def _inside(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")


def make_policy(
    *,
    read_only: bool = False,
    tools: Sequence[str] = (),
    exclude: Sequence[str] = (),
    roots: Iterable[str] = (),
    max_delete: int = NOT_GIVEN,
    max_bytes: int = NOT_GIVEN,
    known: frozenset[str] = frozenset(),
) -> Policy:
    """The policy that options describe; lists may be separated by commas.

    Raises:
        UsageError: an unknown tool, or an allowed directory that is none.
    """
    chosen, left_out = _names(tools, known), _names(exclude, known)
    resolved = []
    for root in roots:
        path = os.path.realpath(expand(os.fsencode(root)))
        if not os.path.isdir(path):
            raise UsageError(
                f"--root {show(os.fsencode(root))} is not a directory",
                remedy="Name a directory that exists.",
            )
        resolved.append(path)
    return Policy(read_only, chosen, left_out, tuple(resolved), max_delete, max_bytes)


def _names(given: Sequence[str], known: frozenset[str]) -> frozenset[str]:
    names = frozenset(name.strip() for text in given for name in text.split(",") if name.strip())
    unknown = sorted(names - known)
    if unknown:
        raise UsageError(
            f"unknown tool: {unknown[0]!r}", remedy=f"Known are: {', '.join(sorted(known))}"
        )
    return names
