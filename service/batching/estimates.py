"""Decides by its cost how much of the waiting chunks a batch runs. Used from one event loop.

The cost of a batch is estimated from earlier ones by one line, ``fixed + a * steps + b * spikes``. The times are noisy:
a thread's CPU time includes what a neighbour steals from a virtual machine. So a batch corrects only ``RATE`` of its
error, and counts as at most twice its estimate. A hiccup adds a quarter, and eight times the cost is learned in ten
batches. Batches of all sizes correct the same line, so a wrong estimate loses up to a quarter with each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple

from service.engine.engine import Segment
from service.engine.resampler import is_slow
from service.engine.work import Job, Outcome, count_events
from service.errors import HetsynError
from service.models.model import Model
from service.observe.watch import NOT_RUN, Ran

SEGMENT_S = 5e-3
MAX_SEGMENT_STEPS = 1_000  # steps of each stream, to bound the memory
COPIED_BYTES = 32 * 1024  # copying a state of this size to and from a segment takes about as long as a step
LATEST = 0.1  # share of the latest batch in the average time of a step
PROBE_STEPS = 16  # least steps of each stream while the cost is not settled

RATE = 0.25  # share of the error that a batch corrects
MOST = 2.0  # a batch counts as at most this multiple of its estimate
LEAST_S = 1e-6  # a batch counts as at least this
FIXED = 1 / 16  # share of a first batch's time that a smaller batch is estimated to take too
SETTLED = 16  # batches after which a first one that was measured a hundred times too long is forgotten


class CostLine:
    """The time of batches of one kind."""

    __slots__ = ("_event_s", "_fixed_s", "_measured", "_step_s")

    def __init__(self) -> None:
        self._fixed_s = inf
        self._step_s = self._event_s = 0.0
        self._measured = 0

    @property
    def is_settled(self) -> bool:
        return self._measured >= SETTLED

    def seconds(self, steps: int, events: int) -> float:
        """Estimate the seconds of a batch; inf if none has run.

        Args:
            steps: network steps of all its streams, plus one a stream for its fixed cost.
            events: spikes of all its streams.
        """
        return self._fixed_s + self._step_s * steps + self._event_s * events

    def observe(self, steps: int, events: int, seconds: float) -> None:
        """Correct the line by a batch that ran.

        Each term is corrected in proportion to its part of the time. So none becomes negative, and terms that the
        batches cannot tell apart are too large rather than too small.
        """
        seconds = max(seconds, LEAST_S)
        self._measured += 1
        if self._measured == 1:  # the steps or the spikes may cause all of it; a spike costs no more than a step
            self._fixed_s, self._step_s, self._event_s = FIXED * seconds, seconds / steps, seconds / max(steps, events)
            return
        fixed_s, steps_s, events_s = self._fixed_s, self._step_s * steps, self._event_s * events
        expected_s = fixed_s + steps_s + events_s
        error_s = min(seconds, MOST * expected_s) - expected_s
        share = RATE * error_s / (fixed_s**2 + steps_s**2 + events_s**2)
        self._fixed_s *= 1 + share * fixed_s
        self._step_s *= 1 + share * steps_s
        self._event_s *= 1 + share * events_s


class Item:
    """A chunk for the engine. Subclasses add their own members, and go on in ``done``.

    Attributes:
        due_s: deadline for its beginning, by the batcher's clock; inf after it has begun.
        job: the rest to compute.
        left: steps that the job still takes, at least 1.
        events: spikes in them; None if an encoder may make some.
        steps: its steps of a batch.
        is_long: it is too long for the event loop.
        work: units that are not done (``backlog``).
        is_computed: it waits for a segment, or is in one, and was not dropped.
    """

    model: Model
    job: Job
    group: Hashable
    left: int
    events: int | None
    steps: int
    is_long: bool
    work: int
    ran = NOT_RUN
    is_computed = False

    def __init__(self, client: str, due_s: float) -> None:
        self.client = client
        self.due_s = due_s

    @staticmethod
    def done(items: Sequence[Any], outcomes: Sequence[Outcome | Exception]) -> None:
        """Go on with chunks of this class that were computed together, each with its outcome or error."""
        raise NotImplementedError

    def wait(self, model: Model, job: Job, left: int, events: int | None) -> None:
        """Wait from now on for the next segment of a job, of which ``left`` and ``events`` are left."""
        self.model = model
        self.job = job
        self.group = model.group if job.raster is None else (model.group, "spikes")  # spikes in the reply cost more
        self.left = left
        self.events = events
        is_long = left > MAX_SEGMENT_STEPS
        self.steps = MAX_SEGMENT_STEPS if is_long else left
        if events is None and (resampler := job.stream.resampler) is not None:  # it may take long whatever its steps
            is_long = is_long or is_slow(resampler.rate_hz, resampler.target_hz)
        self.is_long = is_long


class Measured(NamedTuple):
    """The results and the times of a segment.

    Attributes:
        results: of each job; an error if its state is broken.
        encode_s: seconds of the encoder; None if all spikes were known.
        ran: the time of encoder and network, by a clock that also counts while others use the processor.
    """

    results: Sequence[Job | Outcome | HetsynError]
    segment: Segment
    encode_s: float | None
    network_s: float
    ran: Ran


class Estimates:
    """Estimates batches from earlier ones. A batch with a shorter estimate than ``inline_s`` is short.

    Attributes:
        network: the time of the network alone, by ``Item.group``.
    """

    def __init__(self, inline_s: float) -> None:
        self.inline_s = inline_s
        self.network: defaultdict[Hashable, CostLine] = defaultdict(CostLine)
        self._encoded: defaultdict[Hashable, CostLine] = defaultdict(CostLine)  # of sound or values, with the encoder
        self._step_s: float | None = None

    def observe(self, batch: Sequence[Item], measured: Measured) -> float:
        """Learn from a batch that ran. Returns the seconds of one step, averaged over batches."""
        group, (_, segment, encode_s, network_s, *_) = batch[0].group, measured
        steps, seconds = segment.steps + len(batch), network_s
        if encode_s is not None:
            seconds += encode_s
        # a batch without a step tells nothing about a step's time
        if encode_s is not None and (segment.steps or segment.heard):
            self._encoded[group].observe(steps + segment.heard, 0, seconds)
        if segment.steps:
            self.network[group].observe(steps, segment.events, network_s)
        step_s = seconds / (steps + segment.heard)
        self._step_s = step_s if self._step_s is None else self._step_s + LATEST * (step_s - self._step_s)
        return self._step_s

    def segment(self, batch: Sequence[Item]) -> tuple[int, int]:
        """Choose how much of a batch to run in ``SEGMENT_S``.

        Each segment copies the states of its streams, 600 kB each in an exact network. Many streams of a step each
        would do little else. So fewer streams run, for as many steps as copying their states takes.

        Returns:
            Number of chunks, beginning with the first, and steps of each stream.
        """
        least = batch[0].model.initial_row.nbytes // COPIED_BYTES
        count = len(batch)
        while True:
            steps = self._segment_steps(batch[:count])
            if count == 1 or steps >= min(least, max(item.left for item in batch[:count])):
                return count, steps
            count //= 2

    def _segment_steps(self, batch: Sequence[Item]) -> int:
        limit = min(max(item.left for item in batch), MAX_SEGMENT_STEPS)
        lines = self._encoded if None in map(_events_of, batch) else self.network
        least = 1 if lines[batch[0].group].is_settled else PROBE_STEPS
        while limit > least and (expected_s := self._expected_s(batch, limit)) > SEGMENT_S:
            # a dense part of a chunk may follow a quiet one, so the shorter segment is estimated again
            limit = max(least, min(limit // 2, int(limit * SEGMENT_S / expected_s)))
        return limit

    def count_inline(self, batch: Sequence[Item]) -> int:
        """Count the first chunks that together are short enough to run on the event loop."""
        first = batch[0]
        if self.inline_s <= 0 or not first.model.is_on_cpu:
            return 0
        are_long = list(map(_is_long_of, batch))
        count = are_long.index(True) if True in are_long else len(batch)
        while count and (expected_s := self._expected_s(batch[:count], MAX_SEGMENT_STEPS)) >= self.inline_s:
            count = 0 if expected_s == inf else min(count - 1, int(count * self.inline_s / expected_s))
        return count

    def _expected_s(self, batch: Sequence[Item], limit: int) -> float:
        """Estimate the seconds of a batch for ``limit`` steps of each stream; inf if unknown."""
        lefts, group = list(map(_left_of, batch)), batch[0].group
        if max(lefts) <= limit:
            steps, events = sum(lefts), list(map(_events_of, batch))
        else:
            steps = sum([min(left, limit) for left in lefts])
            events = [item.events if item.left <= limit else count_events(item.job, limit) for item in batch]
        steps += len(batch)
        if None in events:
            return self._encoded[group].seconds(steps, 0)
        return self.network[group].seconds(steps, sum(events))


_events_of: Callable[[Item], Any] = attrgetter("events")
_left_of: Callable[[Item], int] = attrgetter("left")
_is_long_of: Callable[[Item], bool] = attrgetter("is_long")
