"""NATS as it is in a fleet: with keys and certificates, killed, robbed of its data, cut off."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import urllib.request
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nkeys
import pytest

from tcfs.errors import LiveError
from tcfs.live.base import Message
from tcfs.live.connection import NatsSettings
from tcfs.live.forward import Forwarder
from tcfs.live.nats import NatsBus
from tcfs.service.servers.nats import NatsServer
from tcfs.service.servers.process import free_ports, running
from tcfs.tls.contexts import NATS, TlsContexts, TlsFiles
from tests.certificates import Authority, Pair
from tests.jwts import DAY_S, Operator
from tests.live.waiting import Bell, collect, until

Start = Callable[..., NatsServer]


class Opened:
    """Buses that are closed at the end."""

    def __init__(self) -> None:
        self._buses: list[NatsBus] = []
        self.bell = Bell()

    def __call__(self, settings: NatsSettings, name: str, **options) -> NatsBus:
        bus = NatsBus(settings, name, **options)
        bus.start(self.bell.ring)
        self._buses.append(bus)
        return bus

    def close(self) -> None:
        for bus in self._buses:
            bus.close()


@pytest.fixture
def open_bus():
    opened = Opened()
    yield opened
    opened.close()


def message(n: int) -> Message:
    return Message("STATE.x.file_synced", b"%d" % n, f"x/{n}")


def secret(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def trusting(ca: Path, pair: Pair | None = None) -> TlsContexts:
    own = (pair.cert, pair.key) if pair else (None, None)
    return TlsContexts(TlsFiles(NATS, ca, *own))


def tls_lines(pair: Pair, *more: str) -> str:
    files = f"cert_file: {json.dumps(str(pair.cert))}, key_file: {json.dumps(str(pair.key))}"
    return f"tls {{ {', '.join((files, *more))} }}"


@pytest.mark.parametrize("forget", [False, True], ids=["restarted", "without its data"])
def test_a_server_that_was_killed_is_used_again_by_itself(
    start_nats: Start, open_bus: Opened, forget: bool
):
    server = start_nats(token="")
    bus = open_bus(NatsSettings((server.url,)), "queue")
    until(lambda: bus.connected, open_bus.bell)
    bus.publish([message(1)])
    collect(bus, "x", 1)[0].ack()
    before = bus.generation
    server.kill()
    until(lambda: not bus.connected, open_bus.bell)
    assert bus.problem
    with pytest.raises(LiveError):
        bus.publish([message(2)])
    if forget:
        shutil.rmtree(server.directory / "data")
    server.start()
    until(lambda: bus.connected, open_bus.bell)
    assert bus.generation > before
    bus.publish([message(3)])
    assert collect(bus, "x", 1)[0].data == b"3"


def test_a_stream_that_somebody_deletes_is_made_anew(start_nats: Start, open_bus: Opened):
    server = start_nats(token="")
    bus = open_bus(NatsSettings((server.url,)), "queue")
    until(lambda: bus.connected, open_bus.bell)
    before = bus.generation
    _delete_stream(server)
    until(lambda: bus.generation > before and bus.connected, open_bus.bell)
    bus.publish([message(1)])
    assert collect(bus, "x", 1)[0].data == b"1"


def _delete_stream(server: NatsServer) -> None:
    import asyncio

    from tcfs.live.connection import connect

    async def delete() -> None:
        client = await connect(NatsSettings((server.url,)), "test")
        await client.jetstream().delete_stream("STATE_UPDATES")
        await client.close()

    asyncio.run(delete())


def test_the_wrong_token_is_refused_and_not_shown(
    nats_server: NatsServer, open_bus: Opened, tmp_path: Path
):
    wrong = NatsSettings((nats_server.url,), credentials=secret(tmp_path / "t", "wrong-token"))
    bus = open_bus(wrong, "queue")
    until(lambda: "not connected yet" not in bus.problem, open_bus.bell)
    assert "does not take our credentials" in bus.problem
    assert "wrong-token" not in bus.problem
    assert not bus.connected


def test_an_nkey_seed_and_a_user_with_password_open_the_door(
    start_nats: Start, open_bus: Opened, tmp_path: Path
):
    seed = nkeys.encode_seed(b"\7" * 32, nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    users = f'authorization {{ users: [{{nkey: {public}}}, {{user: anna, password: "p:w"}}] }}'
    server = start_nats(token="", more=users)
    for text in (seed.decode(), "anna:p:w\n"):
        settings = NatsSettings((server.url,), credentials=secret(tmp_path / "who", text))
        bus = open_bus(settings, "queue")
        until(partial(getattr, bus, "connected"), open_bus.bell)
        bus.close()


@pytest.mark.parametrize("text", ["", "two\nlines"])
def test_credentials_that_are_none_are_said_to_be(tmp_path: Path, open_bus: Opened, text: str):
    settings = NatsSettings(("nats://127.0.0.1:9",), credentials=secret(tmp_path / "who", text))
    bus = open_bus(settings, "queue")
    until(lambda: "nats_credentials_file" in bus.problem, open_bus.bell)


def test_tls_needs_the_right_authority(start_nats: Start, open_bus: Opened, tmp_path: Path):
    ca = Authority(tmp_path)
    server = start_nats(token="", more=tls_lines(ca.pair("server")))
    good = open_bus(NatsSettings((server.url,), tls=True, contexts=trusting(ca.file)), "queue")
    until(lambda: good.connected, open_bus.bell)
    bad = open_bus(NatsSettings((server.url,), tls=True), "queue-2")
    until(lambda: "no authority that is trusted here" in bad.problem, open_bus.bell)
    assert "sync.nats_ca_cert" in bad.problem
    assert not bad.connected


def test_a_bus_leaves_no_socket_behind_where_the_server_no_longer_answers(
    start_nats: Start, tmp_path: Path
):
    ca = Authority(tmp_path)
    server = start_nats(token="", more=tls_lines(ca.pair("server")))
    bell = Bell()
    bus = NatsBus(NatsSettings((server.url,), tls=True, contexts=trusting(ca.file)), "queue")
    bus.start(bell.ring)
    until(lambda: bus.connected, bell)
    pid = running(server.service)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            bus.close()
            gc.collect()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [str(warning.message) for warning in noticed] == []


def test_a_server_that_says_it_needs_no_tls_is_refused_where_tls_is_required(
    nats_server: NatsServer, open_bus: Opened, tmp_path: Path
):
    # Someone between us and the server would say so, to read the token.
    token = secret(tmp_path / "t", nats_server.token)
    bus = open_bus(NatsSettings((nats_server.url,), tls=True, credentials=token), "queue")
    until(lambda: "TLS" in bus.problem, open_bus.bell)
    assert not bus.connected


def test_an_authority_that_cannot_be_read_is_an_error_of_the_configuration(tmp_path: Path):
    import asyncio

    from tcfs.live.connection import connect

    contexts = trusting(tmp_path / "none.pem")
    settings = NatsSettings(("nats://127.0.0.1:9",), tls=True, contexts=contexts)
    with pytest.raises(LiveError, match="nats_ca_cert"):
        asyncio.run(connect(settings, "test"))


def test_a_leaf_node_goes_on_without_its_hub_and_both_catch_up(start_nats: Start, open_bus: Opened):
    (leaf_port,) = free_ports(1)
    hub = start_nats(
        token="", more=f'server_name: hub\nleafnodes {{ port: {leaf_port}, host: "127.0.0.1" }}'
    )
    remote = f'remotes: [{{ url: "nats-leaf://127.0.0.1:{leaf_port}" }}], reconnect: "1s"'
    leaf = start_nats(token="", more=f"server_name: leaf\nleafnodes {{ {remote} }}")
    _set_domains(hub, leaf)

    forwarder = Forwarder(NatsSettings((hub.url,)))
    near = open_bus(NatsSettings((leaf.url,)), "near", companions=[forwarder])
    far = open_bus(NatsSettings((hub.url,)), "far")
    until(lambda: near.connected and far.connected and forwarder.connected, open_bus.bell)
    near.publish([message(1)])
    far.publish([message(2)])
    for bus in (near, far):
        found = collect(bus, "x", 2)
        assert sorted(d.data for d in found) == [b"1", b"2"]
        for delivery in found:
            delivery.ack()

    hub.kill()
    until(lambda: not far.connected, open_bus.bell)
    near.publish([message(3)])
    beside = open_bus(NatsSettings((leaf.url,)), "beside")
    until(lambda: beside.connected, open_bus.bell)
    near.publish([message(4)])
    by_beside, by_near = collect(beside, "x", 1), collect(near, "x", 2)
    assert [d.data for d in by_beside] == [b"4"]
    assert [d.data for d in by_near] == [b"3", b"4"]
    # Else they come again, where it takes as long as that until the hub is back.
    for delivery in (*by_beside, *by_near):
        delivery.ack()

    hub.start()
    seen: set[bytes] = set()

    def caught_up() -> bool:
        # What was acknowledged as the hub went may come again.
        seen.update(delivery.data for delivery in far.take())
        return seen >= {b"3", b"4"}

    until(caught_up)
    far.publish([message(5)])
    assert [d.data for d in collect(beside, "x", 1)] == [b"5"]


def _set_domains(*servers: NatsServer) -> None:
    """Give each JetStream a domain of its own, as a leaf node needs."""
    for server in servers:
        server.stop()
    for server in servers:
        name = "hub" if "server_name: hub" in server.more else "leaf"
        directory = json.dumps(str(server.directory / "data"))
        plain = f"jetstream {{ store_dir: {directory} }}"
        text = server.config().replace(plain, plain[:-1] + f", domain: {name} }}")
        assert f"domain: {name}" in text
        object.__setattr__(server, "config", lambda text=text: text)
        server.start()


def _says(bus: NatsBus, words: str) -> bool:
    return words in bus.problem


def _is_connected(bus: NatsBus, bell: Bell) -> None:
    until(lambda: bus.connected or bus.problem not in ("", "not connected yet"), bell)
    assert bus.connected, bus.problem


def test_a_server_that_wants_certificates_takes_those_of_its_authority_alone(
    start_nats: Start, open_bus: Opened, tmp_path: Path
):
    ca, other = Authority(tmp_path), Authority(tmp_path, "other authority")
    wants = f"ca_file: {json.dumps(str(ca.file))}", "verify: true"
    server = start_nats(token="", more=tls_lines(ca.pair("server"), *wants))

    def bus(pair: Pair | None, **more) -> NatsBus:
        own = (pair.cert, pair.key) if pair else (None, None)
        contexts = TlsContexts(TlsFiles(NATS, ca.file, *own, **more))
        return open_bus(NatsSettings((server.url,), tls=True, contexts=contexts), "queue")

    _is_connected(bus(ca.pair("anna")), open_bus.bell)
    expired = ca.pair("old", days=-1)
    for refused, words in (
        (bus(None), "asks for a client certificate. Name one"),
        (bus(other.pair("eve")), "does not take our client certificate: unknown ca"),
        (bus(expired), "our client certificate (sync.nats_client_cert) expired on"),
        (bus(expired, now=lambda: 0.0), "the server says that our client certificate has expired"),
    ):
        until(partial(_says, refused, words), open_bus.bell)
        assert not refused.connected
        refused.close()


@pytest.mark.parametrize(
    ("days", "host", "words"),
    [
        (-1, "127.0.0.1", "the server's certificate has expired"),
        (365, "elsewhere.example", "the server's certificate is another host's"),
    ],
)
def test_what_is_wrong_with_the_servers_certificate_is_told(
    start_nats: Start, open_bus: Opened, tmp_path: Path, days: float, host: str, words: str
):
    ca = Authority(tmp_path)
    server = start_nats(token="", more=tls_lines(ca.pair("server", days=days, hosts=(host,))))
    bus = open_bus(NatsSettings((server.url,), contexts=trusting(ca.file)), "queue")
    until(lambda: words in bus.problem, open_bus.bell)


def test_a_renewed_pair_is_used_by_the_next_connection_and_half_of_one_is_not(
    start_nats: Start, open_bus: Opened, tmp_path: Path
):
    ca = Authority(tmp_path)
    (monitor,) = free_ports(1)
    wants = f"ca_file: {json.dumps(str(ca.file))}", "verify_and_map: true"
    users = 'authorization { users: [{ user: "CN=anna" }, { user: "CN=berta" }] }'
    server = start_nats(
        token="", more=f"{tls_lines(ca.pair('server'), *wants)}\n{users}\nhttp: 127.0.0.1:{monitor}"
    )
    pair, new = ca.pair("anna"), ca.pair("berta")
    settings = NatsSettings((server.url,), tls=True, contexts=trusting(ca.file, pair))
    bus = open_bus(settings, "queue")
    _is_connected(bus, open_bus.bell)

    def again() -> None:
        before = bus.generation
        server.kill()
        until(lambda: not bus.connected, open_bus.bell)
        server.start()
        until(lambda: bus.generation > before and bus.connected, open_bus.bell)

    assert _users(monitor) == {"CN=anna"}
    pair.cert.write_bytes(new.cert.read_bytes())
    again()
    assert settings.contexts.problem is not None
    assert _users(monitor) == {"CN=anna"}
    pair.write(new)
    again()
    assert _users(monitor) == {"CN=berta"}


def _users(monitor: int) -> set[str]:
    """Whom the server takes its clients for, as its monitoring page says."""
    url = f"http://127.0.0.1:{monitor}/connz?auth=1"
    with urllib.request.urlopen(url) as answer:
        return {
            one["authorized_user"]
            for one in json.load(answer)["connections"]
            if "authorized_user" in one  # not one that is only about to log in
        }


def test_a_jwt_opens_the_door_and_a_new_one_is_taken_up(
    start_nats: Start, open_bus: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    account, stranger = operator.account("fleet"), operator.account("stranger")
    server = start_nats(token="", more=operator.server_lines(account))
    file = account.user("anna", days=None).write(tmp_path / "anna.creds")
    bus = open_bus(NatsSettings((server.url,), credentials=file), "queue")
    _is_connected(bus, open_bus.bell)
    bus.publish([message(1)])
    assert collect(bus, "x", 1)[0].data == b"1"

    # The server ends the connection when the JWT ends: the next one shows what is in the file then.
    short = account.user("anna", days=4 / DAY_S).write(tmp_path / "short.creds")
    other = open_bus(NatsSettings((server.url,), credentials=short), "queue-2")
    _is_connected(other, open_bus.bell)
    before = other.generation
    until(lambda: "credentials" in other.problem and "expired" in other.problem, open_bus.bell)
    assert not other.connected
    account.user("anna", days=1).write(short)
    until(lambda: other.generation > before and other.connected, open_bus.bell)

    # By a clock that is behind it is good still: then the server tells, without saying why.
    late = account.user("anna", days=-1).write(tmp_path / "late.creds")
    refused = open_bus(NatsSettings((server.url,), credentials=late, now=lambda: 0.0), "queue-3")
    until(lambda: "does not take our credentials" in refused.problem, open_bus.bell)
    unknown = stranger.user("eve").write(tmp_path / "eve.creds")
    eve = open_bus(NatsSettings((server.url,), credentials=unknown), "queue-4")
    until(lambda: "does not take our credentials" in eve.problem, open_bus.bell)
    lines = "".join(path.read_text() for path in tmp_path.glob("*.creds")).splitlines()
    secrets = [line for line in lines if line.startswith(("SU", "ey"))]
    assert len(secrets) == 8
    assert caplog.text
    assert [secret for secret in secrets if secret in caplog.text] == []


def test_credentials_that_others_can_read_are_refused(open_bus: Opened, tmp_path: Path):
    file = Operator().account("fleet").user("anna").write(tmp_path / "anna.creds")
    file.chmod(0o644)
    bus = open_bus(NatsSettings(("nats://127.0.0.1:9",), credentials=file), "queue")
    until(lambda: "can be read by others" in bus.problem, open_bus.bell)
    assert "chmod 600" in bus.problem
