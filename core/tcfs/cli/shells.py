"""Completion scripts for bash, zsh and fish, written from the parser.

Names that come from the store are never evaluated: bash's ``compgen -W`` would run a ``$(…)`` in
them, so candidates are read line by line into the array instead.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option: its spellings, whether a value follows, and what that may be."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...] = ()
    completes: str = ""


@dataclass(frozen=True)
class Spec:
    """One command: its path (``("device", "list")``), options, and what its arguments may be."""

    path: tuple[str, ...]
    options: tuple[Option, ...]
    commands: tuple[tuple[str, str], ...]
    """Commands below this one, with their summaries."""
    choices: tuple[str, ...]
    completes: str
    """``file``, ``remote``, ``device`` or nothing; of the first argument that says."""


def describe(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[Spec]:
    """The parser's commands, outermost first."""
    options: list[Option] = []
    choices: tuple[str, ...] = ()
    completes = ""
    below: list[tuple[str, str]] = []
    parsers: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        kind: Any = getattr(action, "completes", "")
        if isinstance(action, argparse._SubParsersAction):
            parsers = action.choices
            below = [(c.dest, c.help or "") for c in action._choices_actions]
        elif action.option_strings:
            options.append(
                Option(
                    tuple(action.option_strings),
                    action.help or "",
                    action.nargs != 0,
                    tuple(map(str, action.choices or ())),
                    kind,
                )
            )
        else:
            choices = choices or tuple(map(str, action.choices or ()))
            completes = completes or kind
    yield Spec(path, tuple(options), tuple(below), choices, completes)
    for name, _ in below:
        yield from describe(parsers[name], (*path, name))


def completion_script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for ``bash``, ``zsh`` or ``fish``."""
    specs = list(describe(parser))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](specs)


def _cases(specs: list[Spec], indent: str) -> str:
    """Shell assignments for each command and for each option with a value; bash and zsh agree."""
    lines: list[str] = []
    for spec in specs:
        words = [name for name, _ in spec.commands] or list(spec.choices)
        opts = [name for option in spec.options for name in option.names]
        lines.append(
            f"{shlex.quote(' '.join(spec.path))}) opts={shlex.quote(' '.join(opts))}; "
            f"offer={shlex.quote(' '.join(words))}; kind={spec.completes or 'none'} ;;"
        )
    return "\n".join(indent + line for line in lines)


def _values(specs: list[Spec], indent: str) -> str:
    """Cases ``command option)`` for what may follow an option."""
    lines: list[str] = []
    for spec in specs:
        for option in spec.options:
            if option.takes_value:
                keys = "|".join(shlex.quote(" ".join((*spec.path, n))) for n in option.names)
                words = shlex.quote(" ".join(option.choices))
                kind = option.completes or "none"
                lines.append(f"{keys}) opts=''; offer={words}; kind={kind}; value=1 ;;")
    return "\n".join(indent + line for line in lines)


def _groups(specs: list[Spec]) -> str:
    """All command paths, as patterns."""
    return "|".join(shlex.quote(" ".join(spec.path)) for spec in specs if spec.path)


def _bash(specs: list[Spec]) -> str:
    return f"""\
# bash completion for tcfs
_tcfs() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} cmd='' word next i line
  local opts='' offer='' kind=none value=''
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    next="${{cmd:+$cmd }}$word"
    case "$next" in
      {_groups(specs)}) cmd=$next ;;
    esac
  done
  case "$cmd" in
{_cases(specs, "    ")}
  esac
  word=${{COMP_WORDS[COMP_CWORD-1]}}
  case "${{cmd:+$cmd }}$word" in
{_values(specs, "    ")}
  esac
  if [[ $cur == -* && -z $value ]]; then
    COMPREPLY=($(compgen -W "$opts" -- "$cur"))
    return
  fi
  # These words are our own; what comes from the store is never expanded.
  COMPREPLY=($(compgen -W "$offer" -- "$cur"))
  case $kind in
    file)
      compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
      ;;
    remote|device)
      compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done \\
        < <(tcfs __complete "$kind" -- "$cur" 2>/dev/null)
      # A directory is seldom all of a path.
      [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == */ ]] && compopt -o nospace 2>/dev/null
      ;;
  esac
}}
complete -F _tcfs tcfs
"""


def _zsh(specs: list[Spec]) -> str:
    return f"""\
#compdef tcfs
# zsh completion for tcfs
_tcfs() {{
  local cur=${{words[CURRENT]}} cmd='' word next i
  local opts='' offer='' kind=none value=''
  local -a typed found
  typed=("${{words[@]}}")
  for ((i = 2; i < CURRENT; i++)); do
    word=$typed[i]
    next="${{cmd:+$cmd }}$word"
    case "$next" in
      {_groups(specs)}) cmd=$next ;;
    esac
  done
  case "$cmd" in
{_cases(specs, "    ")}
  esac
  word=$typed[CURRENT-1]
  case "${{cmd:+$cmd }}$word" in
{_values(specs, "    ")}
  esac
  if [[ $cur == -* && -z $value ]]; then
    compadd -- ${{=opts}}
    return
  fi
  [[ -n $offer ]] && compadd -- ${{=offer}}
  case $kind in
    file) _files ;;
    remote|device)
      found=("${{(@f)$(tcfs __complete $kind -- "$cur" 2>/dev/null)}}")
      [[ -n $found ]] && compadd -S '' -- "${{found[@]}}"
      ;;
  esac
}}
compdef _tcfs tcfs
"""


def _fish(specs: list[Spec]) -> str:
    lines = [
        "# fish completion for tcfs",
        "complete -c tcfs -f",
        "function __tcfs_at",
        "  set -l cmd",
        "  for word in (commandline -opc)[2..-1]",
        "    switch (string join -- ' ' $cmd $word)",
        f"      case {' '.join(shlex.quote(' '.join(s.path)) for s in specs if s.path)}",
        "        set cmd $cmd $word",
        "    end",
        "  end",
        '  test "$cmd" = "$argv"',
        "end",
    ]
    for spec in specs:
        at = f"complete -c tcfs -n {_fish_quote('__tcfs_at ' + ' '.join(spec.path))}"
        for name, summary in spec.commands:
            lines.append(f"{at} -a {name} -d {_fish_quote(summary)}")
        if spec.choices:
            lines.append(f"{at} -a {_fish_quote(' '.join(spec.choices))}")
        if spec.completes:
            lines.append(f"{at} {_fish_source(spec.completes)}")
        for option in spec.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            takes_file = option.completes == "file"
            more = "" if not option.takes_value else " -r" if takes_file else " -x"
            if option.choices:
                more += f" -a {_fish_quote(' '.join(option.choices))}"
            if option.completes:
                more += f" {_fish_source(option.completes)}"
            lines.append(f"{at} {names} -d {_fish_quote(option.help)}{more}")
    return "\n".join(lines) + "\n"


def _fish_source(kind: str) -> str:
    if kind == "file":
        return "-F"
    return f"-a {_fish_quote(f'(tcfs __complete {kind} -- (commandline -ct) 2>/dev/null)')}"


def _fish_quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
