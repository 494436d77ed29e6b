"""Access rules: which device may do what at which path, as a pure function of signed changes.

A rule names a subject (one device, a group, or any enrolled device), what it is given, and a glob.
Rules are changes in the control ledger, and each says *since* where it holds: for every chain, the
last segment its author had accepted. What a chain said up to there is judged by the rules before;
everything later by the new ones, whatever times or heads it claims. So the answer follows from
the set of signed changes alone, and a device cannot get round a rule by not having seen it. An
honest write that was on its way meanwhile is refused too; its bytes stay with its author.

How rules combine, at one path:

1. No glob matches: the device's role decides.
2. Else the most specific of the matching globs decide, alone: the one that names more leading
   components without a wildcard, then the one with more literal bytes. What they give a device
   is the union of what they give it by name, by its groups, and to any. Nobody else gets anything.
3. A rule gives nothing that a role does not: a reader never writes.

A *delegate* is a writer whom an admin's rule gives ``admin`` somewhere. It may set rules, which
count only at paths where it has ``admin`` by admins' rules, and cannot pass ``admin`` on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, get_args

from msgspec import Struct

from tcfs.errors import UsageError
from tcfs.model.event import Op
from tcfs.model.ids import CONTROL, DeviceId, NamespaceId, is_uuid

Permission = Literal["read", "write", "delete", "admin"]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)
NEEDED: Final[Mapping[Op, Permission]] = {"write": "write", "setattr": "write", "delete": "delete"}
"""What each content event takes."""
ANY: Final = "any"
"""The subject that is every enrolled device."""
MAX_PATTERN: Final = 1024
EVERYTHING: Final = b"**"

_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_WILD = re.compile(rb"[*?]")

Since = Mapping[NamespaceId, Mapping[DeviceId, int]]
"""By namespace and chain, the last seq that a change does not concern; 0 where not named."""


class Author(Struct, frozen=True):
    """A delegate, and the segment of its control chain that it spoke in, and where there."""

    device: DeviceId
    seq: int
    index: int = 0


class Rule(Struct, frozen=True):
    """Who gets what where. ``author`` is None for a rule of an admin or the root.

    ``subject`` is ``any``, ``device:<id>`` or ``group:<name>``.
    """

    subject: str
    path: bytes
    permissions: frozenset[Permission]
    author: Author | None = None

    def matches(self, path: bytes) -> bool:
        """Whether the rule's glob covers a path."""
        return _compiled(self.path).fullmatch(path) is not None

    @property
    def specificity(self) -> tuple[int, int]:
        """Leading components without a wildcard, then literal bytes."""
        return _specificity(self.path)


class RuleChange(Struct, frozen=True):
    """A rule set, or removed where ``permissions`` is None; one per subject and glob."""

    namespace: NamespaceId
    subject: str
    path: bytes
    permissions: frozenset[Permission] | None
    since: Since
    author: Author | None = None


class GroupChange(Struct, frozen=True):
    """Who belongs to a group from here on. Only admins say so."""

    name: str
    members: frozenset[DeviceId]
    since: Since


Change = RuleChange | GroupChange


class Decision(Struct, frozen=True):
    """Whether something may be done, why, and which rules said so (none: the role did)."""

    allowed: bool
    reason: str
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleView:
    """The rules of one namespace as they hold at one place of history."""

    rules: tuple[Rule, ...]
    groups: Mapping[str, frozenset[DeviceId]]
    ruleset: Ruleset = field(repr=False, compare=False)
    namespace: NamespaceId

    def decide(self, device: DeviceId, role: str, path: bytes, permission: Permission) -> Decision:
        """Whether a device of that role may do that at a path."""
        if role == "reader" and permission != "read":
            return Decision(False, "its role is reader")
        if role == "admin" and permission == "admin":
            return Decision(True, "its role is admin")
        matching = [r for r in self.rules if r.matches(path) and self._counts(r, path, permission)]
        if not matching:
            if permission == "admin":
                return Decision(False, "no rule gives it admin here")
            return Decision(True, f"no rule covers this path, and its role is {role}")
        best = max(rule.specificity for rule in matching)
        deciding = tuple(rule for rule in matching if rule.specificity == best)
        if any(permission in rule.permissions for rule in deciding if self._names(rule, device)):
            return Decision(True, f"a rule gives it {permission} here", deciding)
        return Decision(False, f"the rules here do not give it {permission}", deciding)

    def may_read_somewhere(self, device: DeviceId) -> bool:
        """Whether a device is to hold the namespace's key.

        It is, unless rules close the whole namespace and none gives it ``read`` anywhere.
        """
        if not any(rule.path == EVERYTHING and rule.author is None for rule in self.rules):
            return True
        return any("read" in r.permissions and self._names(r, device) for r in self.rules)

    def any_device_may_read(self) -> bool:
        """Whether a device that nobody knows yet is to hold the namespace's key."""
        return self.may_read_somewhere(DeviceId(""))

    def _names(self, rule: Rule, device: DeviceId) -> bool:
        if rule.subject == ANY:
            return True
        kind, _, name = rule.subject.partition(":")
        if kind == "group":
            return device in self.groups.get(name, ())
        return name == device

    def _counts(self, rule: Rule, path: bytes, permission: Permission) -> bool:
        if rule.author is None:
            return True
        return permission != "admin" and self.ruleset.delegates(self.namespace, rule.author, path)


