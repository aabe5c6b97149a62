"""Graphs in NumPy that stand in for ONNX graphs.

They are deterministic and treat each stream alone, step by step, so their results depend neither on the batch nor
on the chunking. A fake's file is JSON; ``load_fake`` takes the place of ``load_graph``.

    network   potential(t) = 0.5 potential(t-1) + sum of weights of the spikes; score by the decision rule;
              hidden unit i spikes where the potential of output i mod 3 is above 0.2 i
    values    the same, with the values of the step in place of its spikes: a leaky integrator
    encoder   spike on channel k where the step's loudness rises above (k + 1) / (channels + 1)
    crossing  spike on channel 2k where value k of the step is above its last one, on 2k + 1 where it is below
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from service.contract.decision import class_probabilities, softmax
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    VALUES,
    encoder_inputs,
    encoder_outputs,
    network_inputs,
    network_outputs,
    next_name,
    spikes_name,
    state_name,
)
from service.contract.manifest import DECISION_SCORE, DECISION_STEP, Decision, TensorDescription
from service.runtime.onnx import Array, Graph

Rule = Literal["sum_softmax", "spike_count", "last", "trace"]

CHANNELS, HIDDEN, OUTPUTS = 6, 4, 3
LABELS = ("one", "two", "three")
STEP_SAMPLES, RATE_HZ = 80, 8000
SKIP, TAIL = 2, 3
NETWORK_STATE = (
    TensorDescription(name="out.potential", shape=(OUTPUTS,), dtype="float32", initial=0.0),
    TensorDescription(name=DECISION_SCORE, shape=(OUTPUTS,), dtype="float32", initial=0.0),
    TensorDescription(name=DECISION_STEP, shape=(), dtype="int64", initial=0.0),
)
ROW = CHANNELS // 2
"""Values of a row that ``FakeCrossing`` takes."""
LOUDNESS = "loudness"
ENCODER_STATE = (TensorDescription(name=LOUDNESS, shape=(), dtype="float64", initial=0.0),)
LATEST = "latest"
CROSSING_STATE = (TensorDescription(name=LATEST, shape=(ROW,), dtype="float32", initial=0.0),)


def hidden_spikes(potential: Array) -> Array:
    """The spikes of the hidden layer, [hidden], at a potential [outputs]."""
    units = np.arange(HIDDEN)
    spikes: Array = (potential[units % OUTPUTS] > 0.2 * units).astype(np.float32)
    return spikes


class FakeNetwork:
    """The contract's network graph, for a row of state ``out.potential | decision.score``."""

    inputs = tuple(network_inputs(words=2 * OUTPUTS))
    outputs = tuple(network_outputs(2 * OUTPUTS, OUTPUTS, {"hidden1": HIDDEN}))

    def __init__(self, rule: Rule, scale: float) -> None:
        self.decision = Decision(rule=rule, skip_steps=SKIP, tail_steps=TAIL)
        grid = np.arange(CHANNELS * OUTPUTS, dtype=np.float32).reshape(CHANNELS, OUTPUTS)
        self.weights = (np.sin(grid) * scale).astype(np.float32)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        steps = inputs[STEPS]
        longest = int(steps.max())
        drives = self._drives(inputs, len(steps), longest)
        potential, score = np.split(inputs[STATE].copy(), 2, axis=1)
        step = inputs[STEP].copy()
        # past a stream's end the contract leaves the readout undefined
        readout = np.full((len(steps), longest, OUTPUTS), np.nan, np.float32)
        hidden = np.full((len(steps), longest, HIDDEN), np.nan, np.float32)
        for b, count in enumerate(steps):
            for t in range(count):
                potential[b] = np.float32(0.5) * potential[b]
                for drive in drives[b][t]:
                    potential[b] += drive
                readout[b, t] = potential[b]
                hidden[b, t] = hidden_spikes(potential[b])
                if step[b] >= SKIP:
                    score[b] = self._score(score[b], potential[b])
                step[b] += 1
        values = {
            NEXT_STATE: np.concatenate([potential, score], axis=1),
            NEXT_STEP: step,
            SCORES: score,
            PROBABILITIES: np.stack(
                [class_probabilities(self.decision, s, int(n)) for s, n in zip(score, step, strict=True)]
            ),
            READOUT: readout,
            spikes_name("hidden1"): hidden,
        }
        return {name: values[name] for name in outputs}

    def stop(self) -> None:
        """A run of it ends soon."""

    def _drives(self, inputs: Mapping[str, Array], batch: int, longest: int) -> list[list[list[Array]]]:
        """What each step of each stream adds to the potential, one after the other."""
        rows, units = inputs[EVENT_ROW], inputs[EVENT_UNIT]
        check_events(rows, units, batch * longest)
        return [
            [[self.weights[unit] for unit in units[rows == b * longest + t]] for t in range(longest)]
            for b in range(batch)
        ]

    def _score(self, score: Array, potential: Array) -> Array:
        if self.decision.rule == "sum_softmax":
            return score + softmax(potential)
        if self.decision.rule == "spike_count":
            return score + (potential > 0.5).astype(np.float32)
        return potential


