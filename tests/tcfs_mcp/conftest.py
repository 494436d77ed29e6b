"""What the tests of the doors share."""

from collections.abc import Iterator

import pytest

from tcfs_mcp.jobs import Jobs
from tests.rollout.fixtures import lab, machine  # noqa: F401 - fixtures
from tests.tcfs_mcp.fake import FakeFleet


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture
def jobs(fleet: FakeFleet) -> Iterator[Jobs]:
    found = Jobs()
    yield found
    fleet.hold.set()
    found.shutdown()
