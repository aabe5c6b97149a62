"""The verifier: runs streams through a reference and through all exports of it, and measures their differences.

The reference is torch's rollout of a network, or a foreign step by itself. ONNX Runtime runs the streams, with the
operator if it runs the graph and in plain ONNX: alone, as one batch of whole streams, in chunks of uneven lengths, and
in random chunks and batches. TorchScript runs them step by step. A difference is relative to the reference's value if
that is above 1, else absolute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import prod

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graphs.encoder_graph import OPERATOR as ENCODER_OPERATOR
from export.graphs.network_graph import OPERATOR
from export.graphs.torchscript import ScriptError, load_torchscript
from hetsyn_model.compiled import Compiled
from hetsyn_model.readout import probabilities
from hetsyn_model.rollout import rollout
from hetsyn_model.spec import DecisionSpec, InputKind
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import DECISION_SCORE, StateTensor, initial_state
from service.contract.graph_io import (
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    STATE,
    STEP,
    STEPS,
    VALUES,
    Float32Array,
    spikes_name,
)
from service.runtime.onnx import Array, Graph, load_graph, operators_problem
from service.runtime.operators import library

TOLERANCE = 1e-5  # between two orders of a step's sums, and between two exponentials
SEED = 0
CUTS = (7, 1, 13)
MAX_CHUNK_STEPS = 5  # limit of random chunks

Batch = list[tuple[int, int]]  # pairs: a stream, and the number of its next steps to run
OnRun = Callable[[str], None]


class ParityError(ModelError):
    """Two implementations of one network do not agree; the message says which, where and by how much."""

    code = "no-parity"


@dataclass(frozen=True)
class Streams:
    """Streams of different lengths, of spikes or values.

    Attributes:
        spikes: float32 [stream, longest, channels]; values for a network of values.
        steps: int64 [stream], length of each.
    """

    spikes: Tensor
    steps: Tensor

    def of(self, chosen: slice) -> Streams:
        """Choose some of the streams."""
        steps = self.steps[chosen]
        return Streams(self.spikes[chosen, : int(steps.max())], steps)


@dataclass(frozen=True)
class Traces:
    """The outputs of a network for streams.

    Attributes:
        readout: [stream, longest, outputs], zero past a stream's end.
        hidden: spikes of each hidden layer, [stream, longest, neurons], zero past a stream's end.
        probabilities: [stream, outputs].
        rows: float32 [stream, words], the state after each stream; None if the reference does not tell it.
    """

    readout: Float32Array
    hidden: list[Float32Array]
    probabilities: Float32Array
    rows: Float32Array | None = None


Reference = Callable[[Streams], Traces]


@dataclass(frozen=True)
class Difference:
    """The difference of an implementation from the reference, over all streams.

    Attributes:
        implementation: its name, and how it ran.
        labels: number of streams with another class. Of a step, these may be streams in which two are equally likely.
        spikes: number of hidden spikes that differ.
        readout: largest difference of the readout.
        state: largest difference of the state after a stream, if the reference tells it.
    """

    implementation: str
    labels: int = 0
    spikes: int = 0
    readout: float = 0.0
    state: float = 0.0
    probabilities: float = 0.0

    @property
    def largest(self) -> float:
        """Return the largest difference of a number; NaN if one is."""
        return largest((self.readout, self.state, self.probabilities))

    def with_more(self, other: Difference) -> Difference:
        """Add the same implementation's difference over more streams."""
        return Difference(
            self.implementation,
            self.labels + other.labels,
            self.spikes + other.spikes,
            *(largest(pair) for pair in ((self.readout, other.readout), (self.state, other.state),
                                         (self.probabilities, other.probabilities))),
        )  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The result of comparing an export with its reference.

    Attributes:
        differences: differences from the reference, of each implementation and way to run it.
        company: the largest difference between a graph's runs of a stream alone, in a batch and in chunks.
    """

    differences: tuple[Difference, ...] = ()
    company: float = 0.0

    def with_more(self, other: Evidence) -> Evidence:
        """Add the same export's evidence over more streams."""
        if not self.differences:
            return other
        pairs = zip(self.differences, other.differences, strict=True)
        return Evidence(tuple(a.with_more(b) for a, b in pairs), largest((self.company, other.company)))


