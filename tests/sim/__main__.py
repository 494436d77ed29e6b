"""``python -m tests.sim``: see ``command``."""

from tests.sim.command import main

if __name__ == "__main__":
    raise SystemExit(main())
