"""Stores that format version 1 wrote are read: by this version, and by FORMAT.md alone.

``Reader`` is a second implementation, written from FORMAT.md with nothing of ``tcfs`` in it. If it
has to change, so does the format, and every store out there is concerned.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import bech32
import pyrage
import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from mnemonic import Mnemonic
from pyrage import x25519

from tcfs.config.load import LoadedConfig, load_config
from tcfs.sync import session
from tcfs.sync.facade import Limits
from tcfs.sync.fleet import Fleet

FIXTURE = Path(__file__).parent / "fixtures" / "store-v1"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())
STORES = sorted(EXPECTED)


@pytest.fixture(params=STORES)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(which: str, tmp_path: Path) -> Path:
    return unpack(which, tmp_path / "store")


def unpack(which: str, target: Path) -> Path:
    with tarfile.open(FIXTURE / f"{which}.tar.xz") as archive:
        for member in archive:
            data = archive.extractfile(member)
            assert data is not None
            path = target / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.read())
    return target


# This version


def configured(store: Path, tmp_path: Path) -> LoadedConfig:
    return load_config(
        environ={
            "HOME": str(tmp_path),
            "TCFS_HOME": str(tmp_path / "home"),
            "TCFS_REMOTE": store.as_uri(),
            "TCFS_SYNC_SYNC_ROOT": str(tmp_path / "tree"),
        }
    )


@pytest.fixture
def fleet(which: str, store: Path, tmp_path: Path) -> Iterator[Fleet]:
    loaded = configured(store, tmp_path)
    session.recover_fleet(loaded, phrase=EXPECTED[which]["phrase"], name="zoe")
    opened = session.open_fleet(loaded, actor="test")
    yield opened
    opened.close()


def found_tree(top: Path) -> list[dict[str, Any]]:
    """The tree on disk in the words of ``expected.json``."""
    entries = []
    start = os.fsencode(top)
    for directory, names, files in os.walk(start):
        names[:] = [name for name in names if name != b".tcfs"]
        for name in names + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            entry: dict[str, Any] = {"path": os.path.relpath(path, start).hex()}
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                entry |= {"kind": "symlink", "target": os.readlink(path).hex()}
            elif stat.S_ISDIR(status.st_mode):
                entry |= {"kind": "dir", "mode": mode}
            else:
                data = Path(os.fsdecode(path)).read_bytes()
                entry |= {
                    "kind": "file",
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "mode": mode,
                    "mtime_ns": status.st_mtime_ns,
                }
            entries.append(entry)
    return sorted(entries, key=lambda entry: bytes.fromhex(entry["path"]))


def test_the_phrase_opens_the_store_and_every_byte_comes_back(
    which: str, fleet: Fleet, tmp_path: Path
) -> None:
    result = fleet.pull(mode="defer", limits=Limits(confirmed=True))
    assert result.problems == ()
    assert found_tree(tmp_path / "tree") == EXPECTED[which]["tree"]


def test_members_conflicts_and_history_are_as_they_were(which: str, fleet: Fleet) -> None:
    expected = EXPECTED[which]
    found = {d.name: "revoked" if d.revoked else d.role for d in fleet.devices() if d.name != "zoe"}
    assert found == expected["devices"]
    assert [conflict.path for conflict in fleet.conflicts().conflicts] == expected["conflicts"]
    [moved] = [v for v in fleet.log("docs/moved.txt").versions if v.moved_from]
    assert moved.moved_from == "moves.txt"
    assert fleet.why("goes.txt").state == "not_present"
    status = fleet.status()
    assert status.encryption is expected["encryption"]
    assert status.repo == expected["repo"]


def test_everything_verifies(fleet: Fleet, tmp_path: Path) -> None:
    fleet.pull(mode="defer", limits=Limits(confirmed=True))
    report = fleet.verify(read_data=True, local=True)
    assert report.problems == ()
    assert report.ok
    assert report.packs > 1


def test_a_version_of_long_ago_is_restored(fleet: Fleet, tmp_path: Path) -> None:
    fleet.pull(mode="defer", limits=Limits(confirmed=True))
    first = fleet.log("plain.txt").versions[-1]
    fleet.restore("plain.txt", first.id)
    assert (tmp_path / "tree" / "plain.txt").read_text() == "first version\n"


# FORMAT.md alone


class Segment(NamedTuple):
    key: str
    header: dict[str, Any]
    events: list[dict[str, Any]]
    addresses: dict[str, tuple[str, int, int, int, int]]
    inline: bytes


class Reader:
    """Reads a store as FORMAT.md has it: the whole of it, from the phrase on."""

    def __init__(self, top: Path, phrase: str) -> None:
        self.objects = {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in top.rglob("*")
            if path.is_file() and not path.name.startswith(".tcfs")
        }
        self.format = json.loads(self.objects["format.json"])
        self.repo = bytes.fromhex(self.format["repo"].replace("-", ""))
        entropy = bytes(Mnemonic("english").to_entropy(phrase.split()))
        root = Ed25519PrivateKey.from_private_bytes(hkdf(entropy, b"", b"tcfs root signing v1"))
        self.root_key = root.public_key().public_bytes_raw()
        assert self.root_key.hex() == self.format["root_public_key"]
        self.recovery = age_identity(hkdf(entropy, b"", b"tcfs recovery identity v1"))
        assert str(self.recovery.to_public()) == self.format["recovery_recipient"]
        self.sign_keys = {"root": self.root_key}
        self.keys: dict[str, bytes] = {}
        self.chunk_key = b""
        self.control = self._read_control()
        self._read_keys()
        self.segments = [
            self.segment(key) for key in sorted(self.objects) if key.startswith("ledger/default/")
        ]
        self.abridged = self._complete_lists()
        self.packs = {
            key.split("/")[2]: data for key, data in self.objects.items() if key[:6] == "packs/"
        }
        for segment in self.segments:
            if segment.inline:
                self.packs[segment.header["pack"]["id"]] = segment.inline
        for name, data in self.packs.items():
            assert blake3(data).hexdigest() == name
        self.addresses = {
            chunk: address for s in self.segments for chunk, address in s.addresses.items()
        }

    def _complete_lists(self) -> int:
        """Put lists of chunks in full where they go by earlier ones; how many do."""
        lists: dict[tuple[str, int], list[str]] = {}
        abridged = 0
        for segment in self.segments:
            for event in segment.events:
                told, device = event["manifest"].get("chunks", []), segment.header["device"]
                if isinstance(told, dict):
                    abridged += 1
                    earlier = lists[device, told["of"]]
                    assert told["front"] + told["back"] <= len(earlier)
                    back = earlier[len(earlier) - told["back"] :]
                    told = earlier[: told["front"]] + told["between"] + back
                    event["manifest"]["chunks"] = told
                lists[device, event["n"]] = told
        return abridged

    # Members and keys

    def _read_control(self) -> list[dict[str, Any]]:
        """The control events. Keys of admins come from events, those of others from claims."""
        events: list[dict[str, Any]] = []
        keys = sorted(key for key in self.objects if key.startswith("ledger/_control/"))
        for key in sorted(keys, key=lambda key: "/root/" not in key):
            for event in self.segment(key).events:
                events.append(event)
                if event["op"] == "admit":
                    device = event["device"]
                    self.sign_keys[device["device_id"]] = bytes.fromhex(device["sign_key"])
        invites = {e["invite_id"]: e for e in events if e["op"] == "invite"}
        for key, data in self.objects.items():
            if key.startswith("claims/"):
                claim = json.loads(data)
                invite = invites[key.split("/")[1]]
                device = claim["device"]
                invite_signature = bytes.fromhex(claim.pop("invite_signature"))
                device_signature = bytes.fromhex(claim.pop("device_signature"))
                text = json.dumps(claim, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
                message = b"tcfs claim v1\0" + text.encode()
                verify(bytes.fromhex(invite["public_key"]), invite_signature, message)
                verify(bytes.fromhex(device["sign_key"]), device_signature, message)
                assert claim["claimed_at"] <= invite["expires_at"]
                self.sign_keys[device["device_id"]] = bytes.fromhex(device["sign_key"])
        return events

    def _read_keys(self) -> None:
        epochs = {e["epoch"]: e for e in self.control if e["op"] == "epoch"}
        self.epochs = list(epochs)
        if not self.format["encryption"]:
            assert all(e["commitment"] == "00" * 32 for e in epochs.values())
            return
        for epoch in epochs:
            prefix = f"keys/default/{epoch}/recovery-"
            [key] = [key for key in self.objects if key.startswith(prefix)]
            assert blake3(self.objects[key]).hexdigest() == key[len(prefix) :]
            opened = json.loads(pyrage.decrypt(self.objects[key], [self.recovery]))
            assert (opened["format"], opened["repo"]) == (1, self.format["repo"])
            assert (opened["namespace"], opened["epoch"]) == ("default", epoch)
            self.chunk_key = bytes.fromhex(opened["chunk_key"])
            for one in [{"epoch": epoch, "key": opened["key"]}, *opened["previous"]]:
                secret = bytes.fromhex(one["key"])
                committed = blake3(
                    secret + self.chunk_key, derive_key_context="tcfs epoch commitment v1"
                )
                assert committed.hexdigest() == epochs[one["epoch"]]["commitment"]
                self.keys[one["epoch"]] = secret

    # Sealing

    def bind(self, kind: bytes, namespace: str, epoch: bytes, cipher: int) -> bytes:
        name = namespace.encode()
        parts = (kind, b"\0", self.repo, bytes((len(name),)), name, epoch, bytes((cipher,)))
        return b"".join(parts)

    def unseal(
        self,
        bound: bytes,
        cipher: int,
        epoch: str,
        salt: bytes,
        nonce: int,
        aad: bytes,
        data: bytes,
    ) -> bytes:
        if cipher == 0:
            return data
        key = hkdf(self.keys[epoch], salt, bound)
        assert cipher in (1, 2)
        aead = AESGCM(key) if cipher == 1 else ChaCha20Poly1305(key)
        return aead.decrypt(nonce.to_bytes(12, "big"), data, bound + aad)

    # Segments

    def segment(self, key: str) -> Segment:
        data = self.objects[key]
        _, namespace, device, name = key.split("/")
        seq, digest = name.split("-")
        assert blake3(data).hexdigest() == digest
        assert data[:8] == b"TCFSSEG1"
        end = 12 + int.from_bytes(data[8:12], "big")
        raw, signature = data[12:end], data[end : end + 64]
        verify(self.sign_keys[device], signature, b"tcfs segment v1\0" + raw)
        header = json.loads(raw)
        assert (header["format"], header["repo"]) == (1, self.format["repo"])
        place = (header["namespace"], header["device"], header["seq"])
        assert place == (namespace, device, int(seq))
        body = data[end + 64 : end + 64 + header["body_size"]]
        inline = data[end + 64 + header["body_size"] :]
        assert blake3(body).hexdigest() == header["body_hash"]
        assert len(inline) == (header["pack"]["size"] if header["pack"] else 0)
        cipher, epoch = header["cipher"], header["epoch"]
        assert (cipher != 0) == (self.format["encryption"] and namespace != "_control")
        bound = self.bind(
            b"tcfs/segment/v1", namespace, bytes.fromhex(epoch) if epoch else bytes(16), cipher
        )
        aad = device.encode() + b"\0" + int(seq).to_bytes(8, "big") + body[:1]
        salt = bytes.fromhex(header["salt"])
        plain = decode(body[0], self.unseal(bound, cipher, epoch, salt, 0, aad, body[1:]))
        events, addresses = table(plain)
        return Segment(key, header, events, addresses, inline)

    # Packs

    def frame(self, pack: str, offset: int, length: int, *, trailer: bool = False) -> bytes:
        data = self.packs[pack]
        magic, version, cipher, size, repo, device, seq, epoch, salt, named = struct.unpack(
            ">8sBBH16s16sQ16s32sB", data[:101]
        )
        assert (magic, version, size, repo) == (b"TCFSPACK", 1, 101 + named, self.repo)
        assert device.hex() in {d.replace("-", "") for d in self.sign_keys}
        assert seq >= 1
        assert any(epoch) == self.format["encryption"]
        namespace = data[101 : 101 + named].decode()
        bound = self.bind(b"tcfs/pack/v1", namespace, epoch, cipher)
        codec, last = data[offset], int(trailer)
        aad = struct.pack(">BQBB", last, offset, last, codec)
        sealed = data[offset + 1 : offset + length]
        return decode(codec, self.unseal(bound, cipher, epoch.hex(), salt, offset, aad, sealed))

    def trailer(self, pack: str) -> dict[str, tuple[str, int, int, int, int]]:
        """Where the chunks of a pack are, from the pack alone."""
        data = self.packs[pack]
        length, end = struct.unpack(">I8s", data[-12:])
        assert end == b"TCFSPEND"
        start = len(data) - 12 - length
        plain = self.frame(pack, start, length, trailer=True)
        (count,) = struct.unpack(">I", plain[:4])
        frames = list(struct.iter_unpack(">II", plain[4 : 4 + 8 * count]))
        chunks = iter(struct.iter_unpack(">32sI", plain[4 + 8 * count :]))
        found = {}
        position = int.from_bytes(data[10:12], "big")
        for size, number in frames:
            offset = 0
            for _ in range(number):
                chunk, length = next(chunks)
                found[chunk.hex()] = (pack, position, size, offset, length)
                offset += length
            position += size
        assert position == start
        assert next(chunks, None) is None
        return found

    def chunk(self, name: str) -> bytes:
        pack, frame_offset, frame_length, offset, length = self.addresses[name]
        data = self.frame(pack, frame_offset, frame_length)[offset : offset + length]
        keyed = blake3(data, key=self.chunk_key) if self.chunk_key else blake3(data)
        assert keyed.hexdigest() == name
        return data

    def content(self, manifest: dict[str, Any]) -> bytes:
        data = b"".join(self.chunk(chunk) for chunk in manifest["chunks"])
        assert len(data) == manifest["file_size"]
        assert blake3(data).hexdigest() == manifest["file_hash"]
        return data

    # History

    def versions(self) -> dict[tuple[str, int], tuple[tuple[Any, ...], dict[str, Any]]]:
        """Manifest and order of every version that counts."""
        cuts = {e["device_id"]: e["cut"] for e in self.control if e["op"] == "revoke"}
        found = {}
        for segment in self.segments:
            header = segment.header
            device, seq = header["device"], header["seq"]
            if device in cuts and seq > cuts[device].get("default", [0])[0]:
                continue
            for event in segment.events:
                order = (header["lamport"], device, event["n"])
                found[device, event["n"]] = (order, event["manifest"])
        return found

    def live(self) -> dict[bytes, list[dict[str, Any]]]:
        """The representative of each group of live versions, by path."""
        versions = self.versions()
        superseded = {(*p, text(m, "rel_path")) for _, m in versions.values() for p in m["parents"]}
        groups: dict[bytes, dict[Any, tuple[Any, dict[str, Any]]]] = {}
        for version, (order, manifest) in versions.items():
            ended = (*version, text(manifest, "rel_path")) in superseded
            if ended or manifest["kind"] == "tombstone":
                continue
            mode = manifest["mode"] if manifest["kind"] in ("file", "dir") else 0
            content = (manifest["kind"], manifest["file_hash"], mode, text(manifest, "target"))
            at = groups.setdefault(text(manifest, "rel_path"), {})
            if content not in at or order > at[content][0]:
                at[content] = (order, manifest)
        return {path: [m for _, m in found.values()] for path, found in groups.items()}


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def age_identity(scalar: bytes) -> x25519.Identity:
    words = bech32.convertbits(scalar, 8, 5)
    assert words is not None
    return x25519.Identity.from_str(bech32.bech32_encode("age-secret-key-", words).upper())


def verify(key: bytes, signature: bytes, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(key).verify(signature, message)


def decode(codec: int, payload: bytes) -> bytes:
    if codec == 0:
        return payload
    assert codec == 1
    return zstandard.ZstdDecompressor().decompress(payload)


def text(manifest: dict[str, Any], name: str) -> bytes:
    coded = manifest.get(f"{name}_b64")
    return base64.b64decode(coded) if coded else str(manifest.get(name, "")).encode()


def table(
    plain: bytes,
) -> tuple[list[dict[str, Any]], dict[str, tuple[str, int, int, int, int]]]:
    """A body's events, and where its new chunks are."""
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        assert at <= len(plain)
        return plain[at - size : at]

    def number() -> int:
        return int.from_bytes(take(4), "big")

    events = [json.loads(line) for line in take(number()).splitlines()]
    packs = [take(32).hex() for _ in range(number())]
    lists = [e.get("manifest", {}).get("chunks", []) for e in events]
    named = [told["between"] if isinstance(told, dict) else told for told in lists]
    chunks = list(dict.fromkeys(chunk for one in named for chunk in one))
    count = number()
    assert count == len(chunks)
    bits = "".join(f"{byte:08b}" for byte in take((count + 7) // 8))
    new = [chunk for chunk, bit in zip(chunks, bits, strict=False) if bit == "1"]
    addressed = number()
    assert addressed == len(new)
    pack_numbers = struct.unpack(f">{addressed}H", take(2 * addressed))
    columns = [struct.unpack(f">{addressed}I", take(4 * addressed)) for _ in range(4)]
    assert at == len(plain)
    rows = zip([packs[n] for n in pack_numbers], *columns, strict=True)
    return events, dict(zip(new, rows, strict=True))


@pytest.fixture
def reader(which: str, store: Path) -> Reader:
    return Reader(store, EXPECTED[which]["phrase"])


def test_the_format_page_is_enough_to_read_every_version(which: str, reader: Reader) -> None:
    files = [m for _, m in reader.versions().values() if m["kind"] == "file"]
    ever = {hashlib.sha256(reader.content(m)).hexdigest() for m in files}
    assert ever == set(EXPECTED[which]["ever"])
    assert max(len(m["chunks"]) for m in files) > 10


def test_the_format_page_is_enough_to_know_the_tree(which: str, reader: Reader) -> None:
    expected = {bytes.fromhex(e["path"]): e for e in EXPECTED[which]["tree"]}
    live = reader.live()
    assert set(live) == set(expected)
    conflicts = [path.decode() for path, versions in live.items() if len(versions) > 1]
    assert conflicts == EXPECTED[which]["conflicts"]
    for path, versions in live.items():
        # Of a conflict, what the strategy device-name prefers.
        manifest = min(versions, key=lambda m: str(m["written_by"]))
        entry = expected[path]
        assert manifest["kind"] == entry["kind"]
        if entry["kind"] == "symlink":
            assert text(manifest, "target") == bytes.fromhex(entry["target"])
            continue
        assert manifest["mode"] == entry["mode"]
        if entry["kind"] == "file":
            assert manifest["mtime_ns"] == entry["mtime_ns"]
            assert hashlib.sha256(reader.content(manifest)).hexdigest() == entry["sha256"]


def test_the_format_page_is_enough_to_find_chunks_by_packs_alone(reader: Reader) -> None:
    found: dict[str, tuple[str, int, int, int, int]] = {}
    for pack in reader.packs:
        found |= reader.trailer(pack)
    assert found == reader.addresses


def test_the_format_page_is_enough_to_follow_the_chains(reader: Reader) -> None:
    heads: dict[str, list[Any]] = {}
    for segment in reader.segments:
        header = segment.header
        device, seq, digest = header["device"], header["seq"], segment.key[-64:]
        before = heads.get(device)
        assert (header["seq"], header["prev"]) == (
            (before[0] + 1, before[1]) if before else (1, "")
        )
        heads[device] = [seq, digest]
    places = {(s.header["device"], s.header["seq"], s.key[-64:]): s.header for s in reader.segments}
    for segment in reader.segments:
        seen = [places[d, seq, digest] for d, (seq, digest) in segment.header["seen"].items()]
        assert segment.header["lamport"] > max((h["lamport"] for h in seen), default=0)


def test_the_fixture_is_small_and_has_a_store_of_either_kind() -> None:
    assert EXPECTED["sealed"]["encryption"]
    assert not EXPECTED["open"]["encryption"]
    size = sum(path.stat().st_size for path in FIXTURE.iterdir())
    assert size <= 200 << 10


def test_the_sealed_store_has_both_ciphers_two_epochs_and_packs_of_both_kinds(
    tmp_path: Path,
) -> None:
    reader = Reader(unpack("sealed", tmp_path / "store"), EXPECTED["sealed"]["phrase"])
    assert {s.header["cipher"] for s in reader.segments} == {1, 2}
    assert len(reader.epochs) == EXPECTED["sealed"]["epochs"]
    assert len({s.header["epoch"] for s in reader.segments}) == 2
    assert any(s.header["pack"] for s in reader.segments)
    assert any(key.startswith("packs/") for key in reader.objects)


def test_the_format_page_is_enough_to_read_what_was_edited(tmp_path: Path) -> None:
    """Lists of chunks that are told by what changed: newer than the stores above."""
    loaded = configured(tmp_path / "store", tmp_path)
    made = session.init_fleet(loaded, name="zoe")
    log = tmp_path / "tree" / "log"
    versions = [b"".join(b"%06d of a log\n" % n for n in range(60_000))]
    log.parent.mkdir(exist_ok=True)
    with closing(session.open_fleet(loaded, actor="test")) as fleet:
        for text in (b"inserted\n", b"again\n"):
            log.write_bytes(versions[-1])
            fleet.push([], limits=Limits(confirmed=True))
            versions.append(versions[-1][:500_000] + text + versions[-1][500_000:])
        log.write_bytes(versions[-1])
        fleet.push([], limits=Limits(confirmed=True))
    reader = Reader(tmp_path / "store", made.phrase)
    assert reader.abridged == 2
    found = [manifest for _, manifest in sorted(reader.versions().values(), key=lambda v: v[0])]
    assert [reader.content(m) for m in found if m["kind"] == "file"] == versions
