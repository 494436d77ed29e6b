"""The command line of ``script/demo``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from script.story.servers import ServersStory
from script.story.stage import Failed
from script.story.store import StoreStory
from script.story.telling import Teller
from script.story.trees import remove_tree, shown

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a story and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="script/demo",
        description="Show what tcfs does on a copy of DIR, with two devices and one store; with "
        "--servers, three devices whose daemons keep it in sync through SeaweedFS and NATS.",
    )
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", default=str(ROOT), help="default: this checkout"
    )
    parser.add_argument("--servers", action="store_true", help="the fleet on real servers")
    parser.add_argument(
        "--quick", action="store_true", help="with --servers: without tcfs fleet verify"
    )
    chosen = parser.parse_args(arguments)
    source = Path(chosen.dir).resolve()
    if not source.is_dir():
        parser.error(f"not a directory: {shown(os.fsencode(source))}")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _end)
    teller = Teller()
    started = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="tcfs-demo-"))
    story: StoreStory | ServersStory
    if chosen.servers:
        story = ServersStory(teller, source, place, rehearse=not chosen.quick)
    else:
        story = StoreStory(teller, source, place)
    try:
        story.play()
    except Failed as failure:
        teller.bad(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        story.close()
        remove_tree(os.fsencode(place))
    teller.end(story.trees, time.monotonic() - started)
    return 0
