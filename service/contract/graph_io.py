"""Names, types and shapes of what goes into a graph and comes out of it.

The reader owns the contract and the exporter imports it. A network graph runs a chunk of ``steps`` steps
for ``batch`` streams:

    in   events.row int64 [events]       stream * longest + step of each spike, ascending
         events.unit int64 [events]      its channel; a pair (row, unit) occurs once
         steps int64 [batch]             steps of each stream's chunk; longest is their maximum
         state float32 [batch, words]    the form's float32 tensors in the manifest's order, flat, one after the other
         step int64 [batch]              steps that each stream has done, the manifest's decision.step
    out  next.state, next.step           the same, after the chunk
         scores, probabilities           float32 [batch, outputs] after each stream's last step
         readout                         float32 [batch, longest, outputs]; past a stream's end undefined
         LAYER.spikes                    float32 [batch, longest, neurons], hidden layers, likewise

An encoder graph makes the events of whole steps:

    in   audio float32 [batch, longest * samples_per_step]  in [-1, 1]
         steps int64 [batch], state.NAME [batch, *shape] for each state tensor of the encoder
    out  events.row, events.unit, next.NAME"""

from __future__ import annotations

EVENT_ROW, EVENT_UNIT = "events.row", "events.unit"
STEPS, AUDIO = "steps", "audio"
STATE, NEXT_STATE = "state", "next.state"
STEP, NEXT_STEP = "step", "next.step"
SCORES, PROBABILITIES, READOUT = "scores", "probabilities", "readout"


EVENTS = (EVENT_ROW, EVENT_UNIT)


def spikes_output(layer: str) -> str:
    """The output of a network graph with a hidden layer's spikes."""
    return f"{layer}.spikes"


def state_input(tensor: str) -> str:
    """The input of an encoder graph for a state tensor of the manifest."""
    return f"state.{tensor}"


def next_output(name: str) -> str:
    """The output of a graph with the next value of a state: of ``state`` and ``step``, or of an encoder's tensor."""
    return f"next.{name}"
