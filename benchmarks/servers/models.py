"""The models of the peers: the exact step graph, called once a step, or our bank graph, once a chunk. Pure.

The graph has the names and shapes of the state: every input that does not belong to the chunk, with its next value in
the output ``next.NAME``. The state begins at zero.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# before the import: wheels since 1.29 write device ids into the user's cache otherwise
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

State = dict[str, NDArray[Any]]
HEADER = struct.Struct("<4sII")
CHUNK_INPUTS = ("spikes", "events.row", "events.unit", "steps")
DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


@dataclass(frozen=True)
class Chunk:
    """Spikes of some steps.

    Attributes:
        steps: number of steps.
        times: uint16 [spikes], the step of each spike.
        units: uint16 [spikes], its channel.
    """

    steps: int
    times: NDArray[np.uint16]
    units: NDArray[np.uint16]


def unpack(body: bytes) -> Chunk:
    """Unpack a chunk of events, ``application/vnd.hetsyn.events``. Every server gets the same bytes."""
    magic, steps, count = HEADER.unpack_from(body)
    if magic != b"HSE1" or len(body) != HEADER.size + 4 * count:
        raise ValueError("not packed events")
    events = np.frombuffer(body, "<u2", 2 * count, HEADER.size)
    return Chunk(steps, events[:count], events[count:])


class _Graph:
    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # chunks run in parallel; more threads a chunk would only compete
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        states = [value for value in self.session.get_inputs() if value.name not in CHUNK_INPUTS]
        self.names = [value.name for value in states]
        self.initial: State = {value.name: np.zeros((1, *value.shape[1:]), DTYPES[value.type]) for value in states}
        self.outputs = ["probabilities", *(f"next.{name.removeprefix('state.')}" for name in self.names)]

    def run(self, inputs: State, state: State) -> tuple[NDArray[np.float32], State]:
        probabilities, *after = self.session.run(self.outputs, {**inputs, **state})
        return probabilities, dict(zip(self.names, after, strict=True))


class ExactModel:
    """The exact form: one call a step, one stream a call. A batch would gain little, because the state is the cost."""

    def __init__(self, path: Path) -> None:
        self._graph = _Graph(path)
        self.initial = self._graph.initial
        self._channels = next(v.shape[1] for v in self._graph.session.get_inputs() if v.name == "spikes")

    def run(self, states: Sequence[State], chunks: Sequence[Chunk]) -> list[tuple[NDArray[np.float32], State]]:
        """Probabilities [outputs] and the next state of each stream, in order."""
        return [self._stream(state, chunk) for state, chunk in zip(states, chunks, strict=True)]

    def _stream(self, state: State, chunk: Chunk) -> tuple[NDArray[np.float32], State]:
        spikes = np.zeros((chunk.steps, 1, self._channels), np.float32)
        spikes[chunk.times, 0, chunk.units] = 1.0
        probabilities = np.zeros((1, 0), np.float32)
        for step in spikes:
            probabilities, state = self._graph.run({"spikes": step}, state)
        return probabilities[0], state


class BankModel:
    """Our bank graph: all streams and all steps in one call."""

    def __init__(self, path: Path) -> None:
        self._graph = _Graph(path)
        self.initial = self._graph.initial

    def run(self, states: Sequence[State], chunks: Sequence[Chunk]) -> list[tuple[NDArray[np.float32], State]]:
        """Probabilities [outputs] and the next state of each stream, in order."""
        steps = np.array([chunk.steps for chunk in chunks], np.int64)
        longest = int(steps.max())
        rows = [b * longest + chunk.times.astype(np.int64) for b, chunk in enumerate(chunks)]
        inputs: State = {
            "events.row": np.concatenate(rows),
            "events.unit": np.concatenate([chunk.units for chunk in chunks]).astype(np.int64),
            "steps": steps,
        }
        stacked = {name: np.concatenate([state[name] for state in states]) for name in self._graph.names}
        probabilities, after = self._graph.run(inputs, stacked)
        return [
            (probabilities[b], {name: value[b : b + 1] for name, value in after.items()}) for b in range(len(chunks))
        ]
