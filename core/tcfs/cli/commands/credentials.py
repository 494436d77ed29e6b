"""``tcfs credentials`` and ``tcfs rotate-credentials``: where the store's keys come from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, group, takes
from tcfs.cli.terminal import bold, dim, green
from tcfs.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.sync.credentials import CredentialList


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    credentials = group(subparsers, "credentials", "see and take over the keys of the store")
    command(
        credentials,
        "list",
        "list the sources of credentials, and the entries of the KeePass database, without values",
        _list,
    )
    resolve = command(
        credentials,
        "resolve",
        "find an entry of the KeePass database",
        _resolve,
        more="Without --reveal only the names of its fields are told.",
    )
    resolve.add_argument("entry", metavar="ENTRY", help="its path, such as tcfs/s3")
    resolve.add_argument("--reveal", metavar="FIELD", help="print this field's value")

    taken = command(
        credentials,
        "import",
        "write the secrets of a source into the credentials file",
        _import,
        more="SOURCE is kdbx:ENTRY, a file that sops or age sealed (.yaml, .json, .env, .age), or "
        "a private file with lines such as s3-access = ...",
    )
    takes(taken.add_argument("source", metavar="SOURCE", help="what to read"), "file")
    taken.add_argument("--to", metavar="FILE", help="instead of storage.credentials_file")

    command(
        subparsers,
        "rotate-credentials",
        "use other keys for the store, once they have been seen to work",
        _rotate,
        more="The new keys are asked for, or TCFS_NEW_S3_ACCESS and TCFS_NEW_S3_SECRET "
        "(TCFS_NEW_FILER_KEY for a filer). The old ones stay until the new ones have listed, "
        "written, read and deleted; take them away at the server afterwards.",
    )


def _list(ctx: Context) -> int:
    from tcfs.sync.credentials import list_credentials

    found = list_credentials(ctx.loaded(), ask=ctx.ask_secret)
    ctx.result(found, lambda: _show_list(ctx, found))
    return EXIT_OK


def _show_list(ctx: Context, found: CredentialList) -> None:
    from tcfs.cli.text import table, when
    from tcfs.sync.certificates import expiry_warnings

    rows: list[list[Part]] = []
    for source in found.sources:
        mark: Part = green("in use") if source.name == found.in_use else ""
        name: Part = bold(source.name) if source.present else source.name
        rows.append([name, "there" if source.present else "-", mark, dim(source.detail)])
    table(ctx.terminal, rows, ("SOURCE", "", "", ""))
    for one in found.certificates:
        until = f", until {when(int(one.expires_at))}" if one.expires_at else ""
        ctx.terminal.out(f"{one.setting}: {one.subject or 'cannot be used'}{until}")
    for warning in expiry_warnings(found.certificates):
        ctx.terminal.warn(warning)
    if found.problem:
        ctx.terminal.warn(found.problem)
    for entry in found.entries:
        ctx.terminal.out(f"entry {entry}")


def _resolve(ctx: Context) -> int:
    from tcfs.sync.credentials import resolve_entry

    args = ctx.args
    found = resolve_entry(ctx.loaded(), args.entry, field=args.reveal or "", ask=ctx.ask_secret)

    def show() -> None:
        if found.value:
            ctx.terminal.raw(found.value)
        else:
            ctx.terminal.out(f"{found.entry}: {', '.join(found.fields)}")

    ctx.result(found, show)
    return EXIT_OK


def _import(ctx: Context) -> int:
    from pathlib import Path

    from tcfs.sync.credentials import import_credentials

    to = Path(os.path.abspath(ctx.args.to)) if ctx.args.to else None
    found = import_credentials(ctx.loaded(), ctx.args.source, to=to, ask=ctx.ask_secret)

    def show() -> None:
        ctx.terminal.out(f"{', '.join(found.names)} -> {found.file}")
        for message in found.messages:
            ctx.terminal.note(message)

    ctx.result(found, show)
    return EXIT_OK


def _rotate(ctx: Context) -> int:
    from tcfs.secrets.chain import FILER_KEY, S3_ACCESS, S3_SECRET
    from tcfs.sync.credentials import rotate_credentials
    from tcfs.sync.stores import configured_endpoint

    loaded = ctx.loaded()
    asked = (
        {FILER_KEY: ("TCFS_NEW_FILER_KEY", "New filer key")}
        if configured_endpoint(loaded).kind == "seaweedfs"
        else {
            S3_ACCESS: ("TCFS_NEW_S3_ACCESS", "New access key"),
            S3_SECRET: ("TCFS_NEW_S3_SECRET", "New secret key"),
        }
    )
    new = {
        name: os.environ.get(variable) or ctx.ask_secret(f"{question} (not shown): ")
        for name, (variable, question) in asked.items()
    }
    if not all(new.values()):
        names = " and ".join(variable for variable, _ in asked.values())
        raise UsageError(
            "no new keys were given", remedy=f"Type them at a terminal, or set {names}."
        )
    done = rotate_credentials(loaded, new)

    def show() -> None:
        ctx.terminal.out(green("in use"), f": the new keys, in {done.file}")
        ctx.terminal.note(
            f"they were tried on {done.endpoint}: {', '.join(done.checked)}. "
            "Take the old ones away at the server."
        )

    ctx.result(done, show)
    return EXIT_OK