class FakeValues(FakeNetwork):
    """The contract's network graph for values, with the same state."""

    inputs = tuple(network_inputs(words=2 * OUTPUTS, values=CHANNELS))

    def _drives(self, inputs: Mapping[str, Array], batch: int, longest: int) -> list[list[list[Array]]]:
        values = inputs[VALUES]
        check_values(values, inputs[STEPS], CHANNELS)
        return [
            [[weight * value for weight, value in zip(self.weights, values[b, t], strict=True)] for t in range(longest)]
            for b in range(batch)
        ]


def probabilities_of(values: Array) -> Array:
    """What either network answers to values [steps, channels], or to spikes as ones, straight from its equations."""
    weights = FakeNetwork("sum_softmax", 1.0).weights
    potential, score = np.zeros(OUTPUTS), np.zeros(OUTPUTS)
    for t, row in enumerate(values):
        potential = 0.5 * potential + row @ weights
        if t >= SKIP:
            score += np.exp(potential) / np.exp(potential).sum()
    return np.asarray(score / (len(values) - SKIP))


class FakeEncoder:
    """The contract's encoder graph, for the state ``loudness``."""

    inputs = tuple(encoder_inputs(ENCODER_STATE))
    outputs = tuple(encoder_outputs(ENCODER_STATE))

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        steps = inputs[STEPS]
        longest = int(steps.max())
        loudness = inputs[state_name(LOUDNESS)].copy()
        frames = inputs[AUDIO].reshape(len(steps), longest, STEP_SAMPLES)
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
            EVENT_ROW: np.array(rows, np.int64),
            EVENT_UNIT: np.array(units, np.int64),
            next_name(LOUDNESS): loudness,
        }
        return {name: values[name] for name in outputs}

    def stop(self) -> None:
        """A run of it ends soon."""


class FakeCrossing:
    """The contract's encoder graph of values, for the state ``latest``."""

    inputs = tuple(encoder_inputs(CROSSING_STATE, values=ROW))
    outputs = tuple(encoder_outputs(CROSSING_STATE))

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        values, steps = inputs[VALUES], inputs[STEPS]
        check_values(values, steps, ROW)
        latest, longest = inputs[state_name(LATEST)].copy(), int(steps.max())
        pairs: list[tuple[int, int]] = []
        for b, count in enumerate(steps):
            for t in range(count):
                above, below = values[b, t] > latest[b], values[b, t] < latest[b]
                units = np.stack([above, below], axis=1).ravel().nonzero()[0]
                pairs += [(b * longest + t, int(unit)) for unit in units]
                latest[b] = values[b, t]
        outcome: dict[str, Array] = {
            EVENT_ROW: np.array([row for row, _ in pairs], np.int64),
            EVENT_UNIT: np.array([unit for _, unit in pairs], np.int64),
            next_name(LATEST): latest,
        }
        return {name: outcome[name] for name in outputs}

    def stop(self) -> None:
        """A run of it ends soon."""


def load_fake(content: bytes) -> Graph:
    """A graph from the bytes that ``write_artifact`` wrote."""
    described = json.loads(content)
    if described["graph"] == "encoder":
        return FakeEncoder()
    if described["graph"] == "crossing":
        return FakeCrossing()
    if described["graph"] == "values":
        return FakeValues(described["rule"], described["scale"])
    return FakeNetwork(described["rule"], described["scale"])


def check_inputs(inputs: Mapping[str, Array], expected: Sequence[str]) -> None:
    """A graph of ONNX Runtime refuses inputs that it does not know, so a fake does too."""
    if set(inputs) != set(expected):
        raise ValueError(f"inputs {sorted(inputs)} are not {sorted(expected)}")


def check_values(values: Array, steps: Array, channels: int) -> None:
    """Refuse values that break the contract."""
    expected = (len(steps), int(steps.max()), channels)
    if values.dtype != np.float32 or values.shape != expected:
        raise ValueError(f"values are {values.dtype}{list(values.shape)}, not float32{list(expected)}")
    if any(row[count:].any() for row, count in zip(values, steps, strict=True)):
        raise ValueError("values past a stream's end are not 0")


def check_events(rows: Array, units: Array, rows_at_most: int) -> None:
    """Refuse events that break the contract."""
    pairs = list(zip(rows.tolist(), units.tolist(), strict=True))
    if sorted(rows.tolist()) != rows.tolist() or len(set(pairs)) != len(pairs):
        raise ValueError("rows do not ascend, or a pair occurs twice")
    if any(not (0 <= row < rows_at_most and 0 <= unit < CHANNELS) for row, unit in pairs):
        raise ValueError("an event is outside the batch")
