"""Fake graphs that take time on a clock of their own, and keep how they were run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from service.contract.graph_io import AUDIO, EVENT_ROW, STEPS
from service.runtime.onnx import Array, Graph
from tests.support.artifacts.fake_graph import load_fake


class Run(NamedTuple):
    """A run of a network.

    Attributes:
        streams: of the batch.
        steps: of the longest stream.
        on_loop: whether it held the event loop.
    """

    streams: int
    steps: int
    on_loop: bool


class MeteredGraphs:
    """Loads such graphs. Their costs are about those of ``shd-size`` in the bank form.

    Attributes:
        now_s: their clock.
        stall_s: time that the next run takes beside its own.
        slowness: factor of the time of each run.
        runs: of networks.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.stall_s = 0.0
        self.slowness = 1.0
        self.runs: list[Run] = []

    def clock(self) -> float:
        return self.now_s

    def load(self, content: bytes) -> Graph:
        return _Metered(load_fake(content), self)


class _Metered:
    def __init__(self, graph: Graph, meter: MeteredGraphs) -> None:
        self._graph = graph
        self._meter = meter
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        meter, steps = self._meter, inputs[STEPS]
        events = 0 if AUDIO in inputs else len(inputs[EVENT_ROW])
        own_s = 3e-5 + 7e-6 * len(steps) + 5e-7 * int(steps.sum()) + 5e-8 * events
        meter.now_s += meter.slowness * own_s + meter.stall_s
        meter.stall_s = 0.0
        if AUDIO not in inputs:
            on_loop = threading.current_thread() is threading.main_thread()
            meter.runs.append(Run(len(steps), int(steps.max()), on_loop))
        return self._graph.run(inputs, outputs)

    def stop(self) -> None:
        """A run of it ends soon."""
