"""The same streams through torch, ONNX Runtime and TorchScript, and how far they are apart.

ONNX Runtime, with our operator where it is built and in plain ONNX, runs them as one batch of whole streams, in
chunks of uneven lengths, and step by step; TorchScript step by step. The reference is torch's rollout of the same
form. An artifact whose implementations differ in a label, or in a probability by more than the tolerance, is refused;
where the rule is ``trace``, one that differs in the readout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.torchscript import load_torchscript
from hetsyn_model.compiled import Compiled
from hetsyn_model.encoder import Encoder
from hetsyn_model.events import Events
from hetsyn_model.level_crossing import LevelCrossing
from hetsyn_model.quiet import QuietStart, layout_after
from hetsyn_model.readout import probabilities
from hetsyn_model.rollout import rollout
from hetsyn_model.spec import InputKind
from hetsyn_model.state import DECISION_SCORE, StateTensor, initial_state
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    PROBABILITIES,
    READOUT,
    STATE,
    STEP,
    STEPS,
    VALUES,
    next_name,
    spikes_name,
    state_name,
)
from service.contract.manifest import TensorDescription
from service.runtime.onnx import Array, Graph

TOLERANCE = 1e-4  # of a probability


class ParityError(ValueError):
    """Two implementations of one network do not agree; the message says which, where and by how much."""


@dataclass(frozen=True)
class Streams:
    """Streams of different lengths, of spikes or values.

    Attributes:
        spikes: float32 [stream, longest, channels]; values where the network takes those.
        steps: int64 [stream], length of each.
        before: one stream, which each of them hears before its first step; None for nothing.
    """

    spikes: Tensor
    steps: Tensor
    before: Events | None = None


@dataclass(frozen=True)
class Difference:
    """How far one implementation is from torch, over all streams.

    Attributes:
        implementation: which one, and how it ran.
        labels: number of streams with another class.
        spikes: number of hidden spikes that differ.
        readout: largest absolute difference of the readout.
        probabilities: largest absolute difference of a probability.
    """

    implementation: str
    labels: int
    spikes: int
    readout: float
    probabilities: float


@dataclass(frozen=True)
class Traces:
    """What a network makes of streams.

    Attributes:
        readout: [stream, longest, outputs], zero past a stream's end.
        hidden: spikes of each hidden layer, [stream, longest, neurons], zero past a stream's end.
        probabilities: [stream, outputs].
    """

    readout: NDArray[np.float32]
    hidden: list[NDArray[np.float32]]
    probabilities: NDArray[np.float32]


def initial_arrays(layout: Sequence[TensorDescription], batch: int) -> dict[str, Array]:
    """The encoder's state before the first step, by tensor: [batch, *shape], as an encoder's graph takes it."""
    return {t.name: np.full((batch, *t.shape), t.initial, t.dtype) for t in layout}


def encoder_arrays(quiet: QuietStart) -> dict[str, Array]:
    """An encoder's state after silence, by tensor, of one stream."""
    after = quiet.after
    return {
        "encoder.history": after.history[0].numpy().astype(np.float32),
        "encoder.gain_db": after.gain_db[0].numpy(),
        "encoder.level_db": after.level_db[0].numpy(),
    }


def started_layout(compiled: Compiled, streams: Streams) -> tuple[StateTensor, ...]:
    """The layout of a network's state with the values that the streams begin with."""
    return compiled.layout if streams.before is None else layout_after(compiled, streams.before)


def initial_row(layout: Sequence[StateTensor], batch: int) -> dict[str, Array]:
    """The same as a network's graph takes it: ``state`` float32 [batch, words] and ``step`` int64 [batch]."""
    row = np.concatenate([_start(t) for t in layout if t.dtype == "float32"])
    return {STATE: np.tile(row, (batch, 1)), STEP: np.zeros(batch, np.int64)}


def _start(tensor: StateTensor) -> NDArray[np.float32]:
    if tensor.start is None:
        return np.full(prod(tensor.shape), tensor.initial, np.float32)
    return tensor.start.numpy().reshape(-1)


