"""What S3 servers answer in XML: a root, values in it, and records of values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

Record = dict[str, str]


@dataclass(slots=True)
class Document:
    """An answer, without namespaces.

    Attributes:
        root: name of its outermost element.
        values: text of the elements in it that hold none.
        records: those that hold others, as (name, text of each element in it by name).
    """

    root: str = ""
    values: Record = field(default_factory=dict)
    records: list[tuple[str, Record]] = field(default_factory=list)


def parse(body: bytes) -> Document | None:
    """Read an answer. None if it is no XML, or such that no S3 server would send."""
    reader = _Reader()
    try:
        reader.parser.Parse(body, True)
    except (expat.ExpatError, _Strange):
        return None
    return reader.document


class _Strange(Exception):
    """XML that can do more than hold values."""


class _Reader:
    """Elements deeper than those of records are passed over."""

    def __init__(self) -> None:
        self.document = Document()
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        # Entities are declared there.
        parser.StartDoctypeDeclHandler = self._refuse
        self._depth = 0
        self._text_here: list[str] = []
        self._record: Record | None = None

    def _refuse(self, *_: Any) -> None:
        raise _Strange

    def _start(self, name: str, _: Any) -> None:
        self._depth += 1
        self._text_here.clear()
        if self._depth == 1:
            self.document.root = _local(name)
        elif self._depth == 2:
            self._record = None
        elif self._depth == 3 and self._record is None:
            self._record = {}

    def _text(self, data: str) -> None:
        self._text_here.append(data)

    def _end(self, name: str) -> None:
        text = "".join(self._text_here)
        self._text_here.clear()
        if self._depth == 3 and self._record is not None:
            self._record[_local(name)] = text
        elif self._depth == 2:
            if self._record is None:
                self.document.values[_local(name)] = text
            else:
                self.document.records.append((_local(name), self._record))
        self._depth -= 1


def _local(name: str) -> str:
    return name.rpartition(":")[2]