@dataclass(frozen=True)
class Exported:
    """An exported network, to be verified and written.

    Attributes:
        graph: serialised ONNX, a chunk of steps for a batch of streams.
        layout: the state tensors of one stream, with the values that it begins with.
        hidden: number of hidden layers with spikes among the graph's outputs.
        decision: the rule of the scores.
        input_kind: kind of the graph's input.
    """

    graph: bytes
    layout: tuple[StateTensor, ...]
    channels: int
    outputs: int
    decision: DecisionSpec
    hidden: int = 0
    input_kind: InputKind = "spikes"


def graphs_by_runtime(content: bytes) -> dict[str, Graph]:
    """Load a graph for the operators, if it calls one and they can be used, and for plain ONNX. By what runs it."""
    plain = {"plain ONNX": load_graph(content, use_operators=False)}
    called = {node.op_type for node in onnx.load_from_string(content).graph.node}
    if not called & {OPERATOR, ENCODER_OPERATOR} or library() is None or operators_problem():
        return plain
    return {"operator": load_graph(content)} | plain


def initial_row(layout: Sequence[StateTensor], batch: int) -> dict[str, Array]:
    """Make a graph's inputs for the state before the first step: ``state`` float32 [batch, words], ``step``."""
    row = np.concatenate([np.full(prod(t.shape), t.initial, np.float32) for t in layout if t.dtype == "float32"])
    return {STATE: np.tile(row, (batch, 1)), STEP: np.zeros(batch, np.int64)}


def chunk_feed(spikes: Float32Array, steps: NDArray[np.int64], input_kind: InputKind = "spikes") -> dict[str, Array]:
    """Make a graph's inputs, without state, for a chunk [stream, at least longest, channels] of spikes or values."""
    if input_kind == "values":
        return {VALUES: silenced(spikes[:, : int(steps.max())], steps), STEPS: steps}
    stream, t, unit = np.nonzero(spikes)
    inside = t < steps[stream]
    row = stream[inside] * int(steps.max()) + t[inside]
    return {EVENT_ROW: row.astype(np.int64), EVENT_UNIT: unit[inside].astype(np.int64), STEPS: steps}


def silenced(trace: Array, lengths: NDArray[np.int64]) -> Float32Array:
    """Set a trace to zero past each stream's end, where it is undefined."""
    inside = np.arange(trace.shape[1]) < lengths[:, None]
    return np.where(inside[..., None], trace, 0.0).astype(np.float32)


def run_graph(
    graph: Graph,
    layout: Sequence[StateTensor],
    streams: Streams,
    hidden: int,
    cuts: Sequence[int],
    input_kind: InputKind = "spikes",
) -> Traces:
    """Run streams through a network graph, all of them in each batch.

    Args:
        layout: state tensors of one stream.
        hidden: number of hidden layers.
        cuts: lengths of the chunks, repeated.
    """
    return run_batches(graph, layout, streams, hidden, lockstep(streams.steps.tolist(), cuts), input_kind)


def run_batches(
    graph: Graph,
    layout: Sequence[StateTensor],
    streams: Streams,
    hidden: int,
    batches: Iterable[Batch],
    input_kind: InputKind = "spikes",
) -> Traces:
    """Run streams in the given batches, which must reach the end of each stream."""
    inputs, lengths = streams.spikes.numpy(), streams.steps.numpy()
    begin = initial_row(layout, 1)
    rows, done = np.tile(begin[STATE], (len(lengths), 1)), np.tile(begin[STEP], len(lengths))
    ends: list[Array] = [np.zeros(0, np.float32)] * len(lengths)
    traced = [READOUT, *(spikes_name(f"hidden{index + 1}") for index in range(hidden))]
    traces: dict[str, Float32Array] = {}
    for batch in batches:
        members, steps = [index for index, _ in batch], np.array([count for _, count in batch], np.int64)
        values = np.zeros((len(batch), int(steps.max()), inputs.shape[2]), np.float32)
        for row, (index, count) in zip(values, batch, strict=True):
            row[:count] = inputs[index, done[index] : done[index] + count]
        feed = chunk_feed(values, steps, input_kind) | {STATE: rows[members], STEP: done[members]}
        found = graph.run(feed, [*traced, PROBABILITIES, NEXT_STATE, NEXT_STEP])
        for name in traced:
            if name not in traces:
                traces[name] = np.zeros((len(lengths), int(lengths.max()), found[name].shape[2]), np.float32)
            for row, (index, count) in zip(found[name], batch, strict=True):
                traces[name][index, done[index] : done[index] + count] = row[:count]
        rows[members], done[members] = found[NEXT_STATE], found[NEXT_STEP]
        for index, end in zip(members, found[PROBABILITIES], strict=True):
            ends[index] = end
    readout, *spikes = (traces[name] for name in traced)
    return Traces(readout, spikes, np.stack(ends), rows)


