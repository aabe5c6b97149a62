"""What tells the time."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds; of which epoch, the parameter that takes one says."""