def chunk_feed(
    spikes: NDArray[np.float32], steps: NDArray[np.int64], input_kind: InputKind = "spikes"
) -> dict[str, Array]:
    """A graph's inputs, without state, for a chunk [stream, at least longest, channels] of spikes or values."""
    if input_kind == "values":
        return {VALUES: _silence(spikes[:, : int(steps.max())], steps), STEPS: steps}
    stream, t, unit = np.nonzero(spikes)
    inside = t < steps[stream]
    row = stream[inside] * int(steps.max()) + t[inside]
    return {EVENT_ROW: row.astype(np.int64), EVENT_UNIT: unit[inside].astype(np.int64), STEPS: steps}


def run_graph(
    graph: Graph,
    layout: Sequence[StateTensor],
    streams: Streams,
    hidden: int,
    cuts: Sequence[int],
    input_kind: InputKind = "spikes",
) -> Traces:
    """Streams through a network graph.

    Args:
        graph: of the network.
        layout: state tensors of one stream.
        streams: what to run.
        hidden: number of hidden layers.
        cuts: lengths of the chunks, which repeat.
        input_kind: of the network.
    """
    spikes, lengths = streams.spikes.numpy(), streams.steps.numpy()
    longest = int(lengths.max())
    state = initial_row(layout, len(lengths))
    traced = [READOUT, *(spikes_name(f"hidden{index + 1}") for index in range(hidden))]
    pieces: list[list[Array]] = [[] for _ in traced]
    final = np.zeros((0,), np.float32)
    start = 0
    for cut in _repeat(cuts):
        if start >= longest:
            break
        steps = np.clip(lengths - start, 0, cut)
        width = int(steps.max())
        feed = chunk_feed(spikes[:, start : start + width], steps, input_kind) | state
        out = graph.run(feed, [*traced, PROBABILITIES, *(next_name(name) for name in state)])
        state = {name: out[next_name(name)] for name in state}
        for piece, name in zip(pieces, traced, strict=True):
            piece.append(out[name])
        final = out[PROBABILITIES]
        start += width
    joined = [_silence(np.concatenate(piece, 1), lengths) for piece in pieces]
    return Traces(joined[0], joined[1:], final)


def _repeat(cuts: Sequence[int]) -> Iterator[int]:
    while True:
        yield from cuts