def lockstep(lengths: Sequence[int], cuts: Sequence[int]) -> Iterator[Batch]:
    """Yield batches of all streams with equal numbers of steps, to their ends."""
    left = np.array(lengths)
    for cut in cycle(cuts):
        if not left.any():
            return
        counts = np.minimum(left, cut)
        left -= counts
        yield list(enumerate(counts.tolist()))


def random_batches(lengths: Sequence[int], seed: int = SEED) -> Iterator[Batch]:
    """Yield random batches of some streams, with few or no steps each, to their ends."""
    rng = np.random.default_rng(seed)
    left = np.array(lengths)
    while left.any():
        members = rng.permutation(np.flatnonzero(left))[: rng.integers(1, len(left) + 1)]
        counts = np.minimum(left[members], rng.integers(0, MAX_CHUNK_STEPS + 1, len(members)))
        left[members] -= counts
        yield list(zip(members.tolist(), counts.tolist(), strict=True))


@torch.no_grad()
def run_torch(compiled: Compiled, streams: Streams) -> Traces:
    """Run streams through torch's rollout: the reference of a network."""
    rolled = rollout(compiled, streams.spikes, streams.steps)
    lengths = streams.steps.numpy()
    return Traces(
        silenced(rolled.readout.numpy(), lengths),
        [silenced(z.numpy(), lengths) for z in rolled.hidden_spikes],
        rolled.probabilities.numpy(),
    )


