"""A clock that is turned by hand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest


@dataclass
class Clock:
    """
    Attributes:
        now_s: what it shows, in seconds.
    """

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def turn(self, seconds: float) -> None:
        """Let time pass for the running loop, if it goes by this clock, once all tasks wait."""
        await _rounds()
        self.now_s += seconds
        await _rounds()


async def _rounds() -> None:
    """Give the event loop time for timers, what they resolve, and the tasks that go on."""
    for _ in range(10):
        await asyncio.sleep(0)


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still in place of ``time.monotonic``, by which event loops go, too."""
    clock = Clock(time.monotonic())
    monkeypatch.setattr(time, "monotonic", clock)
    return clock