class Ruleset(Struct, frozen=True):
    """All accepted changes, in the order of the control fold."""

    changes: tuple[Change, ...] = ()

    def governs(self, namespace: NamespaceId) -> bool:
        """Whether any rule was ever set in a namespace."""
        return any(isinstance(c, RuleChange) and c.namespace == namespace for c in self.changes)

    def concerning(self, namespace: NamespaceId) -> tuple[Change, ...]:
        """The changes on which decisions in a namespace rest."""
        return tuple(
            c for c in self.changes if isinstance(c, GroupChange) or c.namespace == namespace
        )

    def at(self, namespace: NamespaceId, device: DeviceId, seq: int) -> RuleView:
        """The rules by which a segment of a namespace's chain is judged."""
        return self._view(namespace, namespace, device, seq, delegated=True)

    def now(self, namespace: NamespaceId) -> RuleView:
        """The rules as the newest changes left them."""
        return self._view(namespace, namespace, DeviceId(""), 1 << 63, delegated=True)

    def delegates(self, namespace: NamespaceId, author: Author, path: bytes) -> bool:
        """Whether admins' rules gave an author ``admin`` at a path when it spoke."""
        view = self._view(namespace, CONTROL, author.device, author.seq, delegated=False)
        return view.decide(author.device, "writer", path, "admin").allowed

    def is_delegate(self, namespace: NamespaceId, author: Author) -> bool:
        """Whether admins' rules gave an author ``admin`` anywhere when it spoke."""
        view = self._view(namespace, CONTROL, author.device, author.seq, delegated=False)
        return any(
            "admin" in rule.permissions and view._names(rule, author.device) for rule in view.rules
        )

    def _view(
        self,
        namespace: NamespaceId,
        chain: NamespaceId,
        device: DeviceId,
        seq: int,
        *,
        delegated: bool,
    ) -> RuleView:
        rules: dict[tuple[str, bytes, bool], Rule] = {}
        groups: dict[str, frozenset[DeviceId]] = {}
        for change in self.changes:
            if seq <= change.since.get(chain, {}).get(device, 0):
                continue
            if isinstance(change, GroupChange):
                groups[change.name] = change.members
            elif change.namespace == namespace and (delegated or change.author is None):
                # A delegate replaces no admin's rule: the two stand side by side.
                key = (change.subject, change.path, change.author is None)
                if change.permissions is None:
                    rules.pop(key, None)
                else:
                    rules[key] = Rule(
                        change.subject, change.path, change.permissions, change.author
                    )
        return RuleView(tuple(rules.values()), groups, self, namespace)


def check_subject(text: str) -> str:
    """Validate a subject. Raises UsageError."""
    kind, _, name = text.partition(":")
    if text == ANY or (kind == "device" and is_uuid(name)) or (kind == "group" and is_group(name)):
        return text
    raise UsageError(f"not a subject of a rule: {text!r}")


def is_group(name: str) -> bool:
    """Whether this may be a group's name."""
    return _GROUP.fullmatch(name) is not None


def check_pattern(pattern: bytes) -> bytes:
    """Validate a glob: ``*`` and ``?`` within a component, ``**`` for any number of them.

    ``dir/**`` covers ``dir`` and everything in it. A component may be ``**`` twice, once of them
    last, and hold three ``*``: matching then takes bounded time whatever the path.

    Raises:
        UsageError: it is not one of these.
    """
    names = pattern.split(b"/")
    problem = ""
    if not pattern or len(pattern) > MAX_PATTERN:
        problem = f"it must have 1 to {MAX_PATTERN} bytes"
    elif b"\0" in pattern or any(name in (b"", b".", b"..") for name in names):
        problem = "it is no path within a namespace"
    elif any(b"**" in name and name != b"**" for name in names):
        problem = "'**' must be a whole component"
    elif names[:-1].count(b"**") > 1 or any(n.count(b"*") > 3 for n in names if n != b"**"):
        problem = "it has too many wildcards"
    if problem:
        raise UsageError(f"not a path pattern: {pattern!r}: {problem}", remedy="Such as: docs/**")
    return pattern


@lru_cache(maxsize=1024)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    names = pattern.split(b"/")
    deep = names[-1] == b"**"
    if deep:
        names.pop()
    if not names:
        return re.compile(rb".*", re.DOTALL)
    parts = [rb"(?:[^/]+/)*" if n == b"**" else _component(n) + b"/" for n in names[:-1]]
    # Before the end, '**' stands for any number of directories; as the last but one, likewise.
    last = rb"(?:[^/]+/)*[^/]+" if names[-1] == b"**" else _component(names[-1])
    return re.compile(b"".join(parts) + last + (rb"(?:/.*)?" if deep else b""), re.DOTALL)


def _component(name: bytes) -> bytes:
    out = b""
    for part in re.split(rb"([*?])", name):
        out += {b"*": rb"[^/]*", b"?": rb"[^/]"}.get(part, re.escape(part))
    return out


@lru_cache(maxsize=1024)
def _specificity(pattern: bytes) -> tuple[int, int]:
    leading = 0
    for name in pattern.split(b"/"):
        if _WILD.search(name):
            break
        leading += 1
    return leading, len(_WILD.sub(b"", pattern))


def describe(rules: Iterable[Rule]) -> list[dict[str, object]]:
    """Rules as JSON values, for errors and results."""
    return [
        {
            "subject": rule.subject,
            "path": rule.path.decode("utf-8", "backslashreplace"),
            "permissions": [p for p in PERMISSIONS if p in rule.permissions],
            "set_by": rule.author.device if rule.author else "admin",
        }
        for rule in rules
    ]
