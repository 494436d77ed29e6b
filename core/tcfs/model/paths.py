"""Paths inside a namespace: bytes, validated once at the boundary.

A ``RelPath`` is relative, has no empty, ``.`` or ``..`` component, no NUL and no component
longer than file systems take. The empty path, a namespace's root, is ``ROOT``.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

from tcfs.errors import IntegrityError, UsageError
from tcfs.model.ids import DEFAULT_NAMESPACE, NamespaceId, RelPath, check_namespace

ROOT: Final = RelPath(b"")
MAX_PATH: Final = 4096
MAX_NAME: Final = 255
METADATA_DIR: Final = b".tcfs"
"""What tcfs keeps inside a synced directory: its identity marker and temporary files."""
TEMP_PREFIX: Final = b".tcfs-tmp-"

_FORBIDDEN = frozenset((b"", b".", b".."))
_SUSPECT = re.compile(rb"(?:\A|/)(?:\.{0,2}(?:/|\Z)|\.tcfs(?:/|\Z)|\.tcfs-tmp-)|\0")
"""What every path that ``path_problem`` refuses has, but for those that are too long."""


def path_problem(path: bytes) -> str | None:
    """Why these bytes cannot be a path in a namespace, or None if they can."""
    if len(path) <= MAX_NAME and not _SUSPECT.search(path):
        return None
    if not path:
        return "it is empty"
    if len(path) > MAX_PATH:
        return f"it is longer than {MAX_PATH} bytes"
    if b"\0" in path:
        return "it contains a NUL byte"
    names = path.split(b"/")
    for name in names:
        if name in _FORBIDDEN:
            return "it is absolute" if path[:1] == b"/" else f"component {name!r} is not allowed"
        if len(name) > MAX_NAME:
            return f"a component is longer than {MAX_NAME} bytes"
    if METADATA_DIR in names:
        return "'.tcfs' is reserved"
    if any(name.startswith(TEMP_PREFIX) for name in names):
        return f"names beginning with {TEMP_PREFIX.decode()!r} are reserved"
    return None


def remote_path(path: bytes) -> RelPath:
    """Validate a path that came from the store. Raises IntegrityError."""
    problem = path_problem(path)
    if problem:
        raise IntegrityError(f"refused the remote path {show(path)}: {problem}")
    return RelPath(path)


def user_path(path: bytes) -> RelPath:
    """Validate a path that a user gave. Raises UsageError."""
    problem = path_problem(path)
    if problem:
        raise UsageError(
            f"not a remote path: {show(path)}: {problem}",
            remedy="Give a path inside the namespace, such as docs/notes.txt",
        )
    return RelPath(path)


def parse_remote(
    text: str | bytes, *, remote_name: str, namespace: NamespaceId = DEFAULT_NAMESPACE
) -> tuple[NamespaceId, RelPath]:
    """Read what users write for a place in the fleet.

    ``tcfs/default/docs/a.txt`` is (remote name, namespace, path); the first component is the
    remote's name only if it equals it. Anything else is a path in ``namespace``. A trailing slash
    is allowed, and the remote's name with or without a namespace alone means its root.

    Raises:
        UsageError: the path is not allowed.
    """
    raw = _encode(text) if isinstance(text, str) else text
    raw = raw[:-1] if raw.endswith(b"/") and raw != b"/" else raw
    if not raw:
        return namespace, ROOT
    first, _, rest = raw.partition(b"/")
    if first == remote_name.encode():
        if not rest:
            return namespace, ROOT
        space, _, path = rest.partition(b"/")
        found = check_namespace(space.decode("utf-8", "replace"))
        return found, user_path(path) if path else ROOT
    return namespace, user_path(raw)


def join(prefix: RelPath, path: RelPath) -> RelPath:
    """``path`` below ``prefix``; either may be ``ROOT``."""
    if not prefix:
        return path
    return RelPath(prefix + b"/" + path) if path else prefix


def relative_to(path: RelPath, prefix: RelPath) -> RelPath | None:
    """``path`` as seen from ``prefix``, or None if it is not at or below it."""
    if not prefix:
        return path
    if path == prefix:
        return ROOT
    if path.startswith(prefix + b"/"):
        return RelPath(path[len(prefix) + 1 :])
    return None


def parents(path: RelPath) -> tuple[RelPath, ...]:
    """The directories above ``path``, outermost first, without ``ROOT``."""
    directory = path.rpartition(b"/")[0]
    return _to(directory) if directory else ()


@lru_cache(maxsize=4096)
def _to(directory: bytes) -> tuple[RelPath, ...]:
    """A directory and those above it. Kept, since the files of a directory come together."""
    names = directory.split(b"/")
    return tuple(RelPath(b"/".join(names[: i + 1])) for i in range(len(names)))


def shortened(stem: bytes, room: int) -> bytes:
    """The beginning of a name: of UTF-8 whole characters, since not every disk takes parts."""
    if len(stem) <= room:
        return stem
    try:
        stem.decode()
    except UnicodeDecodeError:
        return stem[:room]
    return stem[:room].decode(errors="ignore").encode()


def show(path: bytes) -> str:
    """A path for people and assistants: one line, escaped, with nothing that steers a terminal.

    Control, bidirectional, zero-width and other format characters are escaped, as is what is not
    UTF-8 (``\\xNN``); a backslash is doubled, so that what is shown is unambiguous.
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    out: list[str] = []
    for char in text:
        code = ord(char)
        if char == "\\":
            out.append("\\\\")
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            out.append(char)
    return "".join(out)


def unshow(text: str) -> bytes:
    """The bytes that ``show`` wrote, so that what was shown can be given back.

    What only looks like an escape stands for itself.

    Raises:
        UsageError: the text holds what no encoding takes.
    """
    _encode(text)
    out = bytearray()
    i = 0
    while i < len(text):
        char = text[i]
        following = text[i + 1 : i + 2]
        size = {"x": 2, "u": 4, "U": 8}.get(following, 0)
        digits = text[i + 2 : i + 2 + size]
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            i += 1
        elif size and len(digits) == size and all(c in "0123456789abcdef" for c in digits):
            code = int(digits, 16)
            if following == "x":
                out.append(code)
            elif code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                out += text[i : i + 2 + size].encode()
            else:
                out += chr(code).encode()
            i += 2 + size
        elif following == "\\":
            out += b"\\"
            i += 2
        else:
            out += b"\\"
            i += 1
    return bytes(out)


def _encode(text: str) -> bytes:
    """The bytes of a path as Python has it from the system. Raises UsageError."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError("a path holds half of a surrogate pair, which is no character") from None


def to_json_field(name: str, value: bytes) -> dict[str, Any]:
    """``{name: text}``, or ``{name_b64: base64}`` where the bytes are not UTF-8."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(value).decode()}


def from_json_field(name: str, data: dict[str, Any]) -> bytes | None:
    """The inverse of ``to_json_field``; None if neither field is there. Raises IntegrityError."""
    text = data.get(name)
    if isinstance(text, str):
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise IntegrityError(f"field {name!r} is not valid text") from None
    coded = data.get(f"{name}_b64")
    if coded is None and text is None:
        return None
    if not isinstance(coded, str):
        raise IntegrityError(f"field {name!r} is not text")
    try:
        return base64.b64decode(coded, validate=True)
    except ValueError:
        raise IntegrityError(f"field '{name}_b64' is not base64") from None
