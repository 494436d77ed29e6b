"""A transport for HTTP that reads no answer without end. Apart, since loading httpx2 takes time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx2

LONGEST: Final = 1 << 20
"""Bytes of the longest answer that is read."""


class Bounded(httpx2.HTTPTransport):
    """A transport whose answers end with an error after ``LONGEST`` bytes."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Limited(response.stream)
        return response


class _Limited(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        left = LONGEST
        for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError("the answer is too long")
            yield chunk

    def close(self) -> None:
        self._stream.close()
