"""Generated trees for benchmarks: the same bytes for the same seed, on every machine."""

from __future__ import annotations

import os
import random
from pathlib import Path

WORDS = (
    *("self", "return", "import", "def", "class", "if", "else", "for", "in", "not", "None"),
    *("True", "False", "raise", "with", "as", "try", "except", "value", "result", "index"),
    *("node", "parent", "child", "path", "name", "size", "count", "error", "message", "state"),
    *("config", "request", "response", "client", "server", "thread", "lock", "buffer"),
    *("stream", "reader", "writer", "cache", "table", "row"),
)
EPOCH_NS = 1_700_000_000_000_000_000


def source_text(rng: random.Random, size: int) -> bytes:
    """Text that compresses about as source code does (zstd level 3: to a third or a quarter)."""
    lines: list[str] = []
    total = 0
    while total < size:
        indent = "    " * rng.choice((0, 1, 1, 2, 2, 3))
        words = [rng.choice(WORDS) for _ in range(rng.randint(2, 9))]
        if rng.random() < 0.45:
            words.append(f"{rng.choice(WORDS)}_{rng.getrandbits(28):x}")
        line = indent + " ".join(words) + rng.choice((":", "", "()", " = ", ",")) + "\n"
        lines.append(line)
        total += len(line)
    return "".join(lines).encode()[:size]


def small_tree(root: Path, files: int, total: int, seed: int = 1) -> None:
    """``files`` source-like files, about ``total`` bytes, about fifty to a directory."""
    rng = random.Random(seed)
    mean = total / files
    pool = source_text(random.Random(seed + 1), 4 << 20)
    for number in range(files):
        directory = root / f"pkg{number // 2500:03d}" / f"mod{number // 50:04d}"
        if number % 50 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        size = min(int(rng.expovariate(1 / mean)) + 40, 20 * int(mean))
        start = rng.randrange(len(pool) - 1)
        head = f"# module {number} {rng.getrandbits(128):x}\n".encode()
        body = bytearray(head)
        while len(body) < size:
            # Pieces of a few lines in random order: neighbours are alike, no two files are equal.
            piece = rng.randint(60, 400)
            start = rng.randrange(len(pool) - piece)
            body += pool[start : start + piece]
        path = directory / f"file{number:05d}.py"
        path.write_bytes(body[:size])
        stamp = EPOCH_NS + number * 1_000_003
        _set_time(path, stamp)


def wide_tree(root: Path, files: int, seed: int = 5) -> None:
    """``files`` files of some hundred bytes each, a hundred to a directory."""
    pool = source_text(random.Random(seed), 1 << 20)
    rng = random.Random(seed + 1)
    for number in range(files):
        directory = f"{root}/part{number // 10_000:03d}/set{number // 100:05d}"
        if number % 100 == 0:
            os.makedirs(directory, exist_ok=True)
        start = rng.randrange(len(pool) - 600)
        body = b"# %d\n" % number + pool[start : start + rng.randint(50, 500)]
        with open(f"{directory}/file{number:07d}.txt", "wb", buffering=0) as out:
            out.write(body)


def edit_small_tree(root: Path, share: float = 0.01, seed: int = 2) -> int:
    """Change a line in a share of the files. Returns how many."""
    rng = random.Random(seed)
    paths = sorted(p for p in root.rglob("file*"))
    chosen = rng.sample(paths, max(1, int(len(paths) * share)))
    for path in chosen:
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[:middle] + b"# edited here\n" + data[middle:])
    return len(chosen)


def random_file(path: Path, size: int, seed: int = 3) -> None:
    """Incompressible bytes."""
    rng = random.Random(seed)
    with path.open("wb") as out:
        left = size
        while left:
            piece = min(left, 8 << 20)
            out.write(rng.randbytes(piece))
            left -= piece


def log_file(path: Path, size: int, seed: int = 4) -> None:
    """Log lines with rising times, every line its own."""
    rng = random.Random(seed)
    with path.open("wb") as out:
        written, second = 0, 1_700_000_000
        while written < size:
            lines = []
            for _ in range(4000):
                second += rng.randint(0, 2)
                lines.append(
                    f"{second} {rng.choice(('INFO', 'WARN', 'DEBUG'))} worker-{rng.randint(1, 64)} "
                    f"request {rng.getrandbits(64):016x} {rng.choice(WORDS)} took "
                    f"{rng.randint(1, 9999)} ms status {rng.choice((200, 200, 200, 404, 500))}\n"
                )
            data = "".join(lines).encode()[: size - written]
            out.write(data)
            written += len(data)


def insert_bytes(path: Path, offset: int, data: bytes) -> None:
    """Insert bytes, moving the rest."""
    with path.open("r+b") as file:
        file.seek(offset)
        rest = file.read()
        file.seek(offset)
        file.write(data + rest)


def _set_time(path: Path, stamp: int) -> None:
    os.utime(path, ns=(stamp, stamp))
