"""Real servers for tests: one SeaweedFS and one NATS for a whole run, started when asked for.

All worker processes share them: use names of your own (a prefix from ``unique``, a stream, a
subject). A test that stops, kills or damages a server starts its own with ``start_weed`` or
``start_nats``. The run's first process, which no test runs in when there are workers, stops what
is left at the end.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tcfs.host.lock import file_lock
from tcfs.service.servers import nats, weed
from tcfs.service.servers.nats import NatsServer
from tcfs.service.servers.weed import Identity, WeedServer

PLACE: Final = "PYTEST_TCFS_SERVERS"
"""Variable that tells the worker processes of this run where its servers are."""

BUCKET: Final = "tcfs"
READER: Final = Identity("reader", "READER", "readers-secret", ("Read", "List"))
"""A user of the shared SeaweedFS that may not write."""

_numbers = itertools.count(1)


def unique(word: str) -> str:
    """A name that no other test of this run uses: letters, digits and dashes."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return f"{word}-{worker}-{next(_numbers)}"


def begin_run() -> None:
    """Make the place for this run's servers, in its first process."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        # Not pytest's own directory: paths of sockets have to be short.
        os.environ[PLACE] = tempfile.mkdtemp(prefix="tcfs-servers-")


def end_run() -> None:
    """Stop what this run started, from its first process."""
    if "PYTEST_XDIST_WORKER" in os.environ or PLACE not in os.environ:
        return
    place = Path(os.environ.pop(PLACE))
    for server in (weed.load(place / "weed"), nats.load(place / "nats")):
        if server is not None:
            server.kill()  # nothing of it is needed any more
    shutil.rmtree(place)


def _place() -> Path:
    return Path(os.environ[PLACE])


@pytest.fixture(scope="session")
def weed_server() -> WeedServer:
    """The SeaweedFS of this run, with the bucket ``BUCKET`` and the user ``READER``."""
    place = _place()
    with file_lock(os.fsencode(place / "weed.first"), True):
        server = weed.load(place / "weed")
        if server is None:
            server = weed.start_new(place / "weed", others=(READER,))
            make_bucket(server, BUCKET)
        return server


@pytest.fixture(scope="session")
def nats_server() -> NatsServer:
    """The NATS server of this run, with JetStream and a token."""
    place = _place()
    with file_lock(os.fsencode(place / "nats.first"), True):
        return nats.load(place / "nats") or nats.start_new(place / "nats")


@pytest.fixture
def start_weed() -> Iterator[Callable[..., WeedServer]]:
    """Starts a SeaweedFS of this test's own; arguments as for ``weed.start_new``."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tcfs-weed-")))

        def start(**options) -> WeedServer:
            server = weed.start_new(place / unique("weed"), **options)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture
def start_nats() -> Iterator[Callable[..., NatsServer]]:
    """Starts a NATS server of this test's own; arguments as for ``nats.start_new``."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tcfs-nats-")))

        def start(**options) -> NatsServer:
            server = nats.start_new(place / unique("nats"), **options)
            stack.callback(server.kill)
            return server

        yield start


def make_bucket(server: WeedServer, name: str) -> None:
    """Make a bucket; every bucket takes a volume of the server's, so share one where you can."""
    client = s3_client(server)
    client.create_bucket(Bucket=name)
    client.close()


def s3_client(server: WeedServer, identity: Identity | None = None):
    """A bare boto3 client of the server, by default its admin's."""
    import boto3
    from botocore.config import Config

    who = identity or server.identities[0]
    return boto3.client(
        "s3",
        endpoint_url=server.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=who.access,
        aws_secret_access_key=who.secret,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
