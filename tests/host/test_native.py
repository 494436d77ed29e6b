"""Which calls are made on macOS, by a C library that only records them."""

import ctypes
import errno
import fcntl
import os
import platform
import struct
import subprocess
import sys

import pytest

from tcfs.host import native


class _Function:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.argtypes: tuple[object, ...] = ()
        self.restype: object = None

    def __call__(self, *arguments: object) -> int:
        assert len(arguments) == len(self.argtypes)
        self.calls.append(arguments)
        return 0


class _Names(_Function):
    """Answers as getattrlist(2) does: a length, where the name is from there, its length, it."""

    name = b""

    def __call__(self, *arguments):
        super().__call__(*arguments)
        told = self.name + b"\0"
        answer = struct.pack("=IiI", 12 + len(told), 8, len(told)) + told
        ctypes.memmove(arguments[2], answer, len(answer))
        return 0


class _Library:
    """Has whatever functions are asked for, and no renameat2."""

    def __init__(self) -> None:
        self.renamex_np = _Function()
        self.fsync_volume_np = _Function()
        self.getattrlist = _Names()


@pytest.fixture
def library(monkeypatch):
    library = _Library()
    for call in (native._rename_call, native._sync_call, native._name_call):
        call.cache_clear()
    monkeypatch.setattr(native, "_library", lambda: library)
    yield library
    for call in (native._rename_call, native._sync_call, native._name_call):
        call.cache_clear()


def test_macos_renames_exclusively_and_swaps_with_renamex_np(library, monkeypatch):
    monkeypatch.setattr(native, "PLATFORM", "darwin")
    assert native.rename_exclusive(b"a", b"b")
    assert native.rename_exchange(b"a", b"b")
    assert library.renamex_np.calls == [(b"a", b"b", 4), (b"a", b"b", 2)]


def test_macos_tells_how_a_name_is_spelt_with_getattrlist(library, monkeypatch):
    monkeypatch.setattr(native, "PLATFORM", "darwin")
    library.getattrlist.name = "Caf\u00e9.txt".encode()
    assert native.name_of(b"/docs/CAF\xc3\x89.TXT") == library.getattrlist.name
    ((path, wanted, _, size, options),) = library.getattrlist.calls
    assert path == b"/docs/CAF\xc3\x89.TXT"
    assert struct.unpack("=HHIIIII", wanted) == (5, 0, 1, 0, 0, 0, 0)
    assert size >= 12 + 3 * 255
    assert options == 1, "not through a symlink"
    with pytest.raises(ValueError, match="null"):
        native.name_of(b"a\0b")


def test_linux_is_not_asked_how_a_name_is_spelt(library, monkeypatch):
    monkeypatch.setattr(native, "PLATFORM", "linux")
    assert native.name_of(b"a") is None


def test_macos_syncs_a_volume_fully_and_waits(library, monkeypatch):
    monkeypatch.setattr(native, "PLATFORM", "darwin")
    assert native.sync_volume(7)
    assert library.fsync_volume_np.calls == [(7, 3)]


def test_a_c_library_without_the_calls_is_told_from_a_failure(library):
    assert not native.rename_exclusive(b"a", b"b")
    assert not native.sync_volume(7)


def test_fsync_empties_the_drives_cache_where_that_is_another_call(monkeypatch, tmp_path):
    calls: list[object] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, call: calls.append((fd, call)))
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(fd))
    native.full_fsync(9)
    assert calls == [(9, 51)]

    def refuse(fd, call):
        raise OSError(errno.ENOTSUP, "a network volume")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    native.full_fsync(9)
    assert calls == [(9, 51), 9]


def test_ctypes_is_not_loaded_before_a_call_needs_it():
    script = (
        # An editable install's own hook loads some of these before the first line runs.
        "import sys; before = set(sys.modules)\n"
        "import tcfs.host.system\n"
        "tcfs.host.system.system_host()\n"
        "late = {'ctypes', 'subprocess', 'concurrent.futures', 'multiprocessing', 'urllib.parse'}\n"
        "loaded = late & (set(sys.modules) - before)\n"
        "assert not loaded, loaded\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


_HOLE = """
import os, sys
from tcfs.host import native

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "give back":
    native.give_back_large_blocks()
del_first = bytearray(b"x") * (24 << 20)
del del_first
before = resident()
block = bytearray(b"x") * (20 << 20)
above = [bytearray(b"x") * 100_000 for _ in range(20)]
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone has this habit")
def test_a_large_block_that_is_freed_goes_back_to_the_system_whatever_lies_above_it():
    kept, given = (
        int(subprocess.check_output([sys.executable, "-c", _HOLE, what], text=True))
        for what in ("leave it", "give back")
    )
    assert given < 8 << 20 < 16 << 20 < kept


_AGAIN = """
import resource
from tcfs.host import native

native.give_back_large_blocks()
for _ in range(4):
    bytearray(b"x") * (3 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    bytearray(b"x") * (3 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone has this habit")
def test_memory_of_smaller_blocks_is_used_again_and_not_asked_of_the_system_each_time():
    faults = int(subprocess.check_output([sys.executable, "-c", _AGAIN], text=True))
    assert faults < 3 * (3 << 20) // os.sysconf("SC_PAGE_SIZE")  # and not forty times as many
