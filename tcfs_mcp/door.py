"""How tools reach the engine: one ``Door`` for a server, or for one ``call``."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tcfs_mcp.bound import BUDGET, render
from tcfs_mcp.caller import CALLER
from tcfs_mcp.context import JOB_AFTER_S, Signal, ToolContext
from tcfs_mcp.policy import NOT_GIVEN, Policy
from tcfs_mcp.registry import Registry, ToolSpec

if TYPE_CHECKING:
    from tcfs.config import LoadedConfig
    from tcfs.sync.facade import FleetApi, ProgressFn
    from tcfs_mcp.jobs import Jobs

MAX_ACTOR = 64

LoadConfig = Callable[[], "LoadedConfig"]
OpenFleet = Callable[["LoadedConfig", str, bool, Callable[[str], None]], "FleetApi"]


def open_engine(
    loaded: LoadedConfig, actor: str, create: bool, notice: Callable[[str], None]
) -> FleetApi:
    """The engine itself, imported on first use."""
    from tcfs.sync.session import open_fleet

    return open_fleet(loaded, actor=actor, create=create, notice=notice)


def load_from(
    config_file: Path | None,
    warn: Callable[[str], None],
    overrides: Mapping[str, object] | None = None,
) -> LoadConfig:
    """Reads the configuration anew each time, so that a changed one is noticed.

    What looks wrong in it is told once. ``overrides`` by dotted key win over all of it.
    """
    told: set[str] = set()

    def load() -> LoadedConfig:
        from tcfs.config import load_config

        loaded = load_config(config_file=config_file, overrides=overrides)
        for warning in loaded.warnings:
            if warning not in told:
                told.add(warning)
                warn(f"warning: {warning}")
        return loaded

    return load


@dataclass(slots=True)
class Door:
    """Everything that the tools of one process share.

    Attributes:
        registry: all tools; ``policy`` says which of them may be used.
        load: reads the configuration.
        open_fleet: opens the engine for one call.
        jobs: None where long work is waited for.
        warn: told of what happened by the way (a store created); goes to stderr.
    """

    registry: Registry
    load: LoadConfig
    open_fleet: OpenFleet = open_engine
    policy: Policy = field(default_factory=Policy)
    jobs: Jobs | None = None
    budget: int = BUDGET
    job_after: float = JOB_AFTER_S
    warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)

    def current_policy(self) -> Policy:
        """The operator's limits, and the role of whoever asks now."""
        caller = CALLER.get()
        return self.policy if caller is None else replace(self.policy, role=caller.role)

    def offered(self) -> list[ToolSpec]:
        """The tools that may be used by whoever asks now."""
        policy = self.current_policy()
        return [spec for spec in self.registry if not policy.refusal(spec)]

    def context(
        self,
        actor: str,
        *,
        progress: ProgressFn | None = None,
        cancelled: Signal | None = None,
        approved_deletes: int = NOT_GIVEN,
    ) -> ToolContext:
        """What one call of a tool works with."""
        notices: list[str] = []

        def notice(text: str) -> None:
            notices.append(text)
            self.warn(text)

        return ToolContext(
            load=self.load,
            open=lambda create: self.open_fleet(self.load(), actor, create, notice),
            policy=self.current_policy(),
            jobs=self.jobs,
            budget=self.budget,
            progress=progress,
            cancelled=cancelled or Signal(),
            approved_deletes=approved_deletes,
            job_after=self.job_after,
            notices=notices,
        )

    def run(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> dict[str, Any]:
        """Run a tool and return its answer as bounded JSON values.

        Raises:
            TcfsError: no such tool, not allowed, wrong arguments, or what the engine says.
        """
        spec = self.registry.get(name)
        context.policy.check_tool(spec)
        given: dict[str, Any] = {}
        if arguments or not spec.takes_nothing:
            from tcfs_mcp.schema import validate

            given = validate(spec, arguments)
        answer = context.patiently(lambda: spec.function(context, **given))
        return render(answer, self.budget)


def actor_name(kind: str, name: str) -> str:
    """How a caller is recorded in the history: ``kind:name``, from what it calls itself."""
    kept = "".join(
        char if char.isascii() and (char.isalnum() or char in "._-@/") else "-"
        for char in unicodedata.normalize("NFKC", name).strip()
    ).strip("-")
    return f"{kind}:{kept[:MAX_ACTOR]}" if kept else kind
