"""Nix text: writing values, and changing a few of them in a host's file without touching the rest.

Only what host files are made of is understood when reading: one set of ``name = value;`` with
nested sets and dotted names, whose values may be any expression. Values are found by their place
in the text, so that comments, order and layout of everything else stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from tcfs.errors import UsageError

WIDTH: Final = 100
_NAME = r"[A-Za-z_][A-Za-z0-9_'-]*"
_TOKEN: Final = re.compile(
    rf"""
    (?P<space>\s+|\#[^\n]*|/\*.*?\*/)
  | (?P<string>"(?:[^"\\$]|\\.|\$(?!\{{))*"|''(?:[^'$]|'(?!')|''[$'\\]|\$(?!\{{))*''(?![$'\\]))
  | (?P<name>{_NAME})
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<path>(?:\.{{1,2}}|~)?/[A-Za-z0-9._+/-]+|<[A-Za-z0-9._+/-]+>)
  | (?P<open>\$\{{|[({{\[])
  | (?P<close>[)}}\]])
  | (?P<other>\+\+|==|!=|<=|>=|&&|\|\||->|//|\.\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)


def nix_value(value: Any, indent: int = 0) -> str:
    """A JSON value as a Nix expression. Long lists get a line for each entry.

    Raises:
        UsageError: it is no JSON value, or text with a NUL character.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"({value})" if value < 0 else str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        inner = [nix_value(item, indent + 2) for item in value]
        line = f"[ {' '.join(inner)} ]" if inner else "[ ]"
        if indent + len(line) <= WIDTH:
            return line
        pad = " " * indent
        return "[\n" + "".join(f"{pad}  {item}\n" for item in inner) + f"{pad}]"
    if isinstance(value, dict):
        if not value:
            return "{ }"
        pad = " " * indent
        lines = "".join(
            f"{pad}  {nix_name(str(name))} = {nix_value(item, indent + 2)};\n"
            for name, item in value.items()
        )
        return "{\n" + lines + pad + "}"
    raise UsageError(f"a value of type {type(value).__name__} cannot be written in Nix")


def nix_name(name: str) -> str:
    """The name of an attribute, in quotes where it needs them."""
    reserved = {"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"}
    return name if re.fullmatch(_NAME, name) and name not in reserved else _string(name)


def _string(text: str) -> str:
    if "\0" in text:
        raise UsageError("text for a host's file must not hold a NUL character")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def _float(value: float) -> str:
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        raise UsageError(f"{text} is no value of a setting")
    if "e" in text:
        text = f"{value:.20f}".rstrip("0")
        text += "0" if text.endswith(".") else ""
    return f"({text})" if value < 0 else text


def new_file(values: dict[str, Any]) -> str:
    """The text of a host's file with these values by dotted name."""
    lines = [f"  {name} = {nix_value(value, 2)};\n" for name, value in values.items()]
    return "{\n" + "".join(lines) + "}\n"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Binding:
    """One ``name = value;``: where it begins, and where its value stands."""

    name: str
    start: int
    value_start: int
    value_end: int


@dataclass(frozen=True, slots=True)
class _Set:
    """A set in the text: its place up to and without the closing brace."""

    name: str
    end: int


class HostText:
    """A host's file, to be changed value by value.

    Raises:
        UsageError: the file is something else than one plain set.
    """

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self._source = source
        self.bindings: dict[str, Binding] = {}
        self._sets: dict[str, _Set] = {}
        self._tokens = [
            _Token(str(found.lastgroup), found[0], found.start(), found.end())
            for found in _TOKEN.finditer(text)
            if found.lastgroup != "space"
        ]
        self._at = 0
        if not self._takes("{"):
            raise self._unknown("it does not begin with {")
        self._set("")
        if self._at != len(self._tokens):
            raise self._unknown("something follows its set")

    def with_value(self, name: str, value: Any) -> str:
        """The text with this value; nothing else of it changes."""
        known = self.bindings.get(name)
        if known is not None:
            column = known.start - (self.text.rfind("\n", 0, known.start) + 1)
            return (
                self.text[: known.value_start]
                + nix_value(value, column)
                + self.text[known.value_end :]
            )
        if name in self._sets or any(other.startswith(f"{name}.") for other in self.bindings):
            raise self._unknown(f"{name} is a set there")
        # Into the innermost set of its name that is there already.
        parts = name.split(".")
        depth = max(n for n in range(len(parts)) if ".".join(parts[:n]) in self._sets)
        home = self._sets[".".join(parts[:depth])]
        rest = ".".join(nix_name(part) for part in parts[depth:])
        line_start = self.text.rfind("\n", 0, home.end) + 1
        before = self.text[line_start : home.end]
        if before.strip():
            # The closing brace stands behind other things.
            return (
                self.text[: home.end].rstrip()
                + f" {rest} = {nix_value(value)}; "
                + self.text[home.end :]
            )
        indent = len(before) + 2
        line = f"{' ' * indent}{rest} = {nix_value(value, indent)};\n"
        return self.text[:line_start] + line + self.text[line_start:]

    # -- reading -------------------------------------------------------------------------------

    def _set(self, prefix: str) -> None:
        """What stands between the braces, the closing one included."""
        while not self._peek("}"):
            start = self._token().start
            if self._peek("inherit"):
                self._skip_to_semicolon()
                continue
            name = self._attribute_path(prefix)
            if not self._takes("="):
                raise self._unknown(f"no = follows {name}")
            value_start = self._token().start
            opened = self._peek("{")
            mark = self._at
            if opened and self._plain_set(name):
                end = self._tokens[self._at - 1].end
                if not self._takes(";"):
                    raise self._unknown(f"no ; follows {name}")
                continue
            self._at = mark
            end = self._skip_to_semicolon()
            self.bindings[name] = Binding(name, start, value_start, end)
        self._sets[prefix] = _Set(prefix, self._token().start)
        self._at += 1

    def _plain_set(self, name: str) -> bool:
        """Read a nested set; False, with nothing remembered, if it is an expression."""
        bindings, sets = dict(self.bindings), dict(self._sets)
        self._at += 1
        try:
            self._set(name)
        except UsageError:
            self.bindings, self._sets = bindings, sets
            return False
        if self._peek(";"):
            return True
        self.bindings, self._sets = bindings, sets
        return False

    def _attribute_path(self, prefix: str) -> str:
        parts = [prefix] if prefix else []
        while True:
            token = self._token()
            if token.kind == "name":
                parts.append(token.text)
            elif token.kind == "string" and token.text.startswith('"'):
                parts.append(token.text[1:-1])
            else:
                raise self._unknown(f"{token.text!r} is not the name of a setting")
            self._at += 1
            if not self._takes("."):
                return ".".join(parts)

    def _skip_to_semicolon(self) -> int:
        """Pass over an expression and its semicolon; the place where the expression ends."""
        depth = 0
        lets = 0
        while True:
            token = self._token()
            if token.text in ('"', "'"):
                raise self._unknown("a text in it has ${ }, or does not end")
            depth += (token.kind == "open") - (token.kind == "close")
            lets += (token.text == "let") - (token.text == "in") if token.kind == "name" else 0
            if depth < 0:
                raise self._unknown("a bracket is closed that was not opened")
            if token.text in ("with", "assert") and token.kind == "name" and not depth:
                raise self._unknown(f"it uses {token.text}")
            self._at += 1
            if token.text == ";" and depth == 0 and lets == 0:
                return self._tokens[self._at - 2].end

    def _token(self) -> _Token:
        if self._at >= len(self._tokens):
            raise self._unknown("it ends in the middle")
        return self._tokens[self._at]

    def _peek(self, text: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at].text == text

    def _takes(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._at += 1
        return True

    def _unknown(self, why: str) -> UsageError:
        return UsageError(
            f"{self._source} is more than a plain set of settings: {why}",
            remedy="Change it by hand, then check it with: tcfs fleet check",
        )
