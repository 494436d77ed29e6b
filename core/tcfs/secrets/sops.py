"""SOPS files, read as sops itself reads them: YAML, JSON and dotenv, opened with an age identity.

Format of sops 3 (read from files it wrote, and its documentation): a data key is sealed with age to
each recipient; each leaf is ``ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`` with a 32-byte IV and the
path as associated data (keys joined by ``:``, with one at the end; places in lists left out). The
MAC is SHA-512 over all leaves in the order of the document, as upper-case hex, sealed with
``lastmodified`` as associated data. A file whose MAC does not hold is refused whole.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, Literal, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tcfs.errors import AccessError, ConfigError, IntegrityError, TcfsError
from tcfs.secrets.age import decrypt

Format = Literal["yaml", "json", "env"]
Opener = Callable[[bytes], bytes]
"""Opens what is sealed with age to this machine; raises AccessError."""

_VALUE: Final = re.compile(
    r"ENC\[AES256_GCM,data:(.*?),iv:(.*?),tag:(.*?),type:(str|int|float|bool|bytes|comment|time)\]",
    re.DOTALL,
)
_MAC_ONLY: Final = bytes.fromhex("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")
"""What the MAC begins with where only encrypted values are in it (sops' constant)."""
_DEEPEST: Final = 64


@dataclass(frozen=True, slots=True)
class Document:
    """An opened file: its tree, without sops' own part. Values are secrets."""

    tree: dict[str, Any] = field(repr=False)

    def flat(self) -> dict[str, str]:
        """The leaves as text by their keys joined with ``-``; lists are left out."""
        found: dict[str, str] = {}
        waiting: list[tuple[str, Any]] = [("", self.tree)]
        while waiting:
            prefix, node = waiting.pop()
            for key, value in node.items():
                name = f"{prefix}-{key}" if prefix else str(key)
                if isinstance(value, dict):
                    waiting.append((name, value))
                elif isinstance(value, str | int | float) and not isinstance(value, bool):
                    found[name] = _plain(value)
        return found


def open_sops(data: bytes, kind: Format, opener: Opener, where: str) -> Document:
    """Decrypt a SOPS file and check its MAC.

    Args:
        where: names the file in errors, which show nothing of what is in it.

    Raises:
        ConfigError: it is no SOPS file of that format, or needs keys other than age's.
        AccessError: none of its recipients is this machine's.
        IntegrityError: it was changed after sops wrote it.
    """
    try:
        tree = _PARSERS[kind](data)
    except TcfsError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not {kind}: {type(error).__name__}") from None
    meta = tree.pop("sops", None)
    if not isinstance(meta, dict):
        raise ConfigError(f"{where} is not a SOPS file", remedy="Encrypt it: sops encrypt FILE")
    key = _data_key(meta, opener, where)
    reader = _Reader(key, meta, where)
    opened = reader.node(tree, (), 0)
    reader.check(meta)
    return Document(cast(dict[str, Any], opened))


def _data_key(meta: Mapping[str, Any], opener: Opener, where: str) -> bytes:
    groups = meta.get("key_groups") or []
    if len(groups) > 1:
        raise ConfigError(f"{where} needs keys of several groups, which tcfs does not put together")
    sealed = list(meta.get("age") or [])
    if groups and isinstance(groups[0], dict):
        sealed += groups[0].get("age") or []
    if not sealed:
        raise ConfigError(
            f"{where} is not sealed to any age recipient",
            remedy="Add one: sops rotate --add-age RECIPIENT -i FILE",
        )
    refused: AccessError | None = None
    for item in sealed:
        text = item.get("enc") if isinstance(item, dict) else None
        if not isinstance(text, str):
            continue
        try:
            key = opener(text.encode())
        except AccessError as error:
            refused = error
            continue
        if len(key) == 32:
            return key
    raise AccessError(
        f"{where} is not sealed to this machine's age identity",
        remedy="Add its recipient (age-keygen -y) with: sops rotate --add-age RECIPIENT -i FILE",
    ) from refused


class _Reader:
    """Opens leaves, and gathers the MAC."""

    def __init__(self, key: bytes, meta: Mapping[str, Any], where: str) -> None:
        self._key = key
        self._where = where
        self._mac = hashlib.sha512()
        self._mac_only = str(meta.get("mac_only_encrypted", "")).lower() == "true"
        if self._mac_only:
            self._mac.update(_MAC_ONLY)
        self._encrypted = _chooser(meta, where)

    def node(self, node: object, path: tuple[str, ...], depth: int) -> object:
        """A node with its leaves opened."""
        if depth > _DEEPEST:
            raise ConfigError(f"{self._where} is nested too deeply")
        if isinstance(node, dict):
            return {
                str(key): self.node(value, (*path, str(key)), depth + 1)
                for key, value in node.items()
            }
        if isinstance(node, list):
            return [self.node(value, path, depth + 1) for value in node]
        return self._leaf(node, path)

    def _leaf(self, value: object, path: tuple[str, ...]) -> object:
        if value is None:
            return None
        encrypted = self._encrypted(path)
        if encrypted and value != "":
            if not isinstance(value, str):
                raise IntegrityError(f"{self._where}: {_at(path)} is not encrypted, and must be")
            value = self._decrypted(value, "".join(f"{key}:" for key in path), _at(path))
        if encrypted or not self._mac_only:
            self._mac.update(_plain(value).encode())
        return value

    def _decrypted(self, text: str, aad: str, at: str) -> object:
        match = _VALUE.fullmatch(text)
        if match is None:
            raise IntegrityError(f"{self._where}: {at} is not encrypted, and must be")
        try:
            data, iv, tag = (base64.b64decode(part, validate=True) for part in match.groups()[:3])
            plain = _open_gcm(self._key, iv, data, tag, aad.encode())
            return _typed(plain, match[4])
        except (InvalidTag, ValueError, binascii.Error):
            raise IntegrityError(
                f"{self._where}: {at} was changed, or moved from another place"
            ) from None

    def check(self, meta: Mapping[str, Any]) -> None:
        """The MAC over everything that was read. Raises IntegrityError."""
        mac, modified = meta.get("mac"), meta.get("lastmodified")
        if isinstance(modified, datetime):
            modified = _moment(modified)
        if not isinstance(mac, str) or not isinstance(modified, str):
            raise IntegrityError(f"{self._where} has no MAC")
        said = self._decrypted(mac, modified, "its MAC")
        if not hmac.compare_digest(str(said).upper(), self._mac.hexdigest().upper()):
            raise IntegrityError(
                f"{self._where} was changed after it was encrypted: its MAC does not hold",
                remedy="Look at what changed it; changes are made with: sops edit FILE",
            )


def _open_gcm(key: bytes, iv: bytes, data: bytes, tag: bytes, aad: bytes) -> bytes:
    # AESGCM of the same library takes IVs up to 128 bytes too, but wants the tag at the end.
    if not 8 <= len(iv) <= 128 or len(tag) != 16:
        raise ValueError("not an IV and tag")
    decryptor = Cipher(algorithms.AES(key), modes.GCM(iv, tag)).decryptor()
    decryptor.authenticate_additional_data(aad)
    return decryptor.update(data) + decryptor.finalize()


def _typed(plain: bytes, kind: str) -> object:
    text = plain.decode()
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError("not a bool")
        return text.lower() == "true"
    return text


def _plain(value: object) -> str:
    """A leaf as sops hashes it: Go's text of it."""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime | date):
        return _moment(value)
    return str(value)


