"""The log of a server process: uvicorn's lines and ours in one form, with one level."""

from __future__ import annotations

from typing import Any

from uvicorn.config import LOGGING_CONFIG

from service.observe.no_secrets import NoSecrets

LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "hetsyn")


def log_config(level: str, prefix: str = "") -> dict[str, Any]:
    """A configuration for ``logging.config.dictConfig``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; the least severe messages to log.
        prefix: of each line, after its level.
    """
    loggers: dict[str, Any] = LOGGING_CONFIG["loggers"] | {"hetsyn": {"handlers": ["default"]}}
    formatters: dict[str, Any] = {
        name: formatter | {"fmt": formatter["fmt"].replace("%(levelprefix)s ", f"%(levelprefix)s {prefix}")}
        for name, formatter in LOGGING_CONFIG["formatters"].items()
    }
    handlers = {name: handler | {"filters": ["no_secrets"]} for name, handler in LOGGING_CONFIG["handlers"].items()}
    return LOGGING_CONFIG | {
        "filters": {"no_secrets": {"()": NoSecrets}},
        "handlers": handlers,
        "formatters": formatters,
        "loggers": {name: loggers[name] | {"level": level.upper()} for name in LOGGERS},
    }
