"""A gate in front of fake graphs: a test decides when a graph runs and whether it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

from service.runtime.onnx import Array, Graph, GraphLoader
from tests.support.artifacts.fake_graph import load_fake

WITHIN_S = 60.0  # on a machine that has much else to do, too


class Gate:
    """Wraps a loader: every ``run`` waits until the gate is open, and fails while ``failure`` is set."""

    def __init__(self, load: GraphLoader = load_fake) -> None:
        self._load = load
        self.opened = threading.Event()
        self.opened.set()
        self.entered = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.calls = 0
        self.stops = 0

    async def computes(self) -> None:
        """Wait until a graph has begun one run more."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=WITHIN_S), "nothing is computed"

    def load(self, content: bytes) -> Graph:
        return _Gated(self._load(content), self)


class _Gated:
    def __init__(self, graph: Graph, gate: Gate) -> None:
        self._graph = graph
        self._gate = gate
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self._gate.calls += 1
        self._gate.entered.release()
        if not self._gate.opened.wait(timeout=WITHIN_S):
            raise TimeoutError("the gate stayed closed")
        if self._gate.failure is not None:
            raise self._gate.failure
        return self._graph.run(inputs, outputs)

    def stop(self) -> None:
        self._gate.stops += 1
