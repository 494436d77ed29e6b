"""Writes what is generated for Nix: two files below nix/, and the options in docs/nix.md.

script/nix            write them
script/nix --check    end with 1 if one of them is not as it would be written
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tcfs.cli.arguments import build_parser
from tcfs.cli.shells import describe
from tcfs.config.jsonschema import schema_json
from tcfs.rollout.names import option_of

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- options: written by script/nix -->\n", "<!-- end of options -->\n"


def program_json() -> str:
    """What the program can do, as far as the modules ask."""
    commands = {" ".join(spec.path) for spec in describe(build_parser())}
    return json.dumps({"mount": "mount" in commands}, indent=2) + "\n"


def options_text() -> str:
    """The reference of options, as Markdown."""
    schema = json.loads(schema_json())
    lines: list[str] = []
    sections = sorted(schema["properties"], key=lambda name: (name != "sync", name))
    for section in sections:
        model = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]
        lines += ["", f"**`[{section}]`**: {model['description']}", ""]
        lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
        for key, found in sorted(model["properties"].items()):
            cells = (
                f"`{option_of(f'{section}.{key}')}`",
                _type(found),
                _default(found.get("default")),
                found.get("description", ""),
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).lstrip("\n") + "\n"


def _type(found: dict[str, Any]) -> str:
    choices = [choice for choice in found.get("anyOf", [found]) if choice.get("type") != "null"]
    return " or ".join(_one_type({**found, **choice}) for choice in choices)


def _one_type(found: dict[str, Any]) -> str:
    if "enum" in found:
        return ", ".join(f"`{value}`" for value in found["enum"])
    if found.get("format") == "path":
        return "path of a secret" if found.get("x-secret") else "path"
    if found["type"] == "array":
        return f"list of {_one_type(found['items'])}"
    if found["type"] == "string":
        return str(found.get("x-form", "text"))
    name = {"boolean": "bool", "integer": "whole number", "number": "number"}[found["type"]]
    low, high = found.get("minimum"), found.get("maximum")
    if low is not None and high is not None:
        return f"{name}, {low:g} to {high:g}"
    return name if low is None else f"{name}, from {low:g}"


def _default(value: Any) -> str:
    from tcfs.rollout.nixtext import nix_value

    return f"`{nix_value(value)}`"


def wanted() -> dict[Path, str]:
    """Every generated text by its file."""
    page = ROOT / "docs" / "nix.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return {
        ROOT / "nix" / "schema.json": schema_json(),
        ROOT / "nix" / "program.json": program_json(),
        page: before + BEGIN + "\n" + options_text() + "\n" + END + after,
    }


def main() -> int:
    """Write or check, and say what differs."""
    differing = [
        file
        for file, text in wanted().items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    for file in differing:
        if "--check" in sys.argv[1:]:
            print(f"{file.relative_to(ROOT)} is not as it would be written: run script/nix")
        else:
            file.write_text(wanted()[file], encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
    return 1 if differing and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
