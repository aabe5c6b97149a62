"""A clock that is turned by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """
    Attributes:
        now_s: what it shows, in seconds.
    """

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s
