"""Python's collector of cycles, told what a process of tcfs is like."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Let the collector look less often.

    A large tree is hundreds of thousands of objects without a cycle, and so is what loading makes:
    by default they are walked again and again, a tenth of a push.
    """
    gc.set_threshold(200_000, 100, 1000)
