"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests import servers
from tests.servers import nats_server, start_nats, start_weed, weed_server

__all__ = ["nats_server", "start_nats", "start_weed", "weed_server"]

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    servers.begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    servers.end_run()
