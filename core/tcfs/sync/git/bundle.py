"""Git bundles: objects that the fleet lacks, in git's own format, made and verified.

A bundle is a header (gitformat-bundle(5)) - the commits it builds on, the refs it holds - and a
pack. The header is written here, so that exactly the objects of a snapshot are in it, whatever
happens to the repository meanwhile; git makes the pack, verifies the bundle and takes it in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tcfs.errors import IntegrityError
from tcfs.sync.git.names import INCOMING, is_oid
from tcfs.sync.git.program import GitError, Program

SIGNATURES: Final = (b"# v2 git bundle\n", b"# v3 git bundle\n")
MAX_HEADER: Final = 8 << 20

# Old repositories have these in objects that their ids keep from being mended, and no harm is in
# them; the defaults of large forges let them pass too.
_TOLERATED: Final = ",".join(
    f"{name}=ignore"
    for name in (
        "zeroPaddedFilemode",
        "missingSpaceBeforeDate",
        "badTimezone",
        "missingNameBeforeEmail",
        "missingEmail",
        "badTagName",
        "missingTaggerEntry",
    )
)


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a bundle holds: objects that were named, and commits that whoever takes it must have."""

    tips: tuple[bytes, ...]
    needs: tuple[bytes, ...]


def present(program: Program, oids: Iterable[bytes]) -> set[bytes]:
    """Which of these objects a repository has."""
    wanted = sorted(set(oids))
    if not wanted:
        return set()
    out = program.run("cat-file", "--batch-check=%(objectname)", stdin=b"\n".join(wanted) + b"\n")
    return {line for line in out.splitlines() if is_oid(line)}


def make(
    program: Program,
    refs: Sequence[tuple[bytes, bytes]],
    have: Iterable[bytes],
    path: bytes,
    *,
    sha256: bool,
) -> BundleInfo | None:
    """Write a bundle of these (name, object id) without what is reachable from ``have``.

    ``have`` are objects of this repository. Returns None, writing nothing, if nothing is new.
    """
    tips = sorted({oid for _, oid in refs})
    have = sorted(set(have))
    revisions = b"".join([*(oid + b"\n" for oid in tips), *(b"^" + oid + b"\n" for oid in have)])
    needs: list[bytes] = []
    if have:
        walked = program.run("rev-list", "--boundary", "--stdin", stdin=revisions)
        needs = [line[1:] for line in walked.splitlines() if line[:1] == b"-"]
    header = SIGNATURES[1] + b"@object-format=sha256\n" if sha256 else SIGNATURES[0]
    header += b"".join(b"-" + oid + b"\n" for oid in needs)
    header += b"".join(oid + b" " + name + b"\n" for name, oid in refs) + b"\n"
    with open(path, "wb") as file:
        file.write(header)
        program.run(
            *("pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset", "-q"),
            stdin=revisions,
            stdout=file,
        )
    with open(path, "rb") as made:
        made.seek(len(header))
        start = made.read(12)
    if start[:4] != b"PACK":
        raise GitError("git pack-objects made no pack")
    if not int.from_bytes(start[8:12], "big"):
        os.unlink(path)
        return None
    return BundleInfo(tuple(tips), tuple(needs))


def pack_offset(path: bytes) -> int:
    """Where the pack begins in a bundle. Raises IntegrityError."""
    with open(path, "rb") as file:
        head = file.read(MAX_HEADER)
    end = head.find(b"\n\n")
    if not head.startswith(SIGNATURES) or end < 0 or head[end + 2 : end + 6] != b"PACK":
        raise IntegrityError("a git bundle is damaged")
    return end + 2


def take_in(program: Program, path: bytes, info: BundleInfo) -> None:
    """Verify a bundle and add its objects, checked one by one, to a repository. No ref moves.

    Its tips are held by refs below ``refs/tcfs/incoming/`` until ``release``, so that a bundle that
    builds on it finds them, and no gc takes them.

    Raises:
        IntegrityError: it, or an object in it, is damaged, or what it builds on is not here.
    """
    status, _, err = program.call("bundle", "verify", path)
    if status:
        raise IntegrityError(f"git bundle verify: {_line(err)}")
    offset = pack_offset(path)
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        status, _, err = program.call(
            "index-pack", "--stdin", "--fix-thin", f"--strict={_TOLERATED}", stdin=file
        )
    if status:
        raise IntegrityError(f"git index-pack: {_line(err)}")
    hold(program, info.tips)


def hold(program: Program, oids: Iterable[bytes]) -> None:
    """Keep these objects until ``release``."""
    lines = [b"update " + INCOMING + oid + b" " + oid + b"\n" for oid in oids]
    if lines:
        program.run("update-ref", "--stdin", stdin=b"".join(lines))


def release(program: Program) -> None:
    """Give up what ``hold`` kept: by now other refs hold it."""
    out = program.run("for-each-ref", "--format=delete %(refname)", INCOMING)
    if out:
        program.run("update-ref", "--stdin", stdin=out)


def check_connected(program: Program, oids: Iterable[bytes], *, everything: bool) -> None:
    """Check that whatever these objects lead to is here and sound.

    Args:
        everything: look at every object of the repository (a first arrival); otherwise only at
            what no ref reached before, each object of which was checked when it was taken in.

    Raises:
        IntegrityError: something is missing or broken.
    """
    wanted = sorted(set(oids))
    if everything:
        status, out, err = program.call(
            "fsck", "--strict", "--no-dangling", "--no-progress", "--no-reflogs"
        )
        # A warning is no reason to refuse what its author's git accepted.
        if status & ~4:
            raise IntegrityError(f"git fsck: {_line(err or out)}")
    if not everything:
        status, _, err = program.call(
            *("rev-list", "--objects", "--quiet", "--stdin", "--not"),
            *(b"--exclude=" + INCOMING + b"*", "--all"),
            stdin=b"".join(oid + b"\n" for oid in wanted),
        )
        if status:
            raise IntegrityError(f"history is incomplete: {_line(err)}")


def choose(
    bundles: Mapping[int, BundleInfo], missing: set[bytes], has: Callable[[set[bytes]], set[bytes]]
) -> list[int]:
    """Which bundles to take in, in order, so that ``missing`` objects are had.

    Args:
        bundles: by their order: a later one may build on an earlier one.
        has: which of some objects are in the repository.

    Objects that no bundle names stay missing.
    """
    chosen: set[int] = set()
    wanted = set(missing)
    while wanted:
        found: set[int] = set()
        for oid in wanted:
            holders = [order for order, info in bundles.items() if oid in info.tips]
            if chosen.intersection(holders):
                continue
            # Of several, one that builds on nothing needs no other.
            full = [order for order in holders if not bundles[order].needs]
            if holders:
                found.add(max(full or holders))
        found -= chosen
        chosen |= found
        needs = {oid for order in found for oid in bundles[order].needs}
        wanted = needs - has(needs)
    return sorted(chosen)


def _line(err: bytes) -> str:
    text = err.decode("utf-8", "replace").strip().splitlines()
    return "".join(c for c in (text[0] if text else "failed") if c.isprintable())[:300]
