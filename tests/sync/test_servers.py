"""Fleets on real servers, whole and failing."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tcfs.errors import ConfigError, StoreError
from tcfs.host import native
from tcfs.secrets.chain import FILER_KEY, S3_ACCESS, S3_SECRET
from tcfs.secrets.sources import format_credentials
from tcfs.service.servers.weed import WeedServer
from tcfs.store.failures import BucketMissing, StoreUnreachable
from tcfs.sync import session
from tests.servers import BUCKET, s3_client, unique
from tests.store.proxy import Fault, FaultProxy, Request, Reset, Say, Stall, Truncate
from tests.sync.kit import Device, World, assert_same

MIB = 1 << 20


class Remote:
    """A world on a server: the endpoint is ``url``, the credentials are in a file."""

    def __init__(self, top: Path, server: WeedServer) -> None:
        self.server = server
        self.world = World(top)
        self.credentials = top / "credentials"
        values = {S3_ACCESS: server.access, S3_SECRET: server.secret, FILER_KEY: server.filer_key}
        self.credentials.write_text(format_credentials(values))
        self.credentials.chmod(0o600)
        self.use(f"{server.s3_endpoint}/{BUCKET}/{unique('fleet')}")

    def use(self, url: str) -> None:
        self.world.endpoint = url

    def device(self, name: str, **settings: str) -> Device:
        known: dict[str, Any] = {
            "TCFS_STORAGE_CREDENTIALS_FILE": str(self.credentials),
            **settings,
        }
        first = next(iter(self.world.top.glob("*/home/state/stores.json")), None)
        if first is not None:  # the server is not tried by every device
            state = self.world.top / name / "home" / "state"
            state.mkdir(parents=True)
            shutil.copy(first, state)
        return self.world.device(name, **known)


@pytest.fixture
def remote(
    tmp_path: Path, weed_server: WeedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Remote]:
    monkeypatch.setattr(native, "full_fsync", lambda fd: None)
    monkeypatch.setattr(native, "sync_volume", lambda fd: True)
    made = Remote(tmp_path, weed_server)
    yield made
    made.world.close()


@pytest.fixture
def proxy(weed_server: WeedServer) -> Iterator[FaultProxy]:
    made = FaultProxy(weed_server.s3_port)
    yield made
    made.close()


def noise(size: int) -> bytes:
    return os.urandom(size)


def clean(device: Device) -> bool:
    report = device.fleet.verify(read_data=True)
    return not report.problems


@pytest.mark.parametrize("kind", ["s3", "seaweedfs"])
def test_devices_share_a_tree_through_a_server(remote, kind):
    if kind == "seaweedfs":
        place = remote.server.filer_endpoint.replace("http:", "seaweedfs:")
        remote.use(f"{place}/{unique('fleet')}")
    anna, ben = remote.device("anna"), remote.device("ben")
    told = [one for one in anna.fleet.status().warnings if "conditional writes" in one]
    assert bool(told) == (kind == "seaweedfs")
    anna.fill({"notes.txt": "hello", "empty": b"", "large": noise(3 * MIB)})
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    ben.fill({"notes.txt": "hello again"})
    ben.push()
    anna.pull()
    assert anna.read("notes.txt") == b"hello again"
    assert clean(anna)


def test_init_makes_the_bucket_and_remembers_that_conditions_are_kept(remote):
    bucket = unique("new")
    remote.use(f"{remote.server.s3_endpoint}")
    anna = remote.device("anna", TCFS_STORAGE_BUCKET=bucket, TCFS_STORAGE_PREFIX="a/b")
    url = f"s3+{remote.server.s3_endpoint}/{bucket}/a/b"
    assert anna.fleet.status().endpoint == url
    remembered = json.loads((anna.home / "state" / "stores.json").read_bytes())
    assert remembered[url]["conditional_writes"] is True


def test_an_invite_has_all_that_a_device_without_settings_needs(remote):
    anna = remote.device("anna")
    code = anna.fleet.invite(role="writer").code
    remote.use("")
    ben = remote.world.device(
        "ben", join=False, TCFS_STORAGE_CREDENTIALS_FILE=str(remote.credentials)
    )
    session.enroll_fleet(ben.loaded, name="ben", invite=code)
    anna.fill({"a": "b"})
    anna.push()
    ben.pull()
    assert ben.contents() == {"a": b"b"}


def test_a_prefix_in_a_directory_is_a_repository_of_its_own(remote, tmp_path):
    store = tmp_path / "shared"
    worlds = []
    for name in ("one", "two"):
        world = World(tmp_path / name)
        world.endpoint = store.as_uri()
        device = world.device("anna", TCFS_STORAGE_PREFIX=f"fleets/{name}")
        device.fill({"a": name})
        device.push()
        worlds.append(world)
        assert device.fleet.status().endpoint.endswith(f"/shared?prefix=fleets/{name}")
    assert sorted(p.name for p in (store / "fleets").iterdir()) == ["one", "two"]
    for world in worlds:
        world.close()


def test_a_bucket_that_vanished_is_an_error_and_nothing_is_deleted(remote, weed_server):
    bucket = unique("gone")
    remote.use(f"{remote.server.s3_endpoint}/{bucket}")
    anna, ben = remote.device("anna"), remote.device("ben")
    anna.fill({"a": "b"})
    anna.push()
    ben.pull()
    client = s3_client(weed_server)
    client.delete_bucket(Bucket=bucket)
    client.close()
    with pytest.raises(BucketMissing):
        ben.pull()
    assert ben.contents() == {"a": b"b"}
    assert not ben.fleet.status().store_reached


def now_and_then(*faults: Fault, every: int) -> Callable[[Request], Fault | None]:
    """Each of the faults in turn, at every so-manieth request."""
    turns = itertools.cycle(faults)

    def rule(request: Request) -> Fault | None:
        return next(turns) if request.number % every == 0 else None

    return rule


def test_work_is_done_through_a_server_that_fails_now_and_then(remote, proxy):
    remote.use(f"{proxy.url}/{BUCKET}/{unique('fleet')}")
    anna, ben = remote.device("anna"), remote.device("ben")
    anna.fill({f"{i}": noise(100_000) for i in range(40)})
    proxy.rule = now_and_then(
        Say(500, "InternalError"),
        Say(503, "SlowDown"),
        Reset(),
        Reset(after=True),
        Truncate(),
        every=3,
    )
    for number in range(2):
        anna.fill({"again": f"{number}", f"new-{number}": noise(300_000)})
        anna.push()
        ben.pull()
        assert_same(anna.tree, ben.tree)
    assert clean(ben)


def test_a_server_that_stalls_is_left_and_asked_again(remote, proxy):
    remote.use(f"{proxy.url}/{BUCKET}/{unique('fleet')}")
    anna = remote.device("anna", TCFS_STORAGE_TIMEOUT="2")
    stalled = iter((Stall(),))
    proxy.rule = lambda request: next(stalled, None) if request.method == "PUT" else None
    anna.fill({"a": noise(600_000)})
    anna.push()
    assert next(stalled, None) is None
    assert clean(anna)


def test_a_server_that_only_fails_is_given_up_with_its_reason_and_nothing_is_lost(remote, proxy):
    remote.use(f"{proxy.url}/{BUCKET}/{unique('fleet')}")
    anna = remote.device("anna", TCFS_SYNC_MAX_RETRIES="1")
    anna.fill({"a": noise(600_000)})
    proxy.rule = lambda request: Say(503, "SlowDown") if request.method == "PUT" else None
    with pytest.raises(StoreError, match="SlowDown") as caught:
        anna.push()
    assert caught.value.remedy
    proxy.rule = lambda request: None
    anna.close()
    anna.push()
    assert clean(anna)


def killed_at(server: WeedServer, proxy: FaultProxy, wanted: Callable[[Request], bool]):
    """Kill the server just before the first request of that kind; says whether it was."""
    done = threading.Event()

    def rule(request: Request) -> None:
        if wanted(request) and not done.is_set():
            done.set()
            server.kill()

    proxy.rule = rule
    return done


@pytest.mark.slow
def test_seaweedfs_killed_in_a_push_and_in_a_pull_loses_nothing(tmp_path, start_weed, monkeypatch):
    monkeypatch.setattr(native, "full_fsync", lambda fd: None)
    monkeypatch.setattr(native, "sync_volume", lambda fd: True)
    server = start_weed()
    remote = Remote(tmp_path, server)
    proxy = FaultProxy(server.s3_port)
    try:
        remote.use(f"{proxy.url}/{unique('fleet')}")
        anna, ben = (remote.device(n, TCFS_SYNC_MAX_RETRIES="1") for n in ("anna", "ben"))
        anna.fill({f"{i}": noise(8 * MIB) for i in range(4)})  # two packs
        proxy.rule = lambda request: None
        packs = [0]

        def second_pack(request: Request) -> bool:
            packs[0] += request.method == "PUT" and "/packs/" in request.path
            return packs[0] == 2

        killed = killed_at(server, proxy, second_pack)
        with pytest.raises(StoreUnreachable):
            anna.push()
        assert killed.is_set()
        server.start()
        anna.close()  # as the next run of the program
        anna.push()
        killed = killed_at(
            server, proxy, lambda request: request.method == "GET" and "/packs/" in request.path
        )
        with pytest.raises(StoreUnreachable):
            ben.pull()
        assert killed.is_set()
        server.start()
        ben.close()
        ben.pull()
        assert_same(anna.tree, ben.tree)
        assert clean(ben)
    finally:
        remote.world.close()
        proxy.close()


def test_wrong_settings_are_told_before_anything_is_made(remote):
    remote.use(remote.server.s3_endpoint)
    for settings in (
        {"TCFS_STORAGE_ENFORCE_TLS": "true"},
        {"TCFS_STORAGE_BUCKET": "Not A Bucket"},
        {"TCFS_STORAGE_CREDENTIALS_FILE": str(remote.credentials) + ".absent"},
    ):
        with pytest.raises(ConfigError) as caught:
            remote.device("anna", **settings)
        assert caught.value.remedy
        shutil.rmtree(remote.world.top / "anna")


@pytest.mark.slow
def test_twenty_devices_that_push_at_once_lose_no_event_and_end_with_one_tree(remote):
    place = remote.server.filer_endpoint.replace("http:", "seaweedfs:")
    remote.use(f"{place}/{unique('fleet')}")
    devices = [remote.device(f"d{number:02}") for number in range(20)]
    for device in devices:
        device.fill({f"{device.name}/{i}": f"{device.name} {i}" for i in range(5)})
        device.fill({"shared": f"by {device.name}"})
        device.fleet  # noqa: B018 - opened here, so that all push at the same time
    start = threading.Barrier(len(devices))

    def push(device: Device) -> None:
        start.wait()
        device.push()

    with ThreadPoolExecutor(len(devices)) as pool:
        list(pool.map(push, devices))
    reader = remote.device("reader")
    reader.pull()
    for device in (devices[0], devices[-1]):
        device.pull()
        device.push()
        reader.pull()
        device.pull()
        assert_same(device.tree, reader.tree)
    found = reader.contents()
    for device in devices:
        for i in range(5):
            assert found[f"{device.name}/{i}"] == f"{device.name} {i}".encode()
    kept = {data for name, data in found.items() if name.startswith("shared")}
    assert kept == {f"by {device.name}".encode() for device in devices}
    assert clean(reader)
