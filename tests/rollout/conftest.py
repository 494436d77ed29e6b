"""A fleet's definition to work on."""

import shutil
from pathlib import Path

import pytest

from tests.nix.support import EXAMPLE, nix_missing


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A copy of the lab fleet."""
    if nix_missing():
        pytest.skip(nix_missing())
    folder = tmp_path / "lab"
    shutil.copytree(EXAMPLE, folder)
    return folder
