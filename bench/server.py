"""A private SeaweedFS whose own counters say what clients sent and asked for.

Counting where the requests arrive costs the clients nothing, as a proxy in front would, and counts
every client alike: bodies of S3 requests, without headers.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tcfs.service.servers import private, process, weed

_SAMPLE = re.compile(r"SeaweedFS_(\w+)\{([^}]*)\} (\S+)")


class Traffic(NamedTuple):
    """Bytes from clients, bytes to clients, requests."""

    sent: int
    received: int
    requests: int

    def since(self, earlier: Traffic) -> Traffic:
        return Traffic(*(now - then for now, then in zip(self, earlier, strict=True)))


@dataclass(frozen=True)
class CountedServer:
    """A running SeaweedFS with one bucket, ``private.BUCKET``."""

    weed: weed.WeedServer
    metrics_port: int

    bucket = private.BUCKET

    def traffic(self) -> Traffic:
        """What the S3 gateway counted since it was started."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        found = {"received": 0, "sent": 0, "requests": 0}
        names = {
            "s3_bucket_traffic_received_bytes_total": "received",
            "s3_bucket_traffic_sent_bytes_total": "sent",
            "s3_request_total": "requests",
        }
        for name, _, value in _SAMPLE.findall(text):
            if name in names:
                found[names[name]] += int(float(value))
        return Traffic(found["received"], found["sent"], found["requests"])

    def stored(self, prefix: str) -> int:
        """Bytes of all objects below a prefix."""
        client = client_of(self.weed.s3_endpoint, self.weed.access, self.weed.secret)
        total = 0
        for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        ):
            total += sum(item["Size"] for item in page.get("Contents", ()))
        client.close()
        return total


def client_of(endpoint: str, access: str, secret: str) -> Any:
    """boto3 as its documentation has it."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@contextmanager
def counted_server(directory: Path) -> Iterator[CountedServer]:
    """A SeaweedFS in an empty directory, killed at the end; what it stored stays there."""
    (port,) = process.free_ports(1)
    running = weed.start_new(directory, s3_arguments=(f"-metricsPort={port}",))
    try:
        private.make_bucket(running)
        yield CountedServer(running, port)
    finally:
        running.kill()
