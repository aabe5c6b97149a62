"""Standard output of the commands."""

from __future__ import annotations

import sys

from rich.console import Console

UNWRAPPED = 100_000  # characters of a line


def open_console() -> Console:
    """Open standard output. It wraps lines only on a terminal, so that a file of them can be searched."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNWRAPPED)
