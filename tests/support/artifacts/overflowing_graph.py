"""A fake network that overflows from a huge state, as a real one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from service.contract.graph_io import NEXT_STATE, STATE, next_name, state_name
from service.runtime.onnx import Array, Graph
from tests.support.artifacts.fake_graph import LOUDNESS, FakeNetwork, load_fake

HUGE = 1e20


class OverflowingGraph:
    """A fake graph, but numbers of its state beyond ``HUGE`` become infinite."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.inputs, self.outputs = graph.inputs, graph.outputs
        is_network = isinstance(graph, FakeNetwork)
        self._names = (STATE, NEXT_STATE) if is_network else (state_name(LOUDNESS), next_name(LOUDNESS))

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        values = self._graph.run(inputs, outputs)
        before, after = self._names
        if after in values:
            values[after] = np.where(np.abs(inputs[before]) > HUGE, np.inf, values[after]).astype(values[after].dtype)
        return values

    def stop(self) -> None:
        self._graph.stop()


def load_overflowing(content: bytes) -> Graph:
    """In place of ``load_fake``."""
    return OverflowingGraph(load_fake(content))
