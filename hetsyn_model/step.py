"""One step of a whole network, as a pure function.

    step(compiled, state, spikes) -> (state, output)

A layer (``compiled.py``) is a path, synapses and neurons, each an object with a state and a step: what arrives now
(``path.py``), the currents (equation 8 of arXiv 2508.11644, ``synapses/``), then reset, potential and spikes
(equations 9, 5 and 4, ``neurons/``). The readout then updates the decision (``readout.py``).

This is the definition. Torch makes all of TorchScript of it, and of ONNX the layers. The decision, and the loop over a
chunk's steps, are written by hand in ONNX (``export/graphs/``). Each export compares them with this step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hetsyn_model.compiled import Compiled
from hetsyn_model.readout import decision_step
from hetsyn_model.spec import InputKind
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import State, state_name


@dataclass(frozen=True)
class StepOutput:
    """The output of a batch's step.

    Attributes:
        readout: [b, outputs], potential of the output layer.
        hidden_spikes: one [b, j] a hidden layer, 0 or 1.
    """

    readout: Tensor
    hidden_spikes: list[Tensor]


def step(compiled: Compiled, state: State, spikes: Tensor) -> tuple[State, StepOutput]:
    """Run one step of all layers and of the decision. Arguments as :func:`layers_step`.

    Raises:
        ModelError: the input is not finite, or has other spikes than 0 and 1; not on a GPU, where each step would wait.
    """
    if spikes.device.type == "cpu" and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        check_numbers(spikes, compiled.spec.input_kind)
    after, output = layers_step(compiled, state, spikes)
    decision = compiled.spec.decision
    decided_by = after[state_name("readout", "spikes")] if decision.counts_spikes else output.readout
    return after | decision_step(decision, state, decided_by), output


def check_numbers(numbers: Tensor, kind: InputKind, *, are_events: bool = False) -> None:
    """Check the numbers of an input. Events of a tied layer count thresholds, so they may be above 1.

    Raises:
        ModelError: they are not finite, or spikes that are not 0 or 1.
    """
    if kind == "values":
        are_legal = torch.isfinite(numbers)
    else:
        are_legal = numbers.frac() == 0 if are_events else (numbers == 0) | (numbers == 1)
    if bool(are_legal.all()):
        return
    if not bool(torch.isfinite(numbers).all()):
        raise ModelError(f"{kind} contain numbers that are not finite")
    raise ModelError(
        "spikes contain numbers other than 0 and 1: give spikes, or describe a network with input_kind 'values'"
    )


def layers_step(compiled: Compiled, state: State, spikes: Tensor) -> tuple[State, StepOutput]:
    """Run one step of all layers, and return their state after it, and its output.

    Gradients are those of :meth:`hetsyn_model.network.Network.rollout`; there are none through delays.

    Args:
        state: every tensor of ``compiled.layout``, with a leading batch axis.
        spikes: [b, channels], the input of this step.
    """
    surrogate = compiled.spec.surrogate if torch.is_grad_enabled() else None
    after: State = {}
    hidden: list[Tensor] = []
    x, potential = spikes, spikes
    for layer in compiled.layers:
        kept, potential = layer.step(state, x, surrogate)
        after |= kept
        if layer.name != "readout":
            x = after[state_name(layer.name, "spikes")]
            hidden.append(x)
    return after, StepOutput(potential, hidden)
