"""What the tests of rollouts share: a definition, a machine, and a fleet of devices."""

from tests.rollout.fixtures import lab, machine  # noqa: F401 - fixtures
from tests.sync.conftest import templates, world  # noqa: F401 - fixtures