def _moment(value: date) -> str:
    """A time as RFC 3339; a date is its midnight, and without a zone it is UTC."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _at(path: Sequence[str]) -> str:
    """A place for people: keys are no secrets, in sops."""
    return ".".join(path) or "the top"


def _chooser(meta: Mapping[str, Any], where: str) -> Callable[[tuple[str, ...]], bool]:
    """Which leaves are encrypted, from the one rule that a file states."""

    def text(name: str) -> str:
        value = meta.get(name)
        return value if isinstance(value, str) else ""

    try:
        if text("unencrypted_suffix"):
            end = text("unencrypted_suffix")
            return lambda path: not any(key.endswith(end) for key in path)
        if text("encrypted_suffix"):
            end = text("encrypted_suffix")
            return lambda path: any(key.endswith(end) for key in path)
        if text("unencrypted_regex"):
            rule = re.compile(text("unencrypted_regex"))
            return lambda path: not any(rule.search(key) for key in path)
        if text("encrypted_regex"):
            rule = re.compile(text("encrypted_regex"))
            return lambda path: any(rule.search(key) for key in path)
    except re.error:
        raise ConfigError(f"{where} chooses what is encrypted by a pattern that is none") from None
    if text("unencrypted_comment_regex") or text("encrypted_comment_regex"):
        raise ConfigError(f"{where} chooses what is encrypted by comments, which tcfs does not")
    return lambda path: True


# Formats


def _json(data: bytes) -> dict[str, Any]:
    def number(text: str) -> float:
        return float(text)  # JSON has one kind of number, and sops reads it as a float

    return _top(json.loads(data, object_pairs_hook=_unique, parse_int=number, parse_float=number))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _yaml(data: bytes) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent

    yaml = YAML(typ="safe", pure=True)
    try:
        # An alias lets a few lines stand for a very large tree, and sops writes none.
        if any(isinstance(event, AliasEvent) for event in yaml.parse(data)):
            raise ValueError("aliases")
        return _top(yaml.load(data))
    except YAMLError as error:
        raise ValueError(type(error).__name__) from None


def _env(data: bytes) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    for raw in data.decode().split("\n"):
        line = raw.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or key in tree:
            raise ValueError("not a line of the form NAME=value")
        if key.startswith("sops_"):
            meta[key.removeprefix("sops_")] = value.replace("\\n", "\n")
        else:
            tree[key] = value.replace("\\n", "\n")
    sealed: dict[str, dict[str, str]] = {}
    for key in [k for k in meta if k.startswith("age__list_")]:
        number, _, name = key.removeprefix("age__list_").partition("__map_")
        sealed.setdefault(number, {})[name] = meta.pop(key)
    if meta:
        tree["sops"] = {**meta, "age": list(sealed.values())}
    return tree


def _top(tree: object) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ValueError("its top is no map")
    return tree


_PARSERS: Final[Mapping[Format, Callable[[bytes], dict[str, Any]]]] = {
    "json": _json,
    "yaml": _yaml,
    "env": _env,
}
FORMATS: Final[Mapping[str, Format]] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".env": "env",
}
"""Formats by the end of a file's name."""


def opener_of(identities: Sequence[Any]) -> Opener:
    """Opens with these identities."""
    return lambda data: decrypt(data, identities, "its data key")
