"""Searches for the most real-time streams that a server holds: no chunk fails, and the p99 stays below a limit.

The load doubles until one is too much; then each load lies in the middle between the most streams that held and the
fewest that were too many, until these are within ``PRECISION``. Other programs make a good load fail, and hardly
anything makes a bad one hold. So a load that held once holds, and one is too much when it failed ``TRIES`` times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.run import INTERRUPTED, Loop, Measurement, Record, RunSettings, Watch, measure
from hetsyn_client.loadtest.senders import Way

FIRST_STREAMS, MOST_STREAMS = 16, 2**14
PRECISION = 0.03
TRIES = 3
PERCENTILE = 99.0


class Trial(NamedTuple):
    """A load that was tried."""

    measurement: Measurement
    missed: str  # why the load was too much, or ""

    @property
    def streams(self) -> int:
        return self.measurement.streams

    def as_json(self) -> dict[str, Any]:
        m = self.measurement
        return {
            "streams": m.streams,
            "p50_ms": m.latency.percentiles.get(50.0),
            "p99_ms": m.latency.percentiles.get(PERCENTILE),
            "missed": self.missed,
            "is_generator_busy": m.is_generator_busy,
        }


def most_held(trials: Sequence[Trial]) -> int:
    """Return the most streams that held; 0 if not even one did."""
    return max((trial.streams for trial in trials if not trial.missed), default=0)


def next_streams(trials: Sequence[Trial]) -> int | None:
    """Choose the number of streams to try next; None when the search is over."""
    held = most_held(trials)
    missed = Counter(trial.streams for trial in trials if trial.missed and trial.streams > held)
    if held >= MOST_STREAMS or (trials and trials[-1].missed == INTERRUPTED):
        return None
    if not missed:
        return 2 * held or FIRST_STREAMS
    too_many = min(missed)
    if missed[too_many] < TRIES:
        return too_many
    return (held + too_many) // 2 if too_many - held > max(1, PRECISION * held) else None


async def try_streams(
    way: Way, load: Load, streams: int, limit_ms: float, settings: RunSettings, told: Watch = lambda _, __: None
) -> Trial:
    """Measure one load. It ends early once a chunk has failed, or too many are late for the limit."""
    most_late = (1 - PERCENTILE / 100) * streams * settings.duration_s / load.period_s + 1

    def watch(record: Record, now_s: float) -> str | None:
        due_s, answered_s = np.array(record.due_s), np.array(record.answered_s)
        late = (answered_s - due_s > limit_ms / 1000) & (due_s >= record.begin_s)
        is_late = late.sum() > most_late
        return ", ".join(record.errors) or (f"p99 above {limit_ms:g} ms" if is_late else told(record, now_s))

    m = await measure(way, load, Loop(streams, is_open=True), settings, watch)
    missed = m.stopped or ", ".join([*m.errors, *(["unanswered chunks"] if m.unanswered else [])])
    if not missed and not m.latency.percentiles.get(PERCENTILE, np.inf) < limit_ms:
        missed = f"p99 above {limit_ms:g} ms"
    return Trial(m, missed)


@dataclass(frozen=True)
class Found:
    """The result of a search: its trials, in order."""

    limit_ms: float
    trials: list[Trial]

    @property
    def streams(self) -> int:
        return most_held(self.trials)

    @property
    def measurement(self) -> Measurement:
        """Return that of the most streams that held, or else of the last trial."""
        return next((one for one in self.trials if not one.missed and one.streams == self.streams), self.trials[-1])[0]

    @property
    def why_at_least(self) -> str:
        """Say why the server may hold more streams; "" if it does not."""
        too_many = [trial for trial in self.trials if trial.missed and trial.streams > self.streams]
        if not too_many or self.trials[-1].missed == INTERRUPTED:
            return "the search ended early"
        fewest = min(trial.streams for trial in too_many)
        if all(trial.measurement.is_generator_busy for trial in too_many if trial.streams == fewest):
            return f"at {fewest:,} the load generator was busy or late itself"
        return ""

    def as_json(self) -> dict[str, Any]:
        return {
            "limit_ms": self.limit_ms,
            "streams": self.streams,
            "why_at_least": self.why_at_least,
            "trials": [trial.as_json() for trial in self.trials],
        }


async def search(
    way: Callable[[], Way],
    load: Load,
    limit_ms: float,
    settings: RunSettings,
    told: Watch = lambda _, __: None,
    tried: Callable[[Trial], None] = lambda _: None,
) -> Found:
    """Find the most streams. ``tried`` receives each trial."""
    trials: list[Trial] = []
    while (streams := next_streams(trials)) is not None:
        trials.append(await try_streams(way(), load, streams, limit_ms, settings, told))
        tried(trials[-1])
    return Found(limit_ms, trials)
