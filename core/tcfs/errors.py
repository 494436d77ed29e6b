"""The one root of all errors.

Every error has a stable ``code`` for programs, an ``exit_code`` for shells (one per class,
shared by ``tcfs`` and ``tcfs-mcp call``), a ``remedy`` that says what to do next, and says
whether trying again may help. Messages carry paths and ids, never secrets.
"""

from __future__ import annotations

from typing import Any, ClassVar

EXIT_OK = 0


class TcfsError(Exception):
    """Root of every error that tcfs raises on purpose.

    Args:
        message: what happened, with the object's name; one sentence.
        remedy: what the user can do next; the class's default if not given.
        details: machine-readable facts (JSON values only, no secrets).
    """

    code: ClassVar[str] = "unexpected"
    exit_code: ClassVar[int] = 1
    default_remedy: ClassVar[str] = "Run the command again with --verbose and report the output."
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, remedy: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy if remedy is not None else self.default_remedy
        self.details: dict[str, Any] = details or {}

    def to_json(self) -> dict[str, Any]:
        """The error as JSON values, for ``--json`` output and tool results."""
        return {
            "code": self.code,
            "exit_code": self.exit_code,
            "message": self.message,
            "remedy": self.remedy,
            "retryable": self.retryable,
            "details": self.details,
        }


class UsageError(TcfsError):
    """The command line or the arguments of a tool are wrong."""

    code = "usage"
    exit_code = 2
    default_remedy = "See --help."


class ToolError(TcfsError):
    """A tool that does not exist, or refused to run."""

    code = "tool"
    exit_code = 5
    default_remedy = "List the tools with: tcfs-mcp tools"


class ConflictError(TcfsError):
    """Concurrent edits were found. Both are safe in the store."""

    code = "conflict"
    exit_code = 10
    default_remedy = "See them with: tcfs conflicts; settle one with: tcfs resolve-conflict PATH"


class IntegrityError(TcfsError):
    """Bytes that do not verify: damaged, truncated, forged or of the wrong key."""

    code = "integrity"
    exit_code = 11
    default_remedy = "Nothing was changed. Look closer with: tcfs verify --read-data"


class AccessError(TcfsError):
    """This device or caller may not do that."""

    code = "access"
    exit_code = 12
    default_remedy = "Ask an admin of the fleet; see who is one with: tcfs device list"


class StoreError(TcfsError):
    """The store failed, or cannot be reached."""

    code = "store"
    exit_code = 13
    default_remedy = "Check the endpoint with: tcfs config show; then run the command again."
    retryable = True


class LocalFileError(TcfsError):
    """The local file system refused: unreadable, full, gone, or changed underneath."""

    code = "local"
    exit_code = 14
    default_remedy = "Mend the cause (rights, space, mount), then run the command again."


class RepositoryError(TcfsError):
    """The store holds no repository, another one, or one of another format."""

    code = "repository"
    exit_code = 15
    default_remedy = "Check TCFS_REMOTE or storage.endpoint with: tcfs config show"


class ConfigError(TcfsError):
    """A setting cannot be read or means nothing."""

    code = "config"
    exit_code = 16
    default_remedy = "See the settings and their sources with: tcfs config show"


class BusyError(TcfsError):
    """Another process of this device holds the lock."""

    code = "busy"
    exit_code = 17
    default_remedy = "Wait for the other command to end, then run this one again."
    retryable = True


class PlanChangedError(TcfsError):
    """The world is no longer what the plan was made for."""

    code = "plan_changed"
    exit_code = 18
    default_remedy = "Make a new plan with --dry-run and apply that one."


class LimitError(TcfsError):
    """More than was allowed to happen without a yes."""

    code = "limit"
    exit_code = 19
    default_remedy = "Look at the plan with --dry-run; raise the limit if it is what you want."


class NotFoundError(TcfsError):
    """No such path, version, device or object."""

    code = "not_found"
    exit_code = 20
    default_remedy = "Check the name; list what there is with: tcfs log"


class IdentityError(TcfsError):
    """This device's history continued without it: a cloned or restored identity."""

    code = "identity"
    exit_code = 21
    default_remedy = (
        "Nothing was sent. If this machine's state was lost or restored from a backup, run: "
        "tcfs rebuild-index. If another machine uses the same identity, give this one its own: "
        "tcfs device enroll --new-identity --invite CODE"
    )


class CancelledError(TcfsError):
    """The caller stopped the work. What was finished is kept."""

    code = "cancelled"
    exit_code = 22
    default_remedy = "Run the command again to go on where it stopped."
    retryable = True


class FleetFileError(TcfsError):
    """The definition of the fleet's hosts cannot be read, or says what cannot be."""

    code = "fleet"
    exit_code = 30
    default_remedy = "Mend the definition; see what is wrong with: tcfs fleet check"


class DriftError(TcfsError):
    """A device runs with other settings than are declared for it."""

    code = "drift"
    exit_code = 31
    default_remedy = "See which with: tcfs fleet diff; bring one in line with: tcfs fleet switch"


class SwitchError(TcfsError):
    """The program that builds and activates a host's configuration failed, or did not end."""

    code = "switch"
    exit_code = 32
    default_remedy = "Read the end of its output; the configuration before is still there."


class LiveError(TcfsError):
    """The server of live events failed, or cannot be reached. Files move without it, later."""

    code = "live"
    exit_code = 33
    default_remedy = "Check sync.nats_url with: tcfs config show; files are synced without it too."
    retryable = True


class SignInError(TcfsError):
    """Nobody is signed in at the identity provider, or the sign-in was refused or has ended."""

    code = "sign_in"
    exit_code = 40
    default_remedy = "Sign in with: tcfs auth login"


class ProviderError(TcfsError):
    """The identity provider cannot be reached, or does not answer as it must."""

    code = "provider"
    exit_code = 41
    default_remedy = "Check auth.issuer with: tcfs config show; then run the command again."
    retryable = True


def exit_codes() -> dict[str, int]:
    """Exit code of every error class by its stable code, ``ok`` included."""
    table = {"ok": EXIT_OK, TcfsError.code: TcfsError.exit_code}
    for cls in TcfsError.__subclasses__():
        table[cls.code] = cls.exit_code
    return table
