"""Entry point of the `tcfs` command."""

import argparse
from collections.abc import Sequence

from tcfs import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tcfs` with `argv` (by default the process's arguments) and return its exit code."""
    parser = argparse.ArgumentParser(prog="tcfs", description="Keep directory trees in step.")
    parser.add_argument("--version", action="version", version=f"tcfs {__version__}")
    parser.parse_args(argv)
    parser.print_help()
    return 0
