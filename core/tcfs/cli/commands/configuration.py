"""``tcfs config``: the settings and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcfs.cli.arguments import command, group
from tcfs.cli.terminal import bold, dim
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    config = group(subparsers, "config", "look at the configuration")
    show = command(config, "show", "print the settings as TOML, with the source of each", _show)
    show.add_argument(
        "--defaults", action="store_true", help="print the defaults, whatever is configured"
    )


def _show(ctx: Context) -> int:
    from tcfs.config.load import load_config
    from tcfs.config.show import config_show

    if ctx.args.defaults:
        import os

        # No file and no variables, but the same places.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
        kept |= {k: os.environ[k] for k in ("TCFS_HOME",) if k in os.environ}
        shown = config_show(load_config(environ=kept, use_file=False))
    else:
        shown = config_show(ctx.loaded())
    ctx.result(shown, lambda: _print(ctx, shown))
    return EXIT_OK


def _print(ctx: Context, shown: dict[str, Any]) -> None:
    from tomlkit import item

    out = ctx.terminal.out
    out(dim(f"# file: {shown['file'] or 'none; it would be ' + shown['paths']['config_file']}"))
    out(dim(f"# store: {shown['endpoint']}"))
    for section, table in shown["config"].items():
        out("")
        out(bold(f"[{section}]"))
        for key, value in table.items():
            source = shown["sources"][f"{section}.{key}"]
            if value is None:
                out(dim(f"# {key} is not set"))
            else:
                out(f"{key} = {item(value).as_string()}", dim(f"  # {source}"))
