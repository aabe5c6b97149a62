"""How much of the waiting chunks a batch runs, by the cost model. Used from one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from math import inf
from typing import NamedTuple

from service.batching.backlog import Ticket
from service.batching.cost import CostModel
from service.batching.policy import Waiting
from service.contract.manifest import FormName
from service.engine.engine import Segment
from service.engine.work import Job, Outcome, count_events, resampler_of
from service.errors import HetsynError
from service.models.model import Model
from service.observe.watch import Watch

SEGMENT_S = 5e-3
MAX_SEGMENT_STEPS = 1_000  # of each stream, to bound the memory
COPIED_BYTES = 32 * 1024  # copying as much of a state to and from a segment takes about as long as a step
PROBE_STEPS = 16  # of each stream, of work whose cost is not known


class Item(NamedTuple):
    """A chunk that waits for a segment, its first or a further one.

    Attributes:
        model: of its session.
        form: of the model.
        job: what is to be computed of the chunk.
        left: steps that the job still takes, at least 1.
        waiting: the chunk, for the policy.
        outcome: of the chunk; done once its caller has gone.
        ticket: of the chunk, in the backlog.
        due_s: when the chunk has to begin at the latest; inf once it has.
        watch: of the chunk's time; None where nobody asks.
    """

    model: Model
    form: FormName
    job: Job
    left: int
    waiting: Waiting
    outcome: asyncio.Future[Outcome]
    ticket: Ticket
    due_s: float
    watch: Watch | None = None


class Measured(NamedTuple):
    """What a segment took.

    Attributes:
        results: of each job; an error where its state is broken.
        segment: the steps that were run.
        encode_s: seconds until the network ran.
        network_s: seconds of the network.
        begun_s: when it began, by the clock of ``Watch``.
        wall_s: seconds of both, by a clock that also counts while others have the processor.
    """

    results: Sequence[Job | Outcome | HetsynError]
    segment: Segment
    encode_s: float
    network_s: float
    begun_s: float
    wall_s: float


class Estimates:
    """Estimates of batches, from those that ran.

    Args:
        inline_s: see below.

    Attributes:
        inline_s: a batch that is expected to take less time is short.
    """

    def __init__(self, inline_s: float) -> None:
        self.inline_s = inline_s
        self._costs = CostModel()

    def observe(self, batch: Sequence[Item], measured: Measured) -> float:
        """Remember a batch that ran.

        Returns:
            Seconds that one step took.
        """
        group: Hashable = batch[0].waiting.group
        segment = measured.segment
        steps = segment.steps + len(batch)
        if has_unknown_spikes(batch):
            self.observe_encoded(group, steps + segment.heard, segment.events, measured.encode_s)
        if segment.steps or not segment.heard:  # else it says nothing of the network
            self.observe_rows(group, steps, segment.events, measured.network_s)
        return (measured.encode_s + measured.network_s) / (steps + segment.heard)

    def rows_s(self, group: Hashable, steps: int, events: int | None) -> float:
        """Time that plain chunks should take (``batching.rows``); inf if it is not known.

        Args:
            group: of the chunks.
            steps: of all, and one of each.
            events: of all; None where an encoder makes them.
        """
        if events is not None:
            return self._costs.expected_s(("network", group), steps, events)
        density = self._costs.density(("network", group))
        if density is None:
            return inf
        encode_s = self._costs.expected_s(("encode", group), steps, 0)
        return encode_s + self._costs.expected_s(("network", group), steps, round(density * steps))

    def observe_encoded(self, group: Hashable, steps: int, events: int, seconds: float) -> None:
        """Remember how long an encoder took for steps, and how many spikes it made."""
        self._costs.observe(("encode", group), steps, 0, seconds)
        self._costs.observe_density(("network", group), events / steps)

    def observe_rows(self, group: Hashable, steps: int, events: int, seconds: float) -> None:
        """Remember how long a network took for steps and spikes."""
        self._costs.observe(("network", group), steps, events, seconds)

    def network_s(self, batch: Sequence[Item], segment: Segment) -> float:
        """Upper estimate of the network's time for a segment; inf if it is not known."""
        work = ("network", batch[0].waiting.group)
        return self._costs.expected_s(work, segment.steps + len(batch), segment.events)

    def segment(self, batch: Sequence[Item]) -> tuple[int, int]:
        """How much of a batch may run, so that it takes ``SEGMENT_S``.

        Each segment copies the states of its streams, 600 kB each in the exact form. Many streams of a step each would
        do little else, so fewer streams run then, for as many steps as their states take to copy.

        Returns:
            Number of chunks, from the first on, and steps of each stream.
        """
        least = batch[0].model.initial_row(batch[0].form).nbytes // COPIED_BYTES
        count = len(batch)
        while True:
            steps = self._segment_steps(batch[:count])
            if count == 1 or steps >= min(least, max(item.left for item in batch[:count])):
                return count, steps
            count //= 2

    def _segment_steps(self, batch: Sequence[Item]) -> int:
        limit = min(max(item.left for item in batch), MAX_SEGMENT_STEPS)
        while True:
            steps = sum(min(item.left, limit) + 1 for item in batch)
            step_s = self._step_s(batch, limit, steps)
            if step_s == inf:
                return min(limit, PROBE_STEPS)
            if steps * step_s <= SEGMENT_S or limit == 1:
                return limit
            # a denser part of a chunk may follow a quiet one, so the shorter segment is looked up anew
            limit = max(1, min(limit // 2, int(SEGMENT_S / (step_s * len(batch)))))

    def _step_s(self, batch: Sequence[Item], limit: int, steps: int) -> float:
        """Upper estimate of the time of one step, that of the encoder included; inf if it is not known."""
        group = batch[0].waiting.group
        events, encode_s = 0.0, 0.0
        for item in batch:
            known = count_events(item.job, limit)
            if known is None:
                density = self._costs.density(("network", group))
                if density is None:
                    return inf
                known = round(density * min(item.left, limit))
                encode_s = self._costs.step_s(("encode", group), steps, 0)
            events += known
        return encode_s + self._costs.step_s(("network", group), steps, int(events))

    def count_inline(self, batch: Sequence[Item]) -> int:
        """Number of chunks, from the first on, that are short enough together to run on the event loop."""
        first = batch[0]
        if self.inline_s <= 0 or not first.model.is_on_cpu:
            return 0
        count = len(batch)
        while count:
            expected_s = self._expected_s(batch[:count])
            if expected_s < self.inline_s:
                return count
            if expected_s == inf:
                return 0
            count = min(count - 1, int(count * self.inline_s / expected_s))
        return 0

    def _expected_s(self, batch: Sequence[Item]) -> float:
        """Time that a batch should take; inf for a long chunk, or a density that has not been seen."""
        group = batch[0].waiting.group
        steps = events = audio_steps = 0
        for item in batch:
            job, left = item.job, item.left
            resampler = resampler_of(item.model, job)
            if resampler is not None and resampler.is_slow:
                return inf  # its time does not hang on the steps
            if left > MAX_SEGMENT_STEPS or job.steps:
                return inf  # of a long chunk no part runs here, or the parts would follow one another
            count = count_events(job, left)
            if count is None:
                audio_steps += left + 1
            else:
                events += count
                steps += left + 1
        expected_s = 0.0
        if audio_steps:
            # the spikes of audio are known once it is encoded; if it has never been, the network's time is left out
            expected_s = self._costs.expected_s(("encode", group), audio_steps, 0)
            density = self._costs.density(("network", group))
            if density is not None:
                events += round(density * audio_steps)
                steps += audio_steps
        if steps:
            expected_s += self._costs.expected_s(("network", group), steps, events)
        return expected_s


def has_unknown_spikes(batch: Sequence[Item]) -> bool:
    """Whether an encoder may make spikes of the batch: it has audio or values."""
    return any(item.job.stream.kind != "spikes" for item in batch)
