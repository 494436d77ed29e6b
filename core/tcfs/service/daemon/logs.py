"""The daemon's log: one line for each event, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

LEVELS: Final = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}
_KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given as ``extra``."""
    return {key: value for key, value in vars(record).items() if key not in _KNOWN}


def _one_line(text: str) -> str:
    """Text that ends no line and steers no terminal: names of files are anybody's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class JsonFormatter(logging.Formatter):
    """One JSON object: ``time``, ``level``, ``logger``, ``message`` and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record, "%Y-%m-%dT%H:%M:%S") + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """``TIME LEVEL message key=value ...``; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        more = "".join(f" {key}={value}" for key, value in _fields(record).items())
        start = f"{_time(record, '%Y-%m-%d %H:%M:%S')} {record.levelname.lower():7} "
        line = start + _one_line(record.getMessage() + more)
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _time(record: logging.LogRecord, form: str) -> str:
    seconds = time.strftime(form, time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}"


def set_up(level: str, form: str) -> None:
    """Send what ``tcfs`` logs to standard error, and of libraries what is a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tcfs").setLevel(LEVELS[level])
    # What its connection does, our own lines say.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
