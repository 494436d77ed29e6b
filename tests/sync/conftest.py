"""The world that tests of the engine live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sync.kit import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fleet without devices yet."""
    made = World(tmp_path)
    yield made
    made.close()
