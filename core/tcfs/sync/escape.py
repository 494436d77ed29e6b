"""Content as text for people and assistants: bounded, escaped, with nothing that steers."""

from __future__ import annotations

import unicodedata

_HARMLESS = frozenset("\n\t")


def text_of(data: bytes) -> tuple[str, bool]:
    """The text of these bytes and whether they are binary; a binary has no text.

    Characters that could steer a terminal, reorder what a reader sees, or hide from one (control,
    bidirectional, zero-width, tag) are written as ``\\uNNNN``; a character cut in two at the end is
    left out.
    """
    if b"\0" in data:
        return "", True
    text = data.decode("utf-8", "replace")
    if text.endswith("\ufffd"):
        text = data[: _whole(data)].decode("utf-8", "replace")
    if text.count("\ufffd") * 10 > len(text):
        return "", True
    return "".join(map(_shown, text.replace("\r\n", "\n"))), False


def _whole(data: bytes) -> int:
    """How many bytes make whole characters: at most three may be missing one's end."""
    for back in range(1, min(4, len(data)) + 1):
        lead = data[-back]
        if lead >= 0xC0:
            size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return len(data) if back >= size else len(data) - back
        if lead < 0x80:
            break
    return len(data)


def _shown(char: str) -> str:
    if char in _HARMLESS or unicodedata.category(char) not in (
        *("Cc", "Cf", "Cs", "Co", "Cn"),
        *("Zl", "Zp"),
    ):
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
