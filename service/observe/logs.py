"""The log of a server process: uvicorn's lines and ours in one form, with one level."""

from __future__ import annotations

from typing import Any

from uvicorn.config import LOGGING_CONFIG

LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "hetsyn")


def log_config(level: str) -> dict[str, Any]:
    """A configuration for ``logging.config.dictConfig``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; the least severe messages to log.
    """
    loggers: dict[str, Any] = LOGGING_CONFIG["loggers"] | {"hetsyn": {"handlers": ["default"]}}
    return LOGGING_CONFIG | {"loggers": {name: loggers[name] | {"level": level.upper()} for name in LOGGERS}}
