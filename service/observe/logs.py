"""The log of a server process: uvicorn's lines and ours in one form, with one level, without secrets of keys."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter, DefaultFormatter

from service.keys.credential import redacted
from service.observe.context import described

LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "hetsyn")
LogFormat = Literal["text", "json"]

# attributes of every record, which are no members of a line; ``color_message`` is uvicorn's message again
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: ``time``, ``level``, ``logger``, ``message``, what the record says beside its
    message, and the request and session that it belongs to (``context``).
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= described()
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return redacted(json.dumps(line, default=str))


def context_of(record: logging.LogRecord) -> str:
    """Write the end of a line of text: `` [request 7, session a, key mobile]``; empty if nothing is known.

    Args:
        record: a session that it names itself is left out, because the message has it.
    """
    members = described() | {name: str(value) for name, value in vars(record).items() if name in ("session", "key")}
    if "session" in vars(record):
        del members["session"]
    names = {"request_id": "request", "session": "session", "key": "key"}
    known = [f"{word} {_shown(members[name])}" for name, word in names.items() if name in members]
    return f" [{', '.join(known)}]" if known else ""


def _shown(text: str) -> str:
    """Quote a client's text if it could be mistaken for another part of the line."""
    return text if re.fullmatch(r"[\w.:~+/=-]+", text, re.ASCII) else ascii(text)


class _Text(logging.Formatter):
    """A line of uvicorn, followed by its request and session."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record) + context_of(record)


class TextFormatter(_Text, DefaultFormatter):
    pass


class TextAccessFormatter(_Text, AccessFormatter):
    pass


_TEXT = {"default": TextFormatter, "access": TextAccessFormatter}


def log_config(level: str, form: LogFormat = "text") -> dict[str, Any]:
    """Make a configuration for ``logging.config.dictConfig``. ``level`` is the least severe one to log."""
    loggers: dict[str, Any] = LOGGING_CONFIG["loggers"] | {"hetsyn": {"handlers": ["default"]}}
    formatters: dict[str, Any] = {
        name: {"()": JsonFormatter} if form == "json" else formatter | {"()": _TEXT[name]}
        for name, formatter in LOGGING_CONFIG["formatters"].items()
    }
    return LOGGING_CONFIG | {
        "formatters": formatters,
        "loggers": {name: loggers[name] | {"level": level.upper()} for name in LOGGERS},
    }
