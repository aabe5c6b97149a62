"""Keeps the secrets of keys out of the log, should a client send one where the log repeats it, as in a URL."""

from __future__ import annotations

import logging

from service.keys.token import redacted


class NoSecrets(logging.Filter):
    """A filter of handlers that lets every record pass, without secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = redacted(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(redacted(value) if isinstance(value, str) else value for value in record.args)
        return True
