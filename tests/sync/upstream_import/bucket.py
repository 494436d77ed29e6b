"""Buckets as the Rust tcfs left them, written here after its formats alone."""

from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path

from blake3 import blake3

from tcfs.sync.upstream_import.formats import seal

MASTER = bytes(range(32))
WRITTEN_AT = 1_700_000_000


class Upstream:
    """A prefix of the Rust tcfs in a directory."""

    def __init__(self, top: Path) -> None:
        self.top = top
        top.mkdir()

    def put(self, name: str, data: bytes) -> None:
        path = os.path.join(os.fsencode(self.top), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def chunks(self, data: bytes, key: bytes = b"") -> list[str]:
        names = []
        for number, start in enumerate(range(0, len(data), 5000)):
            piece = data[start : start + 5000]
            if key:
                extra = struct.pack(">Q", number) + blake3(data).digest()
                piece = seal(key, os.urandom(24), piece, extra)
            names.append(blake3(piece).hexdigest())
            self.put(f"chunks/{names[-1]}", piece)
        return names

    def index(self, path: str, data: bytes, count: int) -> None:
        digest = blake3(data).hexdigest()
        text = f"manifest_hash={digest}\nsize={len(data)}\nchunks={count}\nlater=unknown\n"
        self.put(f"index/{path}", text.encode())

    def file(self, path: str, data: bytes, *, key: bytes = b"", **fields: object) -> str:
        """A file by a version 2 manifest. Returns its hash."""
        digest = blake3(data).hexdigest()
        names = self.chunks(data, key)
        manifest: dict[str, object] = {
            "version": 2,
            "file_hash": digest,
            "file_size": len(data),
            "chunks": names,
            "vclock": {"clocks": {"yoga": 3, "bates": 1}},
            "written_by": "yoga",
            "written_at": WRITTEN_AT,
            "rel_path": path,
        }
        if key:
            wrapped = seal(MASTER, os.urandom(24), key, b"")
            manifest["encrypted_file_key"] = base64.b64encode(wrapped).decode()
        self.put(f"manifests/{digest}", json.dumps(manifest | fields, indent=2).encode())
        self.index(path, data, len(names))
        return digest

    def file_v1(self, path: str, data: bytes) -> str:
        names = self.chunks(data)
        digest = blake3(data).hexdigest()
        self.put(f"manifests/{digest}", "\n".join(names).encode())
        self.index(path, data, len(names))
        return digest
