"""The log of a server process: uvicorn's lines and ours in one form, with one level."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

from uvicorn.config import LOGGING_CONFIG

from service.observe.context import described
from service.observe.no_secrets import NoSecrets

LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "hetsyn")
LogFormat = Literal["text", "json"]

# of every record, and so no members of a line; ``color_message`` is uvicorn's message once more
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: ``time``, ``level``, ``logger``, ``message``, what the record says beside its
    message, and the request and session that it belongs to (``context``).

    Args:
        worker: number of this process among the workers of a server; None is this process alone.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        line |= described()
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


def log_config(level: str, form: LogFormat = "text", worker: int | None = None) -> dict[str, Any]:
    """A configuration for ``logging.config.dictConfig``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; the least severe messages to log.
        form: of a line.
        worker: number of this process among the workers of a server; None is this process alone, or the one that
            starts them.
    """
    loggers: dict[str, Any] = LOGGING_CONFIG["loggers"] | {"hetsyn": {"handlers": ["default"]}}
    prefix = "" if worker is None else f"worker {worker}: "
    formatters: dict[str, Any] = {
        name: {"()": NoSecrets, "make": JsonFormatter, "worker": worker}
        if form == "json"
        else {"()": NoSecrets, "make": formatter["()"]}
        | {option: value for option, value in formatter.items() if option != "()"}
        | {"fmt": formatter["fmt"].replace("%(levelprefix)s ", f"%(levelprefix)s {prefix}")}
        for name, formatter in LOGGING_CONFIG["formatters"].items()
    }
    return LOGGING_CONFIG | {
        "formatters": formatters,
        "loggers": {name: loggers[name] | {"level": level.upper()} for name in LOGGERS},
    }
