"""The same streams through a step alone and through its chunk graph, and how far they are apart.

The reference runs every stream by itself, step by step, in what the step came in: torch, or its own ONNX file. The
graph runs them alone, as one batch of different lengths, and in random chunks in random company. A difference is
relative to the reference's value where that is above 1, and absolute below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from export.folder import ExportError
from export.parity import ParityError, initial_row
from export.step_graph import CONTEXT, SMALLEST_PROBABILITY, InputKind, StepGraph, step_layout
from hetsyn_model.readout import decision_step, probabilities
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import DECISION_SCORE, DECISION_STEP, State
from service.contract.graph_io import (
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
    Float32Array,
)
from service.runtime.onnx import Array, Graph
from service.runtime.states import LARGEST_VALUE, is_bounded

TOLERANCE = 1e-5
ROUGH_SUM = 1e-2  # how far the sum of float16 probabilities may be from 1
ALONE, BATCH, CHUNKS = "ONNX Runtime, streams alone", "ONNX Runtime, one batch", "ONNX Runtime, random chunks"
SEED = 0
MAX_CHUNK_STEPS = 5  # of the random chunks

# (states float32 [1, *shape] each, input float32 [1, *input_shape]) -> (states after, output)
Reference = Callable[[list[Array], Array], tuple[list[Array], Array]]


@dataclass(frozen=True)
class Trace:
    """What becomes of one stream.

    Attributes:
        readout: [steps, outputs].
        row: float32 [words], the state after the last step.
        scores: [outputs] after the last step.
        probabilities: [outputs] after the last step.
    """

    readout: Float32Array
    row: Float32Array
    scores: Float32Array
    probabilities: Float32Array

    def difference(self, other: Trace) -> float:
        """The largest difference of another trace from this one."""
        pairs = (
            (self.readout, other.readout),
            (self.row, other.row),
            (self.scores, other.scores),
            (self.probabilities, other.probabilities),
        )
        with np.errstate(invalid="ignore"):  # of two infinite ones
            return largest((np.abs(b - a) / np.maximum(1.0, np.abs(a))).max(initial=0.0) for a, b in pairs)


@dataclass(frozen=True)
class StepDifference:
    """How far one way of running a step is from the reference.

    Attributes:
        implementation: which one, and how it ran.
        largest: difference of a state, an output, a score or a probability, of all streams.
    """

    implementation: str
    largest: float


@dataclass(frozen=True)
class StepEvidence:
    """What the comparison of a graph with its reference gave.

    Attributes:
        truth: of the reference, one a stream.
        differences: of each way of running the graph, from the reference.
        company: the largest difference between those ways.
    """

    truth: list[Trace]
    differences: list[StepDifference]
    company: float


def check_initial(name: str, values: Array) -> None:
    """Check that a session can begin with a state's values.

    Raises:
        ExportError: one is not finite, or too large.
    """
    if not is_bounded(values):
        raise ExportError(
            f"{name} has a value that is not finite, or not below {LARGEST_VALUE:g}: begin with numbers that a session "
            "keeps, such as -1e29 for the lowest of all"
        )


def reference_trace(step: StepGraph, decision: DecisionSpec, reference: Reference, values: Float32Array) -> Trace:
    """A stream through the reference, alone.

    Args:
        step: what the reference runs.
        decision: the rule.
        reference: the step.
        values: [steps, channels].

    Raises:
        ParityError: a number is not finite or larger than a session may have, or the outputs are no distribution.
    """
    states: list[Array] = [state.initial[None] for state in step.states]
    context = np.zeros(step.context, np.float32)
    layout = step_layout(step, decision)
    decided: State = {
        tensor.name: torch.zeros(1, *tensor.shape, dtype=torch.int64 if tensor.dtype == "int64" else torch.float32)
        for tensor in layout
        if tensor.name.startswith("decision.")
    }
    readouts = np.zeros((len(values), step.outputs), np.float32)
    for index, row in enumerate(values):
        whole = np.concatenate([context, row])
        context = whole[len(whole) - step.context :]
        states, output = reference(states, whole.reshape(1, *step.input_shape))
        readouts[index] = _shown(step, output)
        if not all(is_bounded(found) for found in (*states, readouts[index])):
            raise ParityError(
                f"the step's result is not finite, or not below {LARGEST_VALUE:g}, after step {index + 1}: give usual "
                "inputs as examples=, or see whether its state grows without end"
            )
        decided = decision_step(decision, decided, torch.from_numpy(readouts[index : index + 1]))
    by_name = {state.name: value for state, value in zip(step.states, states, strict=True)}
    by_name |= {CONTEXT: context} | {name: value.numpy() for name, value in decided.items()}
    score, done = decided[DECISION_SCORE], decided[DECISION_STEP]
    return Trace(
        readouts,
        np.concatenate([by_name[tensor.name].reshape(-1).astype(np.float32) for tensor in layout[:-1]]),
        score[0].numpy(),
        probabilities(decision, score, done)[0].numpy(),
    )


def _shown(step: StepGraph, output: Array) -> Float32Array:
    """The artifact's outputs of one step, [outputs].

    Raises:
        ParityError: they should be probabilities, and are none.
    """
    row = output.reshape(-1).astype(np.float32)
    if step.output_kind == "scores":
        return row
    if row.min() < -TOLERANCE or row.max() > 1 + TOLERANCE or (len(row) > 1 and abs(row.sum() - 1) > ROUGH_SUM):
        raise ParityError(
            "the outputs are no probabilities, within 0 and 1 and 1 together: leave out --probabilities "
            "(output_kind='probabilities')"
        )
    row = np.concatenate([1 - row, row]) if step.output_values == 1 else row
    return np.log(np.maximum(row, np.float32(SMALLEST_PROBABILITY)))


def graph_traces(
    graph: Graph,
    step: StepGraph,
    decision: DecisionSpec,
    kind: InputKind,
    streams: Sequence[Float32Array],
    batches: Iterator[list[tuple[int, int]]],
) -> list[Trace]:
    """Streams through a chunk graph.

    Args:
        graph: of the chunk.
        step: what it runs.
        decision: the rule.
        kind: of the graph's input.
        streams: [steps, channels] each.
        batches: pairs of a stream and how many of its next steps run, for each call of the graph.
    """
    begin = initial_row(step_layout(step, decision), 1)
    rows, steps = [begin[STATE][0]] * len(streams), [begin[STEP][0]] * len(streams)
    ends: list[dict[str, Array]] = [{}] * len(streams)
    readouts: list[list[Array]] = [[] for _ in streams]
    for batch in batches:
        members = [index for index, _ in batch]
        parts = [streams[index][int(steps[index]) :][:count] for index, count in batch]
        inputs = _feed(kind, parts, step.channels)
        inputs |= {STATE: np.stack([rows[i] for i in members]), STEP: np.array([steps[i] for i in members], np.int64)}
        found = graph.run(inputs, [NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES, READOUT])
        for at, index in enumerate(members):
            rows[index], steps[index] = found[NEXT_STATE][at], found[NEXT_STEP][at]
            readouts[index].append(found[READOUT][at, : len(parts[at])])
            ends[index] = {name: found[name][at] for name in (SCORES, PROBABILITIES)}
    return [
        Trace(np.concatenate(readout), row, end[SCORES], end[PROBABILITIES])
        for readout, row, end in zip(readouts, rows, ends, strict=True)
    ]


def _feed(kind: InputKind, parts: Sequence[Float32Array], channels: int) -> dict[str, Array]:
    steps = np.array([len(part) for part in parts], np.int64)
    longest = int(steps.max())
    values = np.zeros((len(parts), longest, channels), np.float32)
    for row, part in zip(values, parts, strict=True):
        row[: len(part)] = part
    if kind == "values":
        return {VALUES: values, STEPS: steps}
    stream, at, unit = np.nonzero(values)
    return {EVENT_ROW: stream * longest + at, EVENT_UNIT: unit, STEPS: steps}


def random_batches(lengths: Sequence[int], seed: int = SEED) -> Iterator[list[tuple[int, int]]]:
    """Some of the streams with a few steps each, some with none, until all are at their end."""
    rng = np.random.default_rng(seed)
    left = np.array(lengths)
    while left.any():
        members = rng.permutation(np.flatnonzero(left))[: rng.integers(1, len(left) + 1)]
        counts = np.minimum(left[members], rng.integers(0, MAX_CHUNK_STEPS + 1, len(members)))
        left[members] -= counts
        yield [(int(member), int(count)) for member, count in zip(members, counts, strict=True)]


def gather_evidence(
    graph: Graph,
    step: StepGraph,
    decision: DecisionSpec,
    kind: InputKind,
    streams: Sequence[Float32Array],
    reference: Reference,
) -> StepEvidence:
    """Run streams through the reference and the graph, and compare.

    Args:
        graph: of the chunk.
        step: what both run.
        decision: the rule.
        kind: of the graph's input.
        streams: [steps, channels] each.
        reference: the step by itself.

    Raises:
        ParityError: a number of the reference is not finite, or an output that should be a spike is none.
    """
    truth = [reference_trace(step, decision, reference, values) for values in streams]
    if decision.rule == "spike_count" and any(((t.readout < 0) | (t.readout > 1)).any() for t in truth):
        raise ParityError(
            "decision 'spike_count' adds up spikes, but an output is not within 0 and 1: return the spikes of the "
            "output neurons, or use 'sum_softmax' or 'last'"
        )
    lengths = [len(values) for values in streams]
    ways = {
        ALONE: iter([[(index, length)] for index, length in enumerate(lengths)]),
        BATCH: iter([list(enumerate(lengths))]),
        CHUNKS: random_batches(lengths),
    }
    found = {way: graph_traces(graph, step, decision, kind, streams, batches) for way, batches in ways.items()}
    company = largest(_largest(found[ALONE], traces) for traces in found.values())
    return StepEvidence(truth, [StepDifference(way, _largest(truth, found[way])) for way in ways], company)


def _largest(truth: Sequence[Trace], found: Sequence[Trace]) -> float:
    return largest(a.difference(b) for a, b in zip(truth, found, strict=True))


def largest(differences: Iterable[float]) -> float:
    """The largest of some differences; NaN if one is, which ``max`` would pass over."""
    return float(np.max(list(differences)))


def check_evidence(evidence: StepEvidence, tolerance: float) -> None:
    """Check that a graph keeps to the tolerance that its manifest states.

    Args:
        evidence: of the graph.
        tolerance: between company and chunkings; from the reference at least 1e-5 is allowed.

    Raises:
        ParityError: it does not.
    """
    worst = largest([evidence.company, *(difference.largest for difference in evidence.differences)])
    if not np.isfinite(worst):
        raise ParityError(
            "the graph gives numbers that are not finite where the step by itself gives finite ones: look for a "
            "division by zero, or by what depends on the batch"
        )
    alone = evidence.differences[0].largest
    allowed = max(tolerance, TOLERANCE)
    if not alone <= allowed:
        raise ParityError(
            f"the graph differs from the step by {alone:.2g}, more than {allowed:g}: a value near a threshold, or a "
            f"state that grows, makes much of rounding; give usual inputs as examples=, or tolerance={_above(alone):g}"
        )
    if not evidence.company <= tolerance or not worst <= allowed:
        figure = evidence.company if not evidence.company <= tolerance else worst
        raise ParityError(
            f"a stream in a batch differs by {figure:.2g} from the stream alone, more than {tolerance:g}: the step "
            f"must treat each row of the batch by itself; if it does, give tolerance={_above(figure):g}"
        )


def check_difference(difference: StepDifference, tolerance: float) -> StepDifference:
    """The same, if it is within the tolerance, or within what float32 explains.

    Raises:
        ValueError: it is not.
    """
    if not difference.largest <= max(tolerance, TOLERANCE):
        raise ValueError(f"{difference.implementation} differs by {difference.largest:.2g}")
    return difference


def _above(difference: float) -> float:
    """A round figure above a difference, one digit."""
    exponent = np.floor(np.log10(max(difference, 1e-12)))
    return float(np.ceil(difference / 10**exponent + 1) * 10**exponent)
