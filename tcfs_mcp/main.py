"""Entry point of the `tcfs-mcp` command."""

import argparse
from collections.abc import Sequence

from tcfs import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tcfs-mcp` with `argv` (by default the process's arguments) and return its exit code."""
    parser = argparse.ArgumentParser(prog="tcfs-mcp", description="Serve tcfs to assistants.")
    parser.add_argument("--version", action="version", version=f"tcfs-mcp {__version__}")
    parser.parse_args(argv)
    parser.print_help()
    return 0
