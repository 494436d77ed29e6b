"""Nix for tests: evaluating expressions, and definitions of fleets to evaluate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tcfs.config.schema import Config, is_list, is_path, settings
from tcfs.rollout.names import options
from tcfs.rollout.nixtext import nix_value

ROOT = Path(__file__).parent.parent.parent
NIX = ROOT / "nix"
EXAMPLE = NIX / "examples" / "lab-fleet"
HERE = Path(__file__).parent


class Refused(Exception):
    """Nix did not evaluate it; the text is what it said."""


def nix_missing() -> str:
    """Why these tests cannot run; empty if they can. In CI they have to."""
    if shutil.which("nix-instantiate") or os.environ.get("CI"):
        return ""
    return "nix-instantiate is not installed (Debian: nix-bin)"


needs_nix = pytest.mark.skipif(bool(nix_missing()), reason=nix_missing() or "nix is there")


def run_nix(*arguments: str) -> Any:
    """The JSON value of what these arguments evaluate to. Raises Refused."""
    done = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return json.loads(done.stdout)


def evaluate(expression: str) -> Any:
    """The JSON value of an expression, in which ``lib``, ``world`` and ``example`` are known."""
    return run_nix(
        "--expr",
        f"""let
          lib = import {NIX}/lib;
          world = import {HERE}/world.nix;
          example = import {EXAMPLE}/fleet.nix {{ inherit (lib) hostsIn; }};
        in {expression}""",
    )


def host_expression(values: dict[str, Any]) -> str:
    """Values by option as a Nix set."""
    inner = " ".join(f"{name} = {nix_value(value)};" for name, value in values.items())
    return f"{{ {inner} }}"


@cache
def parsed_schema() -> dict[str, Any]:
    """The committed schema."""
    found: dict[str, Any] = json.loads((NIX / "schema.json").read_text())
    return found


def schema_of(key: str) -> dict[str, Any]:
    """The schema of one setting."""
    section, _, name = key.partition(".")
    reference = parsed_schema()["properties"][section]["$ref"].rpartition("/")[2]
    found: dict[str, Any] = parsed_schema()["$defs"][reference]["properties"][name]
    return found


# Text as users write it, and as they had better not: quotes, interpolation, other scripts, control
# characters. No NUL, which Nix has no text with.
TEXT = st.text(
    st.one_of(
        st.sampled_from(list("ab *./-_\"\\$'{}=#\n\t\r\x7f\x1b")),
        st.characters(min_codepoint=32, max_codepoint=0x10FFFF, exclude_categories=["Cs"]),
    ),
    max_size=12,
)
PATHS = st.text(st.sampled_from("abc/._- \"'é"), max_size=12).map(
    lambda text: "/" + text.strip("/")
)


def values_of(key: str) -> st.SearchStrategy[Any]:
    """Values that a setting takes, as JSON."""
    field = dict(settings())[key]
    schema = schema_of(key)
    kinds = schema.get("anyOf", [schema])
    one: list[st.SearchStrategy[Any]] = []
    for kind in kinds:
        if kind.get("type") == "null":
            one.append(st.none())
        elif is_path(field):
            one.append(PATHS)
        elif "enum" in kind:
            one.append(st.sampled_from(kind["enum"]))
        elif kind.get("type") == "boolean":
            one.append(st.booleans())
        elif kind.get("type") == "integer":
            low = int(kind.get("minimum", -(2**31)))
            one.append(st.integers(low, int(kind.get("maximum", low + 2**40))))
        elif kind.get("type") == "number":
            low, high = schema.get("minimum", 0), schema.get("maximum", 10**6)
            # Six digits, which any version of Nix has.
            whole = st.integers(int(low), min(int(high), 9999))
            parts = st.integers(int(low) * 100, min(int(high) * 100, 999_999))
            one.append(whole | parts.map(lambda number: number / 100))
        elif is_list(field):
            one.append(st.lists(TEXT, max_size=4))
        elif "pattern" in kind and len(kinds) > 1:
            one.append(st.sampled_from(["90", "30s", "1h30m", "2.5h", "2d"]))
        elif "pattern" in kind:
            one.append(
                st.from_regex(kind["pattern"], fullmatch=True).filter(
                    lambda text: text.isprintable() and len(text) < 100
                )
            )
        elif kind.get("type") == "string":
            one.append(TEXT)
        else:
            raise AssertionError(f"no values for {key}: {kind}")
    return st.one_of(one)


# Values that are well formed and cannot work together are refused, and tested on their own.
_NEEDS_OTHERS = {"sync.nats_tls", "storage.enforce_tls"}


@st.composite
def host_values(draw: st.DrawFn) -> dict[str, Any]:
    """A host's values by option: some of the settings, any of their values."""
    names = [name for name, key in options().items() if key not in _NEEDS_OTHERS]
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=8))
    return {name: draw(values_of(options()[name])) for name in chosen}


def tables(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by option as the tables of a TOML file."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, key = options()[name].partition(".")
        found.setdefault(section, {})[key] = value
    return found


def config_of(values: dict[str, Any]) -> Config:
    """What pydantic makes of values by option."""
    return Config.model_validate(tables(values))
