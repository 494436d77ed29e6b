"""Entry point of the ``tcfs-mcp`` command. Imports only what the chosen command needs."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from tcfs import __version__
from tcfs.errors import TcfsError, UsageError
from tcfs.host.garbage import collect_rarely

if TYPE_CHECKING:
    from tcfs_mcp.policy import Policy

_EPILOG = """\
exit codes: 0 ok, 1 unexpected, 2 usage, 5 unknown or refused tool, and from 10 up one for each
class of error (10 conflict, 11 integrity, 12 access, 13 store, 14 local files, ...), as for tcfs.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(UsageError.exit_code, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """The command line, for the command itself and for shell completion."""
    parser = _Parser(
        prog="tcfs-mcp",
        description="Doors to tcfs for AI assistants (serve) and scripts (call).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tcfs-mcp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    common = _Parser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="configuration file to read")
    limits = common.add_argument_group("limits")
    limits.add_argument("--read-only", action="store_true", help="offer nothing that changes")
    limits.add_argument(
        "--tools",
        metavar="NAMES",
        action="append",
        default=[],
        help="offer only these tools or toolsets "
        "(status, transfer, conflicts, history, trust, jobs)",
    )
    limits.add_argument(
        "--exclude-tools",
        metavar="NAMES",
        action="append",
        default=[],
        help="do not offer these tools or toolsets",
    )
    limits.add_argument(
        "--root",
        metavar="DIR",
        action="extend",
        # `call` has words of its own, which must not be taken for directories.
        nargs=1,
        default=[],
        help="allow local paths only below this directory; may be given more than once",
    )
    limits.add_argument(
        "--max-delete", metavar="N", type=_count, default=-1, help="most deletions in one go"
    )
    limits.add_argument(
        "--max-bytes", metavar="N", type=_count, default=-1, help="most bytes moved in one go"
    )
    limits.add_argument("--jobs", metavar="N", help="processes at a time (sync.jobs)")
    limits.add_argument(
        "--memory", metavar="SIZE", help="memory for data in flight: 128MiB (sync.memory_mb)"
    )
    limits.add_argument(
        "--limit", metavar="RATE", help="bytes a second sent, and as many received: 2MB"
    )

    serve = commands.add_parser(
        "serve",
        parents=[common],
        help="serve MCP over stdio or HTTP",
        description="Serve MCP over stdio, or over streamable HTTP with --http.",
    )
    serve.add_argument(
        "--http",
        metavar="PORT",
        type=_port,
        help="serve streamable HTTP at http://HOST:PORT/mcp; 0 picks a free port",
    )
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    serve.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with a bearer token that every request must bring; needed for other machines",
    )
    serve.add_argument(
        "--oidc",
        action="store_true",
        help="let in who brings a token of the OpenID provider of the settings (auth.issuer)",
    )
    serve.add_argument(
        "--oidc-issuer",
        metavar="URL",
        default="",
        help="the same with this provider, such as a GitLab",
    )
    serve.add_argument(
        "--oidc-audience",
        metavar="ID",
        default="",
        help="the application that tokens are for (default: auth.audience, or auth.client_id)",
    )
    serve.add_argument(
        "--oidc-group",
        action="append",
        metavar="G[=ROLE]",
        default=[],
        help="let in the users of this group, as reader (default), writer or admin; may be given "
        "more than once, and adds to auth.reader_groups and so on",
    )
    serve.add_argument(
        "--public-url",
        metavar="URL",
        default="",
        help="where callers reach this server, if a proxy stands in between",
    )
    serve.add_argument(
        "--job-after",
        metavar="SECONDS",
        type=float,
        default=20.0,
        help="a push or pull that takes longer goes on as a job (default: 20)",
    )
    serve.add_argument("--actor", default="", help="name in the history (default: the client's)")

    call = commands.add_parser(
        "call",
        parents=[common],
        help="run one tool and print its answer as JSON",
        description="Run one tool and print its answer as JSON on stdout, and nothing else there. "
        "Everything meant for people, an error as one line of JSON included, goes to stderr.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    call.add_argument("tool", metavar="TOOL")
    call.add_argument("words", metavar="KEY=VALUE", nargs="*", help="lists and objects as JSON")
    call.add_argument("--args", metavar="JSON", default="", help="arguments as one JSON object")
    call.add_argument(
        "--server",
        metavar="URL|COMMAND",
        default="",
        help="call a running server, or one that this command line starts",
    )
    call.add_argument(
        "--token-file", metavar="FILE", default="", help="bearer token of an HTTP server"
    )
    call.add_argument("--actor", default="", help="name in the history (default: call)")

    tools = commands.add_parser(
        "tools", parents=[common], help="list the tools", description="List the tools."
    )
    tools.add_argument("--json", action="store_true", help="with their schemas")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tcfs-mcp` with `argv` (by default the process's arguments) and return its exit code."""
    collect_rarely()
    parser = build_parser()
    options, rest = parser.parse_known_args(argv)
    if rest:
        _take_rest(parser, options, rest)
    try:
        if options.command == "call":
            from tcfs_mcp.call import run_call

            return run_call(options)
        if options.command == "tools":
            from tcfs_mcp.call import run_tools

            return run_tools(options)
        from tcfs_mcp.serve import run_serve

        return run_serve(options)
    except TcfsError as error:
        print(f"tcfs-mcp: {error.message}\n{error.remedy}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        if argv is None:
            # The process ends. Looking for cycles once more, as Python would, takes 100 ms.
            gc.freeze()


def _take_rest(
    parser: argparse.ArgumentParser, options: argparse.Namespace, rest: list[str]
) -> None:
    """Words of ``call`` that stand after an option, which argparse does not see as such."""
    for word in rest:
        if options.command == "call" and not word.startswith("-"):
            options.words.append(word)
            continue
        hint = ""
        if options.command == "call" and word.startswith("--"):
            name, _, value = word[2:].partition("=")
            hint = f"; an argument of the tool is written {name.replace('-', '_')}={value or '...'}"
        parser.error(f"unknown option {word!r}{hint}")


def policy_of(options: argparse.Namespace) -> Policy:
    """The operator's limits. Raises UsageError."""
    from tcfs_mcp.policy import make_policy
    from tcfs_mcp.tools import TOOLS

    return make_policy(
        read_only=options.read_only,
        tools=options.tools,
        exclude=options.exclude_tools,
        roots=options.root,
        max_delete=options.max_delete,
        max_bytes=options.max_bytes,
        known=TOOLS.names,
    )


def effort_of(options: argparse.Namespace) -> dict[str, object]:
    """The settings that the operator's flags stand for. Raises UsageError."""
    from tcfs.config.effort import effort

    return effort(options.jobs, options.memory, options.limit)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("is not a port")
    return value


if __name__ == "__main__":
    sys.exit(main())
