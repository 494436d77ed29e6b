"""The recovery phrase at a terminal: shown once, taken away, and asked back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tcfs.cli.terminal import bold, red

if TYPE_CHECKING:
    from tcfs.cli.terminal import Terminal

ASKED: Final = 3
TRIES: Final = 3
_COLUMNS: Final = 4


def show_and_confirm(terminal: Terminal, phrase: str) -> bool:
    """Show the words, and ask some of them back. Whether the answers were right.

    Everything goes to standard error: standard output may be kept in a file even where a person
    sits at the keyboard.
    """
    words = phrase.split()
    lines = [
        "",
        "Recovery phrase. Write it down, on paper, now. It opens everything if all devices are",
        "lost; without it nothing and nobody can.",
        "",
        *_rows(words),
        "",
    ]
    for line in lines:
        terminal.err(bold(line) if line.startswith(" ") else line)
    if terminal.ask("Press Enter when it is written down. ") is None:
        return False
    # Typing back what is still on the screen would prove nothing.
    terminal.erase(len(lines) + 1)
    for position in _positions(len(words)):
        for attempt in range(TRIES):
            answer = terminal.ask(f"Word {position + 1}: ")
            if not answer:
                return False
            if answer.lower() == words[position]:
                break
            left = TRIES - attempt - 1
            terminal.err(red("That is not it. "), f"Tries left: {left}" if left else "")
        else:
            return False
    return True


def _rows(words: list[str]) -> list[str]:
    """Numbered words in columns, to be read downwards."""
    depth = -(-len(words) // _COLUMNS)
    return [
        "".join(
            f"  {index + 1:>2} {words[index]:<10}" for index in range(row, len(words), depth)
        ).rstrip()
        for row in range(depth)
    ]


def _positions(number: int) -> list[int]:
    """Which words to ask for: some, unforeseeable, in order."""
    from secrets import SystemRandom

    return sorted(SystemRandom().sample(range(number), min(ASKED, number)))
