"""Keeps the secrets of keys out of the log: a client may send one where the log repeats it, as in a URL."""

from __future__ import annotations

import logging
from pkgutil import resolve_name
from typing import Any

from service.keys.credential import redacted


class NoSecrets(logging.Formatter):
    """Wraps a formatter and redacts secrets in the whole line, tracebacks and ids included.

    Args:
        make: class of the wrapped formatter, or its dotted name, as in a configuration of ``logging``.
        options: arguments of the wrapped formatter.
    """

    def __init__(self, make: Any, **options: Any) -> None:
        super().__init__()
        self._inner: logging.Formatter = (resolve_name(make) if isinstance(make, str) else make)(**options)

    def format(self, record: logging.LogRecord) -> str:
        """Write the line without secrets."""
        return redacted(self._inner.format(record))