def _silence(trace: Array, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Zero past each stream's end, where a trace is undefined."""
    inside = np.arange(trace.shape[1]) < lengths[:, None]
    return np.where(inside[..., None], trace, 0.0).astype(np.float32)


@torch.no_grad()
def run_torch(compiled: Compiled, streams: Streams) -> Traces:
    """Streams through torch's rollout: the reference."""
    rolled = rollout(compiled, streams.spikes, streams.steps, before=streams.before)
    lengths = streams.steps.numpy()
    return Traces(
        _silence(rolled.readout.numpy(), lengths),
        [_silence(z.numpy(), lengths) for z in rolled.hidden_spikes],
        rolled.probabilities.numpy(),
    )


@torch.no_grad()
def run_script(content: bytes, compiled: Compiled, streams: Streams) -> Traces:
    """Streams through TorchScript, step by step.

    Args:
        content: the serialised step.
        compiled: the network that it was traced from, for the layout and the decision rule.
        streams: what to run.
    """
    script = load_torchscript(content)
    layout = started_layout(compiled, streams)
    state = list(initial_state(layout, len(streams.steps)).values())
    hidden_count = len(compiled.spec.hidden)
    outputs: list[list[Tensor]] = [[] for _ in range(1 + hidden_count)]
    score_at = [tensor.name for tensor in layout].index(DECISION_SCORE)
    scores = state[score_at].clone()
    for t in range(int(streams.steps.max())):
        out = script(streams.spikes[:, t], *state)
        state = list(out[1 + hidden_count :])
        scores = torch.where((t < streams.steps).unsqueeze(-1), state[score_at], scores)
        for trace, value in zip(outputs, out[: 1 + hidden_count], strict=True):
            trace.append(value)
    lengths = streams.steps.numpy()
    readout, *hidden = (_silence(torch.stack(trace, 1).numpy(), lengths) for trace in outputs)
    return Traces(readout, hidden, probabilities(compiled.spec.decision, scores, streams.steps).numpy())


def difference(implementation: str, reference: Traces, other: Traces) -> Difference:
    """How far an implementation's traces of the same streams are from the reference's."""
    return Difference(
        implementation,
        int((reference.probabilities.argmax(-1) != other.probabilities.argmax(-1)).sum()),
        sum(int((a != b).sum()) for a, b in zip(reference.hidden, other.hidden, strict=True)),
        float(np.abs(reference.readout - other.readout).max(initial=0.0)),
        float(np.abs(reference.probabilities - other.probabilities).max(initial=0.0)),
    )


def verify_form(
    compiled: Compiled,
    graphs: Mapping[str, Graph],
    script: bytes | None,
    streams: Streams,
    on_run: Callable[[str], None] = lambda implementation: None,  # noqa: ARG005
) -> list[Difference]:
    """Differences of every implementation and chunking from torch.

    Args:
        compiled: the network in the form to verify.
        graphs: the form's graph by what runs it.
        script: the form's TorchScript; None without.
        streams: what to run.
        on_run: called with the name of each implementation before it runs.

    Raises:
        ParityError: one differs in a label or by more than the tolerance.
    """
    form, hidden = compiled.form, len(compiled.spec.hidden)
    layout = started_layout(compiled, streams)
    on_run(f"{form}: torch")
    reference = run_torch(compiled, streams)
    cuttings = {"whole": [1 << 30], "chunks": [7, 1, 13], "steps": [1]}
    differences: list[Difference] = []
    for runtime, graph in graphs.items():
        for how, cuts in cuttings.items():
            on_run(name := f"{form}: {runtime}, {how}")
            found = run_graph(graph, layout, streams, hidden, cuts, compiled.spec.input_kind)
            differences.append(difference(name, reference, found))
    if script is not None:
        on_run(name := f"{form}: TorchScript, steps")
        differences.append(difference(name, reference, run_script(script, compiled, streams)))
    traced = compiled.spec.decision.rule == "trace"
    for item in differences:
        if traced and item.readout > TOLERANCE:
            raise ParityError(
                f"{item.implementation} differs from torch: readout by {item.readout:.2g} (allowed: {TOLERANCE:.0e})"
            )
        if item.labels or item.probabilities > TOLERANCE:
            raise ParityError(
                f"{item.implementation} differs from torch: {item.labels} labels, {item.spikes} spikes, "
                f"probabilities by {item.probabilities:.2g} (allowed: none, any, {TOLERANCE:.0e})"
            )
    return differences


def verify_encoder(
    encoder: Encoder | LevelCrossing,
    graph: Graph,
    layout: Sequence[TensorDescription],
    inputs: Tensor,
    quiet: QuietStart | None = None,
) -> None:
    """An encoder's graph against torch, whole and in chunks.

    Args:
        encoder: the reference.
        graph: of the encoder.
        layout: of its state.
        inputs: float32 audio [stream, whole steps], or values [stream, steps, channels].
        quiet: what the audio begins with; None for nothing.

    Raises:
        ParityError: a spike differs.
    """
    batch = inputs.shape[0]
    # each encoder takes its own state back
    before = encoder.initial_state(batch) if quiet is None else quiet.encoder_state(batch)
    expected = encoder.step(inputs, before)[0].numpy()  # type: ignore[arg-type]
    name, hop = (AUDIO, encoder.spec.step_samples) if isinstance(encoder, Encoder) else (VALUES, 1)
    for cut in (expected.shape[1], 3, 1):
        state = initial_arrays(layout, batch)
        if quiet is not None:
            state = {tensor: np.stack([array] * batch) for tensor, array in encoder_arrays(quiet).items()}
        for start in range(0, expected.shape[1], cut):
            width = min(cut, expected.shape[1] - start)
            feed = {
                name: inputs[:, start * hop : (start + width) * hop].numpy(),
                STEPS: np.full(batch, width, np.int64),
            } | {state_name(tensor): value for tensor, value in state.items()}
            out = graph.run(feed, [EVENT_ROW, EVENT_UNIT, *(next_name(tensor) for tensor in state)])
            state = {tensor: out[next_name(tensor)] for tensor in state}
            got = np.zeros((batch * width, expected.shape[2]), np.uint8)
            got[out[EVENT_ROW], out[EVENT_UNIT]] = 1
            wrong = int((got.reshape(-1, width, expected.shape[2]) != expected[:, start : start + width]).sum())
            if wrong:
                raise ParityError(f"encoder: ONNX Runtime differs from torch in {wrong} spikes, chunks of {cut} steps")
