"""Name, shape, type and initial value of every state tensor, in one fixed order.

Everything else reads the state from here: the rollout, the exported graphs, the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from hetsyn_model.spec import NetworkSpec

Form = Literal["exact", "bank"]
FORMS: tuple[Form, ...] = get_args(Form)
State = dict[str, Tensor]  # by the name of the state tensor
LayerTensor = Literal[
    "input_current",
    "recurrent_current",
    "bank_current",
    "reset_current",
    "membrane",
    "spikes",
    "adaptation_current",
    "recovery",
    "input_history",
    "recurrent_history",
]
DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP = "decision.score_low", "decision.score", "decision.step"


def state_name(layer: str, tensor: LayerTensor) -> str:
    """The name of a layer's state tensor."""
    return f"{layer}.{tensor}"


@dataclass(frozen=True)
class StateTensor:
    """One state tensor of one stream; a batch of streams adds a leading axis.

    Attributes:
        name: ``{layer}.{tensor}``, or ``decision.{tensor}``.
        shape: of one stream.
        dtype: of the served network.
        initial: value of every element before the first step.
        start: the values before the first step, [*shape], where they differ; None where all are ``initial``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"] = "float32"
    initial: float = 0.0
    start: Tensor | None = field(default=None, compare=False)

    @property
    def bytes(self) -> int:
        return prod(self.shape) * (4 if self.dtype == "float32" else 8)

    @property
    def is_decision(self) -> bool:
        return self.name in (DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP)


def state_layout(spec: NetworkSpec, form: Form, bank_sizes: Mapping[str, int] | None = None) -> tuple[StateTensor, ...]:
    """The state tensors of one stream.

    Args:
        spec: the network.
        form: ``exact`` or ``bank``.
        bank_sizes: number of decays of each layer's bank, by layer name; needed for form ``bank``.

    Returns:
        The tensors in the order of the artifact.

    Raises:
        ValueError: form ``bank`` without the size of each layer's bank.
    """
    if form == "bank" and set(bank_sizes or ()) != set(spec.layer_names):
        raise ValueError(f"the bank form needs bank_sizes for {', '.join(spec.layer_names)}, got {bank_sizes}")
    sizes = bank_sizes or {}
    fan_in = (spec.channels, *spec.hidden)
    neurons = (*spec.hidden, spec.outputs)
    layout: list[StateTensor] = []
    for index, layer in enumerate(spec.layer_names):
        n, hidden = neurons[index], index < len(spec.hidden)
        if form == "bank":
            layout.append(StateTensor(state_name(layer, "bank_current"), (sizes[layer], n)))
        elif spec.neuron.is_filtered:
            per_synapse, currents = spec.neuron.per_synapse, spec.kernel.currents
            rows = spec.input_path.taps * fan_in[index] if per_synapse else 1
            layout.append(StateTensor(state_name(layer, "input_current"), (n, currents * rows)))
            if hidden and spec.has_own_synapses:
                rows = spec.recurrent_path.taps * n if per_synapse else 1
                layout.append(StateTensor(state_name(layer, "recurrent_current"), (n, currents * rows)))
        if spec.neuron.is_membrane:
            layout.append(StateTensor(state_name(layer, "membrane"), (n,)))
        if hidden or spec.decision.counts_spikes:
            if not spec.neuron.is_membrane:
                layout.append(StateTensor(state_name(layer, "reset_current"), (n,)))
            layout.append(StateTensor(state_name(layer, "spikes"), (n,)))
            if spec.neuron.adaptive:
                layout.append(StateTensor(state_name(layer, "adaptation_current"), (n,)))
            if spec.neuron.resonance is not None:
                layout.append(StateTensor(state_name(layer, "recovery"), (n,)))
        if spec.input_path.is_delayed:
            shape = (spec.input_path.registers, fan_in[index])
            layout.append(StateTensor(state_name(layer, "input_history"), shape))
        if hidden and spec.recurrent_path.is_delayed:
            layout.append(StateTensor(state_name(layer, "recurrent_history"), (spec.recurrent_path.registers, n)))
    if spec.decision.adds_up:
        layout.append(StateTensor(DECISION_SCORE_LOW, (spec.outputs,)))
    layout.append(StateTensor(DECISION_SCORE, (spec.outputs,)))
    layout.append(StateTensor(DECISION_STEP, (), "int64"))
    return tuple(layout)


def state_bytes(layout: Sequence[StateTensor]) -> int:
    """Bytes that one stream's state takes."""
    return sum(tensor.bytes for tensor in layout)


def initial_state(
    layout: Sequence[StateTensor],
    batch: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> State:
    """State of ``batch`` streams before their first step; float tensors get ``dtype``."""
    state: State = {}
    for tensor in layout:
        kind = torch.int64 if tensor.dtype == "int64" else dtype
        shape = (batch, *tensor.shape)
        state[tensor.name] = (
            torch.full(shape, tensor.initial, dtype=kind, device=device)
            if tensor.start is None
            else tensor.start.to(device=device, dtype=kind).expand(shape).clone()
        )
    return state