@torch.no_grad()
def run_script(content: bytes, made: Exported, streams: Streams) -> Traces:
    """Run streams through TorchScript, step by step."""
    script, names = load_torchscript(content), [tensor.name for tensor in made.layout]
    state = list(initial_state(made.layout, len(streams.steps)).values())
    outputs: list[list[Tensor]] = [[] for _ in range(1 + made.hidden)]
    for t in range(int(streams.steps.max())):
        out = script(streams.spikes[:, t], *state)
        goes_on = t < streams.steps
        after = [
            torch.where(goes_on.reshape(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(out[1 + made.hidden :], state, strict=True)
        ]
        state = after
        for trace, value in zip(outputs, out[: 1 + made.hidden], strict=True):
            trace.append(value)
    lengths = streams.steps.numpy()
    readout, *hidden = (silenced(torch.stack(trace, 1).numpy(), lengths) for trace in outputs)
    decided = probabilities(made.decision, state[names.index(DECISION_SCORE)], streams.steps).numpy()
    rows = np.concatenate([value.reshape(len(lengths), -1).numpy() for value in state[:-1]], 1)
    return Traces(readout, hidden, decided, rows)


def difference(implementation: str, reference: Traces, other: Traces) -> Difference:
    """Measure the difference of an implementation's traces from the reference's."""
    return Difference(
        implementation,
        int((reference.probabilities.argmax(-1) != other.probabilities.argmax(-1)).sum()),
        sum(int((a != b).sum()) for a, b in zip(reference.hidden, other.hidden, strict=True)),
        _apart(reference.readout, other.readout),
        0.0 if reference.rows is None or other.rows is None else _apart(reference.rows, other.rows),
        _apart(reference.probabilities, other.probabilities),
    )


def _apart(a: Float32Array, b: Float32Array) -> float:
    with np.errstate(invalid="ignore"):  # the difference of two infinite values
        return float((np.abs(b - a) / np.maximum(1.0, np.abs(a))).max(initial=0.0))


def largest(differences: Iterable[float]) -> float:
    """Find the largest difference; NaN if one is, which ``max`` would ignore."""
    return float(np.max(list(differences)))


def gather_evidence(
    made: Exported,
    graphs: Mapping[str, Graph],
    streams: Streams,
    truth: Traces,
    on_run: OnRun = lambda implementation: None,  # noqa: ARG005
) -> Evidence:
    """Run streams through the graphs in every way, and compare them with the reference.

    Args:
        graphs: the graph by what runs it.
        truth: the reference's traces.
        on_run: called with the name of each implementation before it runs.
    """
    lengths = streams.steps.tolist()
    differences, company = list[Difference](), [0.0]
    for runtime, graph in graphs.items():
        ways: dict[str, Iterable[Batch]] = {
            "alone": ([(index, length)] for index, length in enumerate(lengths)),
            "one batch": [list(enumerate(lengths))],
            "chunks": lockstep(lengths, CUTS),
            "random company": random_batches(lengths),
        }
        first: Traces | None = None
        for way, batches in ways.items():
            on_run(name := f"{runtime}, {way}")
            found = run_batches(graph, made.layout, streams, made.hidden, batches, made.input_kind)
            first = first or found
            company.append(difference(way, first, found).largest)
            differences.append(difference(name, truth, found))
    return Evidence(tuple(differences), largest(company))


def check_same_bits(evidence: Evidence) -> None:
    """Check that every implementation gives the reference's spikes and readout to the bit, in any batch.

    Torch's rollout does not return its state. So states are compared only between batches and chunkings; against torch,
    a wrong state shows in the spikes of the next chunk. Probabilities may differ in their last digits, because of exp.

    Raises:
        ParityError: one does not.
    """
    for item in evidence.differences:
        if item.labels or item.spikes or item.readout or not item.probabilities <= TOLERANCE:
            raise ParityError(
                f"{item.implementation} differs from torch: {item.labels} labels, {item.spikes} spikes, readout by "
                f"{item.readout:.2g}, probabilities by {item.probabilities:.2g} (allowed: none, none, 0, "
                f"{TOLERANCE:.0e})"
            )
    if evidence.company:
        raise ParityError(f"a stream in a batch or in chunks differs by {evidence.company:.2g} from the stream alone")


def check_evidence(evidence: Evidence, tolerance: float) -> None:
    """Check that a step's graph keeps to the tolerance that its manifest states.

    Args:
        tolerance: limit between batches and chunkings; from the reference at least 1e-5 is allowed. 0: outputs must
            have the reference's bits.

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
    apart = largest(difference.readout for difference in evidence.differences)
    if apart and not tolerance:
        raise ParityError(
            f"the graph's outputs differ from the step's by {apart:.2g}, but tolerance=0 promises the same bits: give "
            f"tolerance={TOLERANCE:g}"
        )


def script_difference(content: bytes, made: Exported, streams: Streams, truth: Traces, allowed: float) -> Difference:
    """Measure the difference of TorchScript from the reference.

    Raises:
        ScriptError: it is above ``allowed``. With 0, spikes and readout must have the same bits.
    """
    found = difference("TorchScript, step by step", truth, run_script(content, made, streams))
    if not found.largest <= max(allowed, TOLERANCE) or (not allowed and (found.spikes or found.readout)):
        raise ScriptError(f"{found.implementation} differs by {found.largest:.2g}, and in {found.spikes} spikes")
    return found


def exported_network(compiled: Compiled, graph: bytes) -> Exported:
    """Describe an exported network."""
    spec = compiled.spec
    return Exported(
        graph, compiled.layout, spec.channels, spec.outputs, spec.decision, len(spec.hidden), spec.input_kind
    )


def _above(difference: float) -> float:
    """Round a difference up to one digit."""
    exponent = np.floor(np.log10(max(difference, 1e-12)))
    return float(np.ceil(difference / 10**exponent + 1) * 10**exponent)
