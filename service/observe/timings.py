"""Histograms of the chunks' times by transport and model, and of the sizes of batches.

The request time of a chunk begins when its input is complete, and ends when its reply is made. It is the sum of queue,
engine and commit. Only names of models that are served become labels, and no more than ``MOST_MODELS`` of them.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Literal, Protocol

from service.observe.watch import Watch

Transport = Literal["http", "stream", "streams", "v2", "grpc"]
"""The way in: ``POST /infer``, ``WS /stream``, ``WS /streams``, the Open Inference Protocol over HTTP and over gRPC."""

LAG_INTERVAL_S = 0.1
MOST_LAG_S = 10.0  # of wakes that a blocked event loop missed, only those of this time are made up for
MOST_MODELS = 64  # each takes up to 290 series
OTHER = "(other)"  # label of all later models; no model can have this name

_parts, _started_of = attrgetter("ran.engine_s", "store_s"), attrgetter("started_s")


SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Bounds of times: from a batch of one small chunk to a queue that is about to be refused."""

CHUNKS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Bounds of the chunks of a batch."""


class Histogram:
    """Counts values by bucket, at the price of two additions a value: to a bucket's count, and to the sum.

    Args:
        bounds: upper bounds of the buckets, ascending. One more bucket, without a bound, takes larger values.

    Attributes:
        counts: values in each bucket, [bounds + 1], not cumulative.
        total: sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value ``times`` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> Iterator[tuple[float | None, int]]:
        """Yield each bound with the number of values up to it; at last None with the number of all values."""
        count = 0
        for bound, more in zip((*self.bounds, None), self.counts, strict=True):
            count += more
            yield bound, count


class Tracer(Protocol):
    """Makes spans of chunks."""

    def applied(self, transport: Transport, model: str, watch: Watch, ended_s: float, chunks: int = 1) -> None:
        """Make the spans of applied chunks of the current request (``context``).

        Args:
            ended_s: when they were stored, in seconds of ``time.perf_counter``.
            chunks: number of chunks that were computed together.
        """

    def refused(self, error: str) -> None:
        """Make the span of a refused chunk. ``error`` is the code of the problem."""


class ChunkTimes:
    """Histograms of one model and transport, in seconds.

    Attributes:
        request: from the complete chunk to its reply.
        queue: the part of it without computation and commit.
        engine: the segments in which the chunk was computed.
        commit: the commit to the store; empty without a store.
    """

    __slots__ = ("commit", "engine", "queue", "request")

    def __init__(self) -> None:
        self.request = Histogram(SECONDS)
        self.queue = Histogram(SECONDS)
        self.engine = Histogram(SECONDS)
        self.commit = Histogram(SECONDS)


class Timings:
    """All histograms of a server. Used from one event loop.

    Attributes:
        tracer: makes spans of chunks; None without traces.
        has_store: sessions are in a store, so that commits count.
        lag: how late the event loop wakes a task that waits for a time, in seconds.
        lag_interval_s: time between two measurements of it.
    """

    def __init__(self) -> None:
        self.has_store = False
        self.tracer: Tracer | None = None
        self.lag = Histogram(SECONDS)
        self.lag_interval_s = LAG_INTERVAL_S
        self._times: dict[Transport, dict[str, ChunkTimes]] = {}
        self._batches: dict[str, Histogram] = {}
        self._models: set[str] = set()

    async def watch_lag(self) -> None:
        """Count the lag at an interval, until cancelled. A loop that blocks counts for each wake that it misses."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s, loop.time() - MOST_LAG_S) + self.lag_interval_s
            await asyncio.sleep(due_s - loop.time())
            self.lag.observe(max(0.0, loop.time() - due_s))

    def applied(self, transport: Transport, model: str, watches: Sequence[Watch]) -> float:
        """Count chunks that were applied just now.

        Returns:
            The current ``time.perf_counter``, for calls of ``tracer`` in each chunk's context.
        """
        ended_s = time.perf_counter()
        by_model = self._times.setdefault(transport, {})
        times = by_model.get(model)
        if times is None:
            times = by_model[model] = by_model.setdefault(self._label(model), ChunkTimes())
        request, queue, bounds = times.request, times.queue, SECONDS
        requests, queues = request.counts, queue.counts
        for (engine_s, store_s), batch in groupby(watches, _parts):  # those of a batch are alike
            busy_s, chunks = engine_s + store_s, 0
            for started_s, together in groupby(map(_started_of, batch)):  # those of a frame came together
                alike = len(list(together))
                request_s = ended_s - started_s
                queue_s = request_s - busy_s
                requests[bisect_left(bounds, request_s)] += alike
                queues[bisect_left(bounds, queue_s)] += alike
                request.total += request_s * alike
                queue.total += queue_s * alike if queue_s > 0.0 else 0.0  # negative if a test set the watch
                chunks += alike
            times.engine.observe(engine_s, chunks)
            if self.has_store:
                times.commit.observe(store_s, chunks)
        return ended_s

    def batch(self, model: str, chunks: int) -> None:
        sizes = self._batches.get(model)
        if sizes is None:
            label = self._label(model)
            sizes = self._batches[model] = self._batches.setdefault(label, Histogram(CHUNKS))
        sizes.observe(chunks)

    def by_label(self) -> Iterator[tuple[Transport, str, ChunkTimes]]:
        for transport, by_model in self._times.items():
            for model, times in by_model.items():
                if model == self._label(model):
                    yield transport, model, times

    def batches(self) -> Iterator[tuple[str, Histogram]]:
        """Yield each model with the histogram of its batch sizes."""
        for model, sizes in self._batches.items():
            if model == self._label(model):
                yield model, sizes

    def _label(self, model: str) -> str:
        """Return a model's label: its name, or ``OTHER`` if there are too many."""
        if model in self._models or model == OTHER:
            return model
        if len(self._models) >= MOST_MODELS:
            return OTHER
        self._models.add(model)
        return model
