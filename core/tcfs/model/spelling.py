"""Names on a disk that takes several spellings for one.

Such a disk has one entry for ``a`` and ``A``, or for the two ways in which Unicode writes ``é``.
What the fleet calls a file is its *true* name. It has that name on disk too, if it can; where
another has taken it, the file gets a name *of its own*, ``stem.case-<hash>.ext``, which says by
itself what it stands for: nothing has to be remembered, so nothing can be forgotten.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final, Literal

from tcfs.model.paths import MAX_NAME, path_problem, shortened

_DIGITS: Final = 8
_MARK: Final = re.compile(rb"case-[0-9a-f]{8}")
_OWN: Final = re.compile(rb"\A(.+)\.case-([0-9a-f]{8})(\.[^.]*)?\Z", re.DOTALL)


def composed(name: bytes) -> bytes:
    """A name in Unicode's normal form C; what is not UTF-8 as it is.

    What programs write and other systems expect: HFS+ lists names decomposed, APFS as they came.
    """
    if name.isascii():
        return name
    return _normal("NFC", name)


def own_name(name: bytes) -> bytes:
    """Another name for the same file, which no other true name shares; see ``true_of_own``."""
    plain = composed(name)
    stem, dot, extension = plain.rpartition(b".")
    if not stem or _MARK.fullmatch(extension):  # or it would be read as the mark itself
        stem, dot, extension = plain, b"", b""
    digest = hashlib.sha256(name).hexdigest()[:_DIGITS]
    tail = b".case-" + digest.encode() + dot + extension
    if len(tail) >= MAX_NAME:
        tail = b".case-" + digest.encode()
    return shortened(stem, MAX_NAME - len(tail)) + tail


def true_of_own(name: bytes) -> bytes | None:
    """The true name that a name of its own stands for; None if it is none, or does not say."""
    found = _OWN.match(name)
    if found is None:
        return None
    plain = composed(found[1] + (found[3] or b""))
    for true in (plain, _normal("NFD", plain)):
        if path_problem(true) is None and own_name(true) == name:
            return true
    return None


def folded(name: bytes) -> bytes:
    """What names share if any disk might take them for one.

    Unicode's full case folding of the decomposed name, without format characters: file systems fold
    the same or less. HFS+ passes over some of those (Technical Note TN1150, *Case-insensitive
    string comparison*).
    """
    if name.isascii():
        return name.lower()
    try:
        text = unicodedata.normalize("NFD", name.decode()).casefold()
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    except UnicodeDecodeError:
        return name
    return unicodedata.normalize("NFD", text).encode()


def _normal(form: Literal["NFC", "NFD"], name: bytes) -> bytes:
    try:
        return unicodedata.normalize(form, name.decode()).encode()
    except UnicodeDecodeError:
        return name
