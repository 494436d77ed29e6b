"""Peak memory of a push and a pull against the number of files, and against the size of one."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench import trees
from bench.clients import Tcfs
from bench.measure import measure
from bench.peers import check

BLOCK = 4 << 20


class Peak(NamedTuple):
    """What a tree took: bytes of memory, seconds."""

    what: str
    push: int
    pull: int
    push_s: float
    pull_s: float


def mixed_file(path: Path, size: int) -> None:
    """A quarter of random bytes, the rest lines of which no two are equal."""
    rng = random.Random(7)
    noise = rng.randbytes(BLOCK // 4)
    text = trees.source_text(rng, BLOCK - len(noise)).split(b"\n")
    with path.open("wb") as out:
        number = 0
        for start in range(0, size, BLOCK):
            mark = rng.randbytes(64)
            lines = b"\n".join(
                [b"%x %b" % (number + i, line) for i, line in enumerate(text[:: 1 + start % 3])]
            )
            number += len(text)
            block = b"".join((mark, bytes(a ^ mark[0] for a in noise[:4096]), noise[4096:], lines))
            out.write((block + bytes(BLOCK))[: min(BLOCK, size - start)])


def peaks(work: Path, files: list[int], sizes: list[int]) -> list[Peak]:
    """One push and pull of each, over a store in a directory.

    Args:
        files: numbers of files, of some hundred bytes each.
        sizes: bytes of one large file.
    """
    found = []
    for number in files:
        found.append(
            _one(work, f"{number:,} files", lambda tree, n=number: trees.wide_tree(tree, n))
        )
    for size in sizes:
        what = f"a file of {size / (1 << 20):,.0f} MiB"
        found.append(
            _one(work, what, lambda tree, s=size: mixed_file(tree / "large", s), few_files=True)
        )
    return found


def _one(work: Path, what: str, make, *, few_files: bool = False) -> Peak:  # type: ignore[no-untyped-def]
    top = Path(tempfile.mkdtemp(dir=work))
    tree = top / "tree"
    tree.mkdir()
    make(tree)
    client = Tcfs(top / "client", None)
    client.prepare(tree)
    push = measure(client.push(tree)).sample
    pull = measure(client.pull(tree, top / "out")).sample
    check(tree, top / "out")
    if few_files:
        shutil.rmtree(top)
    return Peak(what, push.peak, pull.peak, push.wall, pull.wall)
