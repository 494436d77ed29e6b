"""The ids of everything, and the names that are allowed."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, NewType

from tcfs.errors import UsageError

DeviceId = NewType("DeviceId", str)
"""A uuid4 in its 36-character lower-case form, or ``ROOT_DEVICE``."""
NamespaceId = NewType("NamespaceId", str)
EpochId = NewType("EpochId", str)
"""32 hex digits; the empty string where nothing is sealed."""
ChunkId = NewType("ChunkId", bytes)
"""32 bytes."""
PackId = NewType("PackId", str)
"""64 hex digits: BLAKE3 of the pack's bytes."""
SegmentHash = NewType("SegmentHash", str)
"""64 hex digits: BLAKE3 of the segment object's bytes."""
RelPath = NewType("RelPath", bytes)
"""A validated path inside a namespace; see ``tcfs.model.paths``."""
StoreKey = NewType("StoreKey", str)

ROOT_DEVICE: Final = DeviceId("root")
CONTROL: Final = NamespaceId("_control")
DEFAULT_NAMESPACE: Final = NamespaceId("default")
RECOVERY: Final = "recovery"

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class VersionId(NamedTuple):
    """One version of one path: who wrote it, and the writer's own count."""

    device: DeviceId
    counter: int

    def __str__(self) -> str:
        return f"{self.device}:{self.counter}"


def parse_version_id(text: str) -> VersionId:
    """Read ``<device>:<counter>``.

    Raises:
        UsageError: it is not of that form.
    """
    device, colon, counter = text.rpartition(":")
    if not colon or not counter.isdigit() or not (_UUID.fullmatch(device) or device == ROOT_DEVICE):
        raise UsageError(f"not a version id: {text!r}", remedy="Copy a version from: tcfs log PATH")
    return VersionId(DeviceId(device), int(counter))


def check_namespace(text: str) -> NamespaceId:
    """Validate a namespace's name. Raises UsageError."""
    if not is_namespace(text):
        raise UsageError(
            f"not a namespace name: {text!r}",
            remedy="Use 1-63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit.",
        )
    return NamespaceId(text)


def is_namespace(text: str) -> bool:
    """Whether this may be a namespace's name."""
    return _NAMESPACE.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def is_uuid(text: str) -> bool:
    """Whether this is a uuid in its lower-case text form."""
    # Remembered: every clock of every manifest names the same few devices.
    return _UUID.fullmatch(text) is not None


def check_device_name(text: str) -> str:
    """Validate a device's name, which appears in file names. Raises UsageError."""
    if not _DEVICE_NAME.fullmatch(text):
        raise UsageError(
            f"not a device name: {text!r}",
            remedy="Use 1-63 letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )
    return text
