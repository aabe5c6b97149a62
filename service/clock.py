"""The type of clocks."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds. The parameter that takes a clock says since when."""
