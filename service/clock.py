"""The types of what a server takes from its process: clocks and threads. The simulator gives others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

Clock = Callable[[], float]
"""Returns seconds. The parameter that takes a clock says since when."""
Executors = Callable[[int, str], Executor]
"""Makes an executor of so many threads, which have this name."""
