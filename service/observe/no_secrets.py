"""Keeps the secrets of keys out of the log, should a client send one where the log repeats it, as in a URL."""

from __future__ import annotations

import logging
from pkgutil import resolve_name
from typing import Any

from service.keys.token import redacted


class NoSecrets(logging.Formatter):
    """Another formatter, whose lines have no secrets: neither of messages nor of tracebacks, ids and all else in them.

    Args:
        make: of the other formatter, or where that is, as in a configuration of ``logging``.
        options: its arguments.
    """

    def __init__(self, make: Any, **options: Any) -> None:
        super().__init__()
        self._inner: logging.Formatter = (resolve_name(make) if isinstance(make, str) else make)(**options)

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        return redacted(self._inner.format(record))
