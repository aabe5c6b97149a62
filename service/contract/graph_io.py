"""The contract of a graph: names, types and shapes of its inputs and outputs. The exporter imports it.

A network graph runs a chunk of ``steps`` steps for ``batch`` streams:

    in   events.row int64 [events]       stream * longest + step of each spike, ascending
         events.unit int64 [events]      its channel; a pair (row, unit) occurs once
         values float32 [batch, longest, channels]   in place of the two, where the input is values; 0 past the end
         steps int64 [batch]             steps of each stream's chunk; longest is their maximum
         state float32 [batch, words]    the form's float32 tensors in the manifest's order, flat, one after the other
         step int64 [batch]              steps that each stream has done, the manifest's decision.step
    out  next.state, next.step           the same, after the chunk
         scores, probabilities           float32 [batch, outputs] after each stream's last step
         readout                         float32 [batch, longest, outputs]; undefined past a stream's end
         LAYER.spikes                    float32 [batch, longest, neurons] of a hidden layer; likewise

An encoder graph makes the events of whole steps:

    in   audio float32 [batch, samples]  in [-1, 1]; samples is longest * samples_per_step
         values float32 [batch, longest, channels]   in place of it, for rows of values
         steps int64 [batch]
         state.NAME [batch, *shape]      each state tensor of the encoder
    out  events.row, events.unit         as above
         next.NAME                       the same as state.NAME, after the chunk
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import TensorDescription

EVENT_ROW, EVENT_UNIT = "events.row", "events.unit"
STEPS, AUDIO, VALUES = "steps", "audio", "values"
STATE, NEXT_STATE = "state", "next.state"
STEP, NEXT_STEP = "step", "next.step"
SCORES, PROBABILITIES, READOUT = "scores", "probabilities", "readout"

# axes that have another length in each call
BATCH, EVENTS, LONGEST, SAMPLES = "batch", "events", "longest", "samples"

Float32Array: TypeAlias = NDArray[np.float32]


class TensorType(NamedTuple):
    """Type and shape that a graph declares for an input or output. A name in ``shape`` is that of an axis."""

    dtype: str
    shape: tuple[int | str, ...]

    def lengths(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape in a call; ``axes`` has the length of each named axis."""
        return tuple(axes[axis] if isinstance(axis, str) else axis for axis in self.shape)


def state_name(tensor: str) -> str:
    return f"state.{tensor}"


def next_name(tensor: str) -> str:
    return f"next.{tensor}"


def spikes_name(layer: str) -> str:
    return f"{layer}.spikes"


def network_inputs(words: int, values: int = 0) -> dict[str, TensorType]:
    """Describe the inputs of a network graph, in order.

    Args:
        words: float32 values of a stream's state.
        values: channels of a network that takes values; 0 for one that takes spikes.
    """
    events = {EVENT_ROW: TensorType("int64", (EVENTS,)), EVENT_UNIT: TensorType("int64", (EVENTS,))}
    return {
        **({VALUES: _values(values)} if values else events),
        STEPS: TensorType("int64", (BATCH,)),
        STATE: TensorType("float32", (BATCH, words)),
        STEP: TensorType("int64", (BATCH,)),
    }


def network_outputs(words: int, outputs: int, hidden: Mapping[str, int]) -> dict[str, TensorType]:
    """Describe the outputs of a network graph, in order.

    A server needs all of them but the hidden layers' spikes, which it reads only for clients that ask for them.
    """
    return {
        NEXT_STATE: TensorType("float32", (BATCH, words)),
        NEXT_STEP: TensorType("int64", (BATCH,)),
        SCORES: TensorType("float32", (BATCH, outputs)),
        PROBABILITIES: TensorType("float32", (BATCH, outputs)),
        READOUT: TensorType("float32", (BATCH, LONGEST, outputs)),
        **{spikes_name(layer): TensorType("float32", (BATCH, LONGEST, neurons)) for layer, neurons in hidden.items()},
    }


def encoder_inputs(state: Sequence[TensorDescription], values: int = 0) -> dict[str, TensorType]:
    """Describe the inputs of an encoder graph, in order. ``values`` are the channels of a row; 0 for audio."""
    return {
        **({VALUES: _values(values)} if values else {AUDIO: TensorType("float32", (BATCH, SAMPLES))}),
        STEPS: TensorType("int64", (BATCH,)),
        **{state_name(tensor.name): TensorType(tensor.dtype, (BATCH, *tensor.shape)) for tensor in state},
    }


def encoder_outputs(state: Sequence[TensorDescription]) -> dict[str, TensorType]:
    """Describe the outputs of an encoder graph, in order."""
    return {
        EVENT_ROW: TensorType("int64", (EVENTS,)),
        EVENT_UNIT: TensorType("int64", (EVENTS,)),
        **{next_name(tensor.name): TensorType(tensor.dtype, (BATCH, *tensor.shape)) for tensor in state},
    }


def _values(channels: int) -> TensorType:
    return TensorType("float32", (BATCH, LONGEST, channels))
