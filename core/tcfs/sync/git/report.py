"""What a device tells the others of a repository of its own: heads, uncommitted work, settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from tcfs.model.manifest import MAX_TARGET
from tcfs.model.paths import show
from tcfs.sync.git.names import BRANCHES, HEAD, STASH
from tcfs.sync.git.repository import Repository
from tcfs.sync.git.snapshot import Snapshot

MAX_BRANCHES: Final = 60
MAX_PATHS: Final = 20
MAX_TEXT: Final = 200

# What of a configuration concerns others: no credentials, no commands, no paths of one machine.
_TOLD: Final = re.compile(
    r"remote\..*\.(?:url|pushurl|fetch)|branch\..*\.(?:remote|merge|rebase)"
    r"|submodule\..*\.(?:url|active|update|branch)|core\.(?:filemode|autocrlf|eol|symlinks"
    r"|ignorecase|precomposeunicode)|user\.(?:name|email)|pull\.(?:rebase|ff)|push\.default",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Report:
    """One device's repository as of its last push.

    Attributes:
        branches: object ids by short name, at most ``MAX_BRANCHES`` of them.
        uncommitted: how many paths differ from the commit; ``paths`` are some of them, shown.
        config: settings that concern others.
    """

    head: str = ""
    branches: Mapping[str, str] = ()  # type: ignore[assignment]
    stashes: int = 0
    uncommitted: int = 0
    paths: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    config: Mapping[str, str] = ()  # type: ignore[assignment]

    def to_json(self) -> bytes:
        """The report as it is stored; what does not fit into a register's value is cut."""
        branches, paths, config = list(self.branches.items()), list(self.paths), dict(self.config)
        while True:
            data = orjson.dumps(
                {
                    "v": 1,
                    "head": self.head,
                    "branches": dict(branches),
                    "stashes": self.stashes,
                    "uncommitted": self.uncommitted,
                    "paths": paths,
                    "skipped": list(self.skipped),
                    "config": config,
                },
                option=orjson.OPT_SORT_KEYS,
            )
            if len(data) <= MAX_TARGET:
                return data
            most = max(len(branches), len(paths), len(config))
            if len(branches) == most:
                del branches[most // 2 :]
            elif len(paths) == most:
                del paths[most // 2 :]
            else:
                config = dict(list(config.items())[: most // 2])


def make(repository: Repository, snapshot: Snapshot) -> Report:
    """This device's report. Raises GitError."""
    registers = snapshot.registers
    changed = uncommitted(repository)
    branches = sorted(name for name in registers if name.startswith(BRANCHES))[:MAX_BRANCHES]
    stash = registers.get(STASH, b"")
    return Report(
        head=show(registers[HEAD]),
        branches={show(b[len(BRANCHES) :]): registers[b].decode() for b in branches},
        stashes=len(stash.split(b",")) if stash else 0,
        uncommitted=len(changed),
        paths=tuple(show(path)[:MAX_TEXT] for path in changed[:MAX_PATHS]),
        skipped=tuple(why[:MAX_TEXT] for why in snapshot.skipped[:5]),
        config=told_config(repository.config),
    )


def uncommitted(repository: Repository) -> list[bytes]:
    """Paths of the work tree that differ from the commit or are not tracked, as git says."""
    if repository.bare:
        return []
    out = repository.program.run(
        *("status", "--porcelain=v1", "-z", "--untracked-files=normal", "--no-renames"),
        "--ignore-submodules=dirty",
    )
    return [entry[3:] for entry in out.split(b"\0") if len(entry) > 3]


def told_config(config: Mapping[str, str]) -> dict[str, str]:
    """The settings that concern others, without secrets."""
    return {
        show(key.encode("utf-8", "surrogateescape"))[:MAX_TEXT]: _safe(value)
        for key, value in sorted(config.items())
        if _TOLD.fullmatch(key)
    }


def _safe(value: str) -> str:
    if "://" in value:
        parts = urlsplit(value)
        if "@" in parts.netloc:
            value = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return show(value.encode("utf-8", "surrogateescape"))[:MAX_TEXT]


def parse(data: bytes) -> Report:
    """Read another device's report; what is not as it should be is left out."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return Report()
    if not isinstance(found, dict):
        return Report()
    return Report(
        head=_text(found.get("head")),
        branches=_texts(found.get("branches"), MAX_BRANCHES),
        stashes=_count(found.get("stashes")),
        uncommitted=_count(found.get("uncommitted")),
        paths=_list(found.get("paths")),
        skipped=_list(found.get("skipped")),
        config=_texts(found.get("config"), 500),
    )


def _text(value: Any) -> str:
    return show(value.encode("utf-8", "surrogatepass"))[:MAX_TEXT] if isinstance(value, str) else ""


def _texts(value: Any, most: int) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {_text(k): _text(v) for k, v in list(value.items())[:most]}


def _list(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in value[:MAX_PATHS]) if isinstance(value, list) else ()


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 31 else 0
