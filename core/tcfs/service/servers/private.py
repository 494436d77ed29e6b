"""``tcfs servers``: one private SeaweedFS and NATS for this device, below its data directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tcfs.errors import BusyError
from tcfs.service.servers import nats, weed
from tcfs.service.servers.server import Server
from tcfs.sync.private_files import write_private

BUCKET: Final = "tcfs"
ENVIRONMENT: Final = "environment.sh"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """One server. ``pid`` is 0 while it does not run."""

    name: str
    running: bool
    endpoint: str = ""
    pid: int = 0
    directory: str = ""


@dataclass(frozen=True, slots=True)
class ServersInfo:
    """Both, and the file that a shell reads to use them; no key is shown here."""

    servers: tuple[ServerInfo, ...]
    environment: str = ""


def up(directory: Path) -> ServersInfo:
    """Start what does not run, on the ports and with the keys it had before.

    Raises:
        ConfigError: the extra ``servers`` is not installed.
        LocalFileError: a server does not start.
    """
    store = weed.load(directory / "weed")
    if store is None:
        store = weed.start_new(directory / "weed")
    else:
        _start(store)
    make_bucket(store)
    events = nats.load(directory / "nats")
    if events is None:
        events = nats.start_new(directory / "nats")
    else:
        _start(events)
    _write_environment(directory, store, events)
    return status(directory)


def down(directory: Path) -> ServersInfo:
    """Stop both; their data stays."""
    for server in _known(directory):
        server.stop()
    return status(directory)


def status(directory: Path) -> ServersInfo:
    """Which of them runs, and where."""
    infos = []
    for server in _known(directory):
        pid = server.running()
        name, endpoint = (
            ("seaweedfs", server.s3_endpoint)
            if isinstance(server, weed.WeedServer)
            else ("nats", server.url)
        )
        infos.append(ServerInfo(name, pid is not None, endpoint, pid or 0, str(server.directory)))
    file = directory / ENVIRONMENT
    return ServersInfo(tuple(infos), str(file) if file.exists() else "")


def _known(directory: Path) -> list[weed.WeedServer | nats.NatsServer]:
    found = (weed.load(directory / "weed"), nats.load(directory / "nats"))
    return [server for server in found if server is not None]


def _start(server: Server) -> None:
    try:
        server.start()
    except BusyError:
        return  # it runs


def make_bucket(server: weed.WeedServer) -> None:
    """Make the bucket, if it is not there."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=server.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access,
        aws_secret_access_key=server.secret,
        config=Config(s3={"addressing_style": "path"}),
    )
    try:
        if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=BUCKET)
    finally:
        client.close()


def store_environment(server: weed.WeedServer) -> dict[str, str]:
    """The settings with which a device uses this store."""
    return {
        "TCFS_REMOTE": server.s3_endpoint,
        "TCFS_STORAGE_BUCKET": BUCKET,
        "TCFS_S3_ACCESS": server.access,
        "TCFS_S3_SECRET": server.secret,
    }


def _write_environment(directory: Path, store: weed.WeedServer, events: nats.NatsServer) -> None:
    """What a shell needs to use them, readable for this user alone."""
    token = directory / "nats-token"
    write_private(token, events.token.encode())
    values = {
        **store_environment(store),
        "TCFS_NATS_URL": events.url,
        "TCFS_SYNC_NATS_CREDENTIALS_FILE": os.fspath(token),
    }
    lines = [f"export {name}={_quoted(value)}" for name, value in values.items()]
    write_private(directory / ENVIRONMENT, ("\n".join(lines) + "\n").encode())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
