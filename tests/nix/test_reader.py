"""Settings of kinds that tcfs has none of yet: what pydantic can say of them, Nix understands."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tcfs.rollout.nixtext import nix_value
from tests.nix.support import NIX, evaluate, needs_nix

pytestmark = needs_nix


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    remote_path: str = "all"
    read_only: bool = False
    level: Annotated[int, Field(gt=0, lt=10)] = 1


class Sync(BaseModel):
    parts: tuple[Part, ...] = ()
    by_name: dict[str, Part] = {}
    maybe_part: Part | None = None
    the_part: Part = Part()
    level: Literal[1, 2, 3] = 1
    either: int | bool = 0
    words: Annotated[str, Field(min_length=2, max_length=4)] = "abc"
    weights: dict[str, float] = {}


class Other(BaseModel):
    some_key: int = 1


class Whole(BaseModel):
    sync: Sync = Sync()
    other_section: Other = Other()


SCHEMA = Whole.model_json_schema()


def read(expression: str) -> Any:
    """An expression in which ``s`` is this schema as Nix reads it."""
    text = json.dumps(json.dumps(SCHEMA)).replace("${", "\\${")
    return evaluate(
        f"let s = import {NIX}/lib/reader.nix (builtins.fromJSON {text}); in {expression}"
    )


def settings(values: str) -> Whole:
    """What Nix makes of values by option."""
    return Whole.model_validate(read(f"s.settings {values}"))


def problems(values: str) -> dict[str, str]:
    return {p["option"]: p["message"] for p in read(f"s.problems [ ] {values}")}


def test_every_kind_is_known():
    found = read("map (x: x.field.type.kind) s.all")
    assert "any" not in found
    assert {"list", "attrs", "nullable", "object", "enum", "union", "string"} <= set(found)


def test_nothing_set_is_the_defaults():
    assert settings("{ }") == Whole()


def test_names_inside_lists_and_sets_are_turned_too():
    found = settings(
        """{ parts = [ { remotePath = "a"; } { level = 3; } ];
             byName.docs = { readOnly = true; };
             maybePart = { level = 2; };
             thePart.remotePath = "b";
             weights.a = 0.5;
             otherSection.someKey = 4; }"""
    )
    assert found == Whole(
        sync=Sync(
            parts=(Part(remote_path="a"), Part(level=3)),
            by_name={"docs": Part(read_only=True)},
            maybe_part=Part(level=2),
            the_part=Part(remote_path="b"),
            weights={"a": 0.5},
        ),
        other_section=Other(some_key=4),
    )


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ('{ parts = [ { remotPath = "a"; } ]; }', "parts"),
        ("{ parts = { }; }", "parts"),
        ("{ thePart.remotPath = 1; }", "thePart.remotPath"),
        ("{ thePart.level = 10; }", "thePart.level"),
        ("{ maybePart.level = 0; }", "maybePart.level"),
        ("{ byName.docs.level = 0; }", "byName"),
        ("{ level = 4; }", "level"),
        ('{ either = "x"; }', "either"),
        ('{ words = "a"; }', "words"),
        ('{ words = "abcde"; }', "words"),
        ("{ otherSection.someKey = null; }", "otherSection.someKey"),
        ("{ otherSection = 3; }", "otherSection"),
    ],
)
def test_what_pydantic_refuses_nix_refuses(values: str, option: str):
    assert list(problems(values)) == [option]


def test_options_of_every_kind_can_be_declared_and_merged():
    found = read(
        """(world.lib.evalModules { pkgs = { }; modules = [
             { options.x = s.options world.lib; }
             { config.x = { parts = [ { remotePath = "a"; } ]; thePart.level = 2; }; }
             { config.x = { parts = [ { level = 3; } ]; byName.a.level = 4; }; }
           ]; }).config.x"""
    )
    assert [part["level"] for part in found["parts"]] == [1, 3]
    assert found["thePart"] == {"remotePath": "all", "readOnly": False, "level": 2}
    assert found["byName"]["a"]["level"] == 4
    assert found["maybePart"] is None


def test_a_value_that_was_merged_makes_the_same_table():
    values = {"parts": [{"remotePath": "a", "readOnly": False, "level": 1}]}
    assert read(f"(s.settings {nix_value(values)}).sync.parts") == [
        Part(remote_path="a").model_dump()
    ]
