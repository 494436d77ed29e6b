"""A private SeaweedFS: master, volume server, filer and S3 gateway in one process.

``weed mini`` of SeaweedFS 4.48. The S3 gateway wants the access key, the filer's own HTTP API a
token signed with the filer key; other ports (master, volume) are loopback only and serve no data
without a token of the filer's.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tcfs.service.servers import process, server
from tcfs.service.servers.server import Server
from tcfs.sync.private_files import write_private

_IDENTITIES: Final = "identities.json"
_MEMORY: Final = "200MiB"


@dataclass(frozen=True)
class Identity:
    """A user of the S3 gateway. ``actions`` are SeaweedFS's, such as ``Read:bucket/prefix/*``."""

    name: str
    access: str
    secret: str
    actions: tuple[str, ...] = ("Admin", "Read", "Write", "List", "Tagging")


@dataclass(frozen=True)
class WeedServer(Server):
    """A SeaweedFS in ``directory``. Ports are all on 127.0.0.1.

    ``filer_key`` signs the tokens (JWT, HS256) that the filer's HTTP API asks for; empty for an
    open one. ``identities[0]`` is the admin.
    """

    master_port: int
    volume_port: int
    filer_port: int
    s3_port: int
    admin_port: int
    identities: tuple[Identity, ...]
    filer_key: str = ""
    s3_arguments: tuple[str, ...] = ()

    @property
    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def filer_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.filer_port}"

    @property
    def access(self) -> str:
        return self.identities[0].access

    @property
    def secret(self) -> str:
        return self.identities[0].secret

    @cached_property
    def service(self) -> process.Service:
        return process.Service(
            name="weed",
            directory=self.directory,
            command=self.command(),
            ready=self.ready,
            environ=self._environ(),
        )

    def command(self) -> tuple[str, ...]:
        """Program and arguments; no secret is among them."""
        data = self.directory / "data"
        return (
            process.find_program("weed"),
            "-logtostderr=true",
            "-v=0",
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={self.master_port}",
            "-master.telemetry=false",
            f"-volume.port={self.volume_port}",
            f"-filer.port={self.filer_port}",
            f"-filer.localSocket={self.directory / 'f.sock'}",
            f"-s3.port={self.s3_port}",
            f"-s3.localSocket={self.directory / 's.sock'}",
            f"-s3.config={self.directory / _IDENTITIES}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            f"-admin.port={self.admin_port}",
            *self.s3_arguments,
        )

    def prepare(self) -> None:
        """Write who may use it, and make the directory of its data."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / "data").mkdir(exist_ok=True)
        write_private(self.directory / _IDENTITIES, json.dumps(self._identities()).encode())

    def ready(self) -> bool:
        """Whether the gateway and the filer answer, and there is a volume to write to."""
        return (
            _answers(self.s3_port, "/healthz") is not None
            and _answers(self.filer_port, "/healthz") is not None
            and b'"fid"' in (_answers(self.master_port, "/dir/assign") or b"")
        )

    def _environ(self) -> dict[str, str]:
        environ = {"GOMEMLIMIT": _MEMORY}
        if self.filer_key:
            environ["WEED_JWT_FILER_SIGNING_KEY"] = self.filer_key
            environ["WEED_JWT_FILER_SIGNING_READ_KEY"] = self.filer_key
        return environ

    def _identities(self) -> object:
        return {
            "identities": [
                {
                    "name": identity.name,
                    "credentials": [{"accessKey": identity.access, "secretKey": identity.secret}],
                    "actions": list(identity.actions),
                }
                for identity in self.identities
            ]
        }


def load(directory: Path) -> WeedServer | None:
    """The server that was saved in this directory, or None. Raises ConfigError."""

    def make(values: Mapping[str, Any]) -> WeedServer:
        identities = tuple(
            Identity(**{**one, "actions": tuple(one["actions"])}) for one in values["identities"]
        )
        arguments = tuple(values["s3_arguments"])
        return WeedServer(**{**values, "identities": identities, "s3_arguments": arguments})

    return server.load(directory, make)


def plan(
    directory: Path,
    *,
    others: tuple[Identity, ...] = (),
    filer_key: str | None = None,
    s3_arguments: tuple[str, ...] = (),
) -> WeedServer:
    """A server with fresh keys on ports that are free now; nothing is started.

    ``others`` are users of the S3 gateway beside the admin. ``filer_key`` is random if None.
    """
    master, volume, filer, s3, admin = process.free_ports(5)
    identity = Identity("tcfs", secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
    return WeedServer(
        directory,
        master_port=master,
        volume_port=volume,
        filer_port=filer,
        s3_port=s3,
        admin_port=admin,
        identities=(identity, *others),
        filer_key=secrets.token_urlsafe(30) if filer_key is None else filer_key,
        s3_arguments=s3_arguments,
    )


def start_new(
    directory: Path,
    *,
    others: tuple[Identity, ...] = (),
    filer_key: str | None = None,
    s3_arguments: tuple[str, ...] = (),
) -> WeedServer:
    """Plan, start and save a server. See ``server.start_new``."""
    return server.start_new(
        lambda: plan(directory, others=others, filer_key=filer_key, s3_arguments=s3_arguments)
    )


def _answers(port: int, path: str) -> bytes | None:
    """Body of a GET that was answered with 200, or None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
