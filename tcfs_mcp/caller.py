"""Who is behind a request, where a server asks that, and what such a caller may do."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final, Literal

from msgspec import Struct

Role = Literal["reader", "writer", "admin"]
ROLES: Final[tuple[Role, ...]] = ("reader", "writer", "admin")
"""Each may what those before it may."""


class Caller(Struct, frozen=True):
    """Somebody whose token was checked for this one request.

    Attributes:
        actor: how the history names what this caller does.
    """

    actor: str
    role: Role


CALLER_KEY: Final = "tcfs.caller"
"""Where a request's ``Caller`` stands in its ASGI scope."""

CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who sent the message that is being handled; None where nobody is asked (stdio, ``call``)."""


def covers(role: Role, needed: Role) -> bool:
    """Whether a role may do what another is needed for."""
    return ROLES.index(role) >= ROLES.index(needed)


class Roles(Struct, frozen=True):
    """Which groups of a provider have which role. The highest of a user's counts.

    Attributes:
        reader, writer, admin: groups by their full path, such as ``org/team``; a subgroup is
            another group.
        others: the role of users in none of them; None to turn them away.
    """

    reader: frozenset[str] = frozenset()
    writer: frozenset[str] = frozenset()
    admin: frozenset[str] = frozenset()
    others: Role | None = None

    @property
    def lets_somebody_in(self) -> bool:
        """Whether there is anyone who has a role."""
        return bool(self.reader | self.writer | self.admin) or self.others is not None

    def of(self, groups: Iterable[str]) -> Role | None:
        """The role of a user in these groups; None for none."""
        held = frozenset(groups)
        for role, granted in (
            ("admin", self.admin),
            ("writer", self.writer),
            ("reader", self.reader),
        ):
            if held & granted:
                found: Role = role  # type: ignore[assignment]
                return found
        return self.others
