"""What ``script/demo`` runs, from wherever it is called."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> int:
    """Play a story and return its exit code."""
    from script.story import command

    return command.main()


if __name__ == "__main__":
    sys.exit(main())
