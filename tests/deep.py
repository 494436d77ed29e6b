"""Long runs of what the other tests show in short ones: with ``TCFS_DEEP=1``."""

from __future__ import annotations

import os

import pytest

deep = pytest.mark.skipif(not os.environ.get("TCFS_DEEP"), reason="a long run: set TCFS_DEEP=1")
