"""Engines that keep what they ran, and chunks for a batcher on them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from service.batching.backlog import BatchPolicy
from service.batching.batcher import Batcher
from service.engine.engine import Engine, Segment
from service.engine.work import Job, Outcome, Work, initial_stream
from service.errors import ArtifactError, HetsynError
from service.models.model import Model
from service.wire.chunk import spike_chunk
from tests.support.artifacts.gate import Gate


class RecordingEngine(Engine):
    """An engine that keeps the sizes of its batches, and refuses chunks that spike on a poisonous channel."""

    POISON = 3

    def __init__(self) -> None:
        super().__init__(10_000, 64)
        self.sizes: list[int] = []

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        self.sizes.append(len(segment.pieces))
        for piece in segment.pieces:
            if piece.unit.tolist() == [self.POISON]:
                raise ArtifactError("poisoned")
        return super().compute(model, segment)


class Threads(RecordingEngine):
    """Keeps which thread each batch ran on."""

    def __init__(self) -> None:
        super().__init__()
        self.on_loop: list[bool] = []

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        return super().compute(model, segment)


class Metered(Threads):
    """Takes a millisecond a step and ten microseconds a spike, on a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.longest_on_loop_s = 0.0
        self.longest_s = 0.0

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        results = super().compute(model, segment)
        taken_s = 1e-3 * segment.steps + 1e-5 * segment.events
        self.now_s += taken_s
        self.longest_s = max(self.longest_s, taken_s)
        if self.on_loop[-1]:
            self.longest_on_loop_s = max(self.longest_on_loop_s, taken_s)
        return results

    def batcher(self, inline_s: float, threads: int = 1, **limits: Any) -> Batcher:
        def now() -> float:
            return self.now_s

        return Batcher(self, BatchPolicy(), threads, inline_s, clock=now, timer=now, **limits)


def work(model: Model, unit: int = 1, steps: int = 4) -> Work:
    return Work(initial_stream(model), spike_chunk(steps, [0], [unit]), end=False)


async def gathered(batcher: Batcher, model: Model, gate: Gate, works: Sequence[Work]) -> list[asyncio.Task[Outcome]]:
    """The works as tasks that all wait while a first one holds the only engine thread."""
    gate.opened.clear()
    blocker = asyncio.create_task(batcher.run(model, work(model)))
    await asyncio.to_thread(gate.entered.acquire)
    tasks = [asyncio.create_task(batcher.run(model, item)) for item in works]
    await asyncio.sleep(0)
    return [blocker, *tasks]


async def together(
    engine: RecordingEngine, model: Model, gate: Gate, works: Sequence[Work], *, on_loop: bool
) -> tuple[Batcher, list[asyncio.Task[Outcome]]]:
    """The works as tasks of one batch, on the event loop or on a thread, which waits for the gate to be opened."""
    if not on_loop:
        batcher = Batcher(engine, BatchPolicy(), threads=1)
        _, *tasks = await gathered(batcher, model, gate, works)
        return batcher, tasks
    batcher = await warmed(engine, model)
    tasks = [asyncio.create_task(batcher.run(model, item)) for item in works]
    await asyncio.sleep(0)
    return batcher, tasks


async def warmed(engine: RecordingEngine, model: Model) -> Batcher:
    """A batcher that runs on the loop whatever it knows the length of."""
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=3600.0)
    await batcher.run(model, work(model))
    return batcher
