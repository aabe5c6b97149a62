"""Graphs in NumPy that stand in for ONNX graphs.

They are deterministic and treat each stream alone, step by step, so their results depend neither on the batch nor
on the chunking. A fake's file is JSON; ``load_fake`` takes the place of ``load_graph``.

    network   potential(t) = 0.5 potential(t-1) + sum of weights of the spikes; score by the decision rule
    encoder   spike on channel k where the step's loudness rises above (k + 1) / (channels + 1)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from service.runtime.onnx import Array, Graph

Rule = Literal["sum_softmax", "spike_count", "last", "trace"]

CHANNELS, OUTPUTS = 6, 3
LABELS = ("one", "two", "three")
STEP_SAMPLES, RATE_HZ = 80, 8000
SKIP, TAIL = 2, 3


class FakeNetwork:
    """The contract's network graph, for a row of state ``out.potential | decision.score``."""

    inputs = (
        "events.row",
        "events.unit",
        "steps",
        "state",
        "step",
    )
    outputs = (
        "next.state",
        "next.step",
        "scores",
        "probabilities",
        "readout",
        "hidden.spikes",
    )

    def __init__(self, rule: Rule, scale: float) -> None:
        self.rule = rule
        grid = np.arange(CHANNELS * OUTPUTS, dtype=np.float32).reshape(CHANNELS, OUTPUTS)
        self.weights = (np.sin(grid) * scale).astype(np.float32)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        steps = inputs["steps"]
        longest = int(steps.max())
        rows, units = inputs["events.row"], inputs["events.unit"]
        check_events(rows, units, len(steps) * longest)
        potential, score = np.split(inputs["state"].copy(), 2, axis=1)
        step = inputs["step"].copy()
        # past a stream's end the contract leaves the readout undefined
        readout = np.full((len(steps), longest, OUTPUTS), np.nan, np.float32)
        for b, count in enumerate(steps):
            for t in range(count):
                potential[b] = np.float32(0.5) * potential[b]
                for unit in units[rows == b * longest + t]:
                    potential[b] += self.weights[unit]
                readout[b, t] = potential[b]
                if step[b] >= SKIP:
                    score[b] = self._score(score[b], potential[b])
                step[b] += 1
        values = {
            "next.state": np.concatenate([potential, score], axis=1),
            "next.step": step,
            "scores": score,
            "probabilities": np.stack([self._probabilities(s, int(n)) for s, n in zip(score, step, strict=True)]),
            "readout": readout,
        }
        return {name: values[name] for name in outputs}

    def _score(self, score: Array, potential: Array) -> Array:
        if self.rule == "sum_softmax":
            return score + softmax(potential)
        if self.rule == "spike_count":
            return score + (potential > 0.5).astype(np.float32)
        return potential

    def _probabilities(self, score: Array, step: int) -> Array:
        if self.rule != "sum_softmax":
            return softmax(score)
        counted = step - SKIP
        return score / np.float32(counted) if counted > 0 else np.full_like(score, 1 / OUTPUTS)


class FakeEncoder:
    """The contract's encoder graph, for the state ``loudness``."""

    inputs = ("audio", "steps", "state.loudness")
    outputs = ("events.row", "events.unit", "next.loudness")

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        steps = inputs["steps"]
        longest = int(steps.max())
        loudness = inputs["state.loudness"].copy()
        frames = inputs["audio"].reshape(len(steps), longest, STEP_SAMPLES)
        thresholds = np.arange(1, CHANNELS + 1) / (CHANNELS + 1)
        rows: list[int] = []
        units: list[int] = []
        for b, count in enumerate(steps):
            for t in range(count):
                now = float(np.abs(frames[b, t].astype(np.float64)).max())
                for unit in np.flatnonzero((now > thresholds) & (loudness[b] <= thresholds)):
                    rows.append(b * longest + t)
                    units.append(int(unit))
                loudness[b] = now
        values: dict[str, Array] = {
            "events.row": np.array(rows, np.int64),
            "events.unit": np.array(units, np.int64),
            "next.loudness": loudness,
        }
        return {name: values[name] for name in outputs}


def load_fake(content: bytes) -> Graph:
    """A graph from what ``write_artifact`` wrote."""
    described = json.loads(content)
    if described["graph"] == "encoder":
        return FakeEncoder()
    return FakeNetwork(described["rule"], described["scale"])


def check_inputs(given: Mapping[str, Array], expected: Sequence[str]) -> None:
    """A graph of ONNX Runtime refuses inputs that it does not know, so a fake does too."""
    if set(given) != set(expected):
        raise ValueError(f"inputs {sorted(given)} are not {sorted(expected)}")


def check_events(rows: Array, units: Array, rows_at_most: int) -> None:
    """What the contract promises a graph about its events."""
    pairs = list(zip(rows.tolist(), units.tolist(), strict=True))
    if sorted(rows.tolist()) != rows.tolist() or len(set(pairs)) != len(pairs):
        raise ValueError("rows do not ascend, or a pair is there twice")
    if any(not (0 <= row < rows_at_most and 0 <= unit < CHANNELS) for row, unit in pairs):
        raise ValueError("an event is outside the batch")


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    result: Array = powers / powers.sum()
    return result
