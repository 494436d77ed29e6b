"""What tests of repositories share."""

from __future__ import annotations

import pytest

from tcfs.host import native


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "full_fsync", lambda fd: None)
    monkeypatch.setattr(native, "sync_volume", lambda fd: True)
