"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import servers
from tests.oidc import provider
from tests.servers import nats_server, start_nats, start_weed, weed_server

__all__ = ["nats_server", "start_nats", "start_weed", "weed_server"]

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the work, the long tests begin: they are not waited for."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_configure(config: pytest.Config) -> None:
    servers.begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    servers.end_run()


@pytest.fixture(scope="session")
def _provider() -> Iterator[provider.Issuer]:
    with provider.running() as found:
        yield found


@pytest.fixture
def oidc(_provider: provider.Issuer) -> provider.Issuer:
    """A real OpenID provider, a process of its own, that does what it is told."""
    _provider.reset()
    return _provider
