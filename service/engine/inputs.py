"""Makes the graphs' inputs of a segment. Index letters: b stream, t step, k channel."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from hetsyn_client.events import Integers
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    STEPS,
    VALUES,
    Float32Array,
    next_name,
    state_name,
)
from service.contract.manifest import TensorDescription
from service.engine.stream import InputKind
from service.engine.work import Piece
from service.models.model import Arrays, Model
from service.runtime.onnx import Graph
from service.runtime.states import check_like, out_of_bounds


class Inputs(NamedTuple):
    """The inputs of some streams.

    Attributes:
        network: inputs of the network's graph, without the state.
        events: number of spikes.
        encoders: each stream's encoder state after these steps; empty without an encoder.
        unbounded: streams with an encoder state out of bounds.
    """

    network: Arrays
    events: int
    encoders: tuple[Arrays, ...] = ()
    unbounded: Collection[int] = ()


def inputs_of(model: Model, kind: InputKind, pieces: Sequence[Piece], steps: Integers) -> Inputs:
    """Make the inputs of streams of one kind. Encodes audio and values, if the model has an encoder.

    Args:
        steps: int64 [b], steps of each piece.

    Raises:
        ArtifactError: the encoder fails, or its output has a wrong shape.
    """
    if kind == "spikes":
        network = _events(pieces, steps)
        return Inputs(network, len(network[EVENT_ROW]))
    values = _padded(pieces, int(steps.max()))
    encoder, graph = model.manifest.encoder, model.encoder_graph
    if encoder is None or graph is None:
        return Inputs({VALUES: values}, 0)
    inputs: Arrays = {VALUES: values} if kind == "values" else {AUDIO: values.reshape(len(pieces), -1)}
    return _encode(model.name, graph, encoder.state, pieces, {**inputs, STEPS: steps})


_step_of, _unit_of = attrgetter("step"), attrgetter("unit")


def _events(pieces: Sequence[Piece], steps: Integers) -> Arrays:
    """Make the network graph's spikes of a segment.

    Args:
        steps: int64 [b], steps of each piece.
    """
    if len(pieces) == 1:
        return {EVENT_ROW: pieces[0].step, EVENT_UNIT: pieces[0].unit}
    times = list(map(_step_of, pieces))
    rows, longest = np.concatenate(times), int(steps.max())
    counts = list(map(len, times))
    rows += np.repeat(np.arange(0, len(pieces) * longest, longest), counts)
    return {EVENT_ROW: rows, EVENT_UNIT: np.concatenate(list(map(_unit_of, pieces)))}


def _padded(pieces: Sequence[Piece], longest: int) -> Float32Array:
    """Make the values of a segment, [b, longest, numbers of a step], 0 past a stream's end."""
    if len(pieces) == 1:
        return pieces[0].values[np.newaxis]
    values = np.zeros((len(pieces), longest, pieces[0].values.shape[1]), np.float32)
    for b, piece in enumerate(pieces):
        values[b, : piece.steps] = piece.values
    return values


def _encode(
    name: str, graph: Graph, state: Sequence[TensorDescription], pieces: Sequence[Piece], inputs: Arrays
) -> Inputs:
    """Run the encoder on a segment.

    Args:
        name: the model's, for error messages.
        inputs: the graph's inputs, without its state.
    """
    tensors = [tensor.name for tensor in state]
    before = _stack([piece.job.stream.encoder for piece in pieces])
    inputs |= {state_name(tensor): before[tensor] for tensor in tensors}
    outputs = graph.run(inputs, [EVENT_ROW, EVENT_UNIT, *map(next_name, tensors)])
    after = {tensor: outputs[next_name(tensor)] for tensor in tensors}
    for tensor in tensors:
        check_like(name, next_name(tensor), after[tensor], before[tensor])
    unbounded = out_of_bounds(*after.values())
    events = {key: outputs[key] for key in (EVENT_ROW, EVENT_UNIT)}
    return Inputs(events, len(events[EVENT_ROW]), tuple(_unstack(after, b) for b in range(len(pieces))), unbounded)


def _stack(states: Sequence[Arrays]) -> Arrays:
    if len(states) == 1:
        return {name: value[np.newaxis] for name, value in states[0].items()}
    return {name: np.stack([state[name] for state in states]) for name in states[0]}


def _unstack(states: Arrays, b: int) -> Arrays:
    """Return the state of stream b; a copy if it would keep the whole batch in memory."""
    return {name: value[b, ...] if len(value) == 1 else value[b, ...].copy() for name, value in states.items()}
