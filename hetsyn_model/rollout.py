"""The loop over time: whole streams through a network, layer by layer.

The drive of a layer's input is computed for all steps at once; only the layer's recurrence is sequential. For the base
family in the bank form the recurrence is compiled (``native/rollout.cpp``), with its own backward pass, which stores
spikes and potentials, not currents. All else runs the layer's step in plain torch.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hetsyn_model import native
from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.events import Events, pointer
from hetsyn_model.neurons.spike import BaseNeuron, MembraneNeuron, ResettingNeuron, SilentMembrane, surrogate_derivative
from hetsyn_model.readout import decide, probabilities
from hetsyn_model.spec import MEMBRANE_RESETS, DecisionSpec, NetworkSpec, SurrogateSpec
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import initial_state, state_name
from hetsyn_model.step import check_numbers
from hetsyn_model.synapses.bank import BankWeights
from hetsyn_model.synapses.path import Direct


@dataclass(frozen=True)
class Rollout:
    """The results of a batch of streams.

    Attributes:
        readout: [batch, steps, outputs], potential of the output layer at each step.
        hidden_spikes: one [batch, steps, neurons] a hidden layer.
        scores: [batch, outputs], the decision rule's score after a stream's last step; argmax is the class.
        steps: int64 [batch], length of each stream.
    """

    readout: Tensor
    hidden_spikes: list[Tensor]
    scores: Tensor
    steps: Tensor
    decision: DecisionSpec

    @property
    def probabilities(self) -> Tensor:
        """Return the class probabilities, [batch, outputs]."""
        return probabilities(self.decision, self.scores, self.steps)


def rollout(
    compiled: Compiled,
    spikes: Tensor | Events,
    steps: Tensor | None = None,
    *,
    dropout: float = 0.0,
) -> Rollout:
    """Run whole streams from their initial state; differentiable.

    Readout and spikes after a stream's end are those of an input without spikes.

    Args:
        spikes: float [batch, steps, channels], or the same as events; values for a network of values.
        steps: int64 [batch], length of each stream if they differ; the score ends there.
        dropout: probability that a spike does not reach the next layer, in training.

    Raises:
        ModelError: the input is not of the network's shape or not finite, or has other spikes than 0 and 1.
    """
    spec = compiled.spec
    kind = spec.input_kind
    if not isinstance(spikes, Tensor | Events):
        raise ModelError(f"{kind} are a {type(spikes).__name__}: give a tensor [batch, steps, channels], or Events")
    spikes = spikes.to(compiled.dtype) if isinstance(spikes, Tensor) else spikes
    numbers = spikes if isinstance(spikes, Tensor) else spikes.values.to(compiled.dtype)
    # in the network's type, which may not hold a float64; training's events on a GPU are not waited for
    is_read = isinstance(spikes, Tensor) or numbers.device.type == "cpu"
    if is_read:
        check_numbers(numbers, kind, are_events=isinstance(spikes, Events))
    if isinstance(spikes, Tensor) and spikes.dim() != 3:
        raise ModelError(f"{kind} of shape {tuple(spikes.shape)} are not [batch, steps, channels]")
    channels = spikes.channels if isinstance(spikes, Events) else spikes.shape[-1]
    if channels != spec.channels:
        raise ModelError(f"{kind} have {channels} channels, but the network takes {spec.channels}")
    batch, longest = (spikes.batch, spikes.steps) if isinstance(spikes, Events) else spikes.shape[:2]
    if steps is None:
        steps = torch.full((batch,), longest, dtype=torch.int64, device=compiled.device)
    readout, hidden, output = _by_layer(compiled, spikes, dropout)
    return Rollout(readout, hidden, decide(spec.decision, output, steps), steps, spec.decision)


def _by_layer(compiled: Compiled, spikes: Tensor | Events, dropout: float) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return readout, hidden spikes, and the decision's input: the output layer's spikes, or the readout again."""
    spec = compiled.spec
    x = spikes
    hidden: list[Tensor] = []
    fired = potential = torch.empty(0, device=compiled.device)
    for layer in compiled.layers:
        if not isinstance(layer.input_path, Direct):
            x = layer.input_path.of_stream(x.dense(compiled.dtype) if isinstance(x, Events) else x)
        fired, potential = layer_rollout(spec, layer, layer.synapses.enter(x))
        if layer.name != "readout":
            hidden.append(fired)
        x = torch.nn.functional.dropout(fired, dropout)
    return potential, hidden, fired if spec.decision.counts_spikes else potential


def layer_rollout(spec: NetworkSpec, layer: LayerWeights, entered: Tensor) -> tuple[Tensor, Tensor]:
    """Run all steps of one layer, from its initial state.

    Args:
        entered: [batch, steps, ...], the result of the synapses' ``enter``.

    Returns:
        Spikes and potential, each [batch, steps, neurons]; the spikes of a layer without threshold are 0.
    """
    synapses = layer.synapses
    if isinstance(synapses, BankWeights) and layer.is_native and native.runs(entered):
        rolled: tuple[Tensor, Tensor] = _LayerRollout.apply(
            *(entered, synapses.weight_rec, layer.kappa, layer.threshold, synapses.decays, layer.neuron, spec.surrogate)
        )
        return rolled
    batch, silence = entered.shape[0], entered.new_zeros(entered.shape[0], layer.neurons)
    surrogate = spec.surrogate if torch.is_grad_enabled() else None
    path = layer.recurrent_path.learning(synapses.dtype)
    state = initial_state(layer.layout(path), batch, synapses.dtype, entered.device)
    spikes_at: list[Tensor] = []
    potential_at: list[Tensor] = []
    for t in range(entered.shape[1]):
        state, potential = layer.advance(state, entered[:, t], path, surrogate)
        spikes_at.append(state.get(state_name(layer.name, "spikes"), silence))
        potential_at.append(potential)
    return _stacked(spikes_at, silence), _stacked(potential_at, silence)


def _stacked(steps: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(steps, 1) if steps else like.new_zeros(like.shape[0], 0, like.shape[1])


class _LayerRollout(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        weight_rec: Tensor | None,
        kappa: Tensor | None,
        threshold: Tensor | None,
        decays: Tensor,
        neuron: BaseNeuron,
        surrogate: SurrogateSpec,
    ) -> tuple[Tensor, Tensor]:
        library = native.required()
        drive, bank = drive.contiguous(), decays.shape[0]
        batch, steps, neurons = drive.shape[0], drive.shape[1], drive.shape[2] // bank
        weight_rec = None if weight_rec is None else weight_rec.contiguous()
        kappa, threshold = (None if part is None else part.to(drive.dtype).contiguous() for part in (kappa, threshold))
        adaptation = neuron.adaptation if isinstance(neuron, ResettingNeuron | MembraneNeuron) else None
        struct = native.LayerStruct(
            batch,
            steps,
            bank,
            neurons,
            threshold is not None,
            weight_rec is not None,
            isinstance(neuron, SilentMembrane | MembraneNeuron),
            MEMBRANE_RESETS.index(neuron.reset) if isinstance(neuron, MembraneNeuron) else 0,
            0.0 if adaptation is None else adaptation.decay,
            0.0 if adaptation is None else adaptation.strength,
        )
        spikes = torch.zeros(batch, steps, neurons, dtype=drive.dtype)
        potential = torch.empty_like(spikes)
        risen = None if adaptation is None else torch.empty_like(spikes)  # A(t), from the spikes before t
        library.function("layer_forward", drive)(
            ctypes.byref(struct),
            *map(pointer, (drive, weight_rec, decays, kappa, threshold, spikes, potential, risen)),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(weight_rec, kappa, threshold, decays, spikes, potential, risen)
        ctx.struct, ctx.surrogate, ctx.drive_shape = struct, surrogate, drive.shape
        ctx.set_materialize_grads(True)
        return spikes, potential

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        library = native.required()
        weight_rec, kappa, threshold, decays, spikes, potential, risen = ctx.saved_tensors
        surrogate = None
        if threshold is not None:
            u = potential - threshold
            if risen is not None:
                u = u - risen
            surrogate = surrogate_derivative(u, ctx.surrogate, threshold).contiguous()
        grad_drive = torch.empty(ctx.drive_shape, dtype=spikes.dtype)
        grad_rec = None if weight_rec is None else torch.zeros_like(weight_rec)
        wants_decay = kappa is not None and ctx.needs_input_grad[2]
        grad_kappa = torch.zeros(spikes.shape[0], spikes.shape[2], dtype=spikes.dtype) if wants_decay else None
        grad_spikes, grad_potential = (grad.contiguous() for grad in grads)
        library.function("layer_backward", spikes)(
            ctypes.byref(ctx.struct),
            *map(pointer, (spikes, potential, surrogate, grad_spikes, grad_potential)),
            *map(pointer, (weight_rec, decays, kappa, threshold, grad_drive, grad_rec, grad_kappa)),
            torch.get_num_threads(),
        )
        return grad_drive, grad_rec, None if grad_kappa is None else grad_kappa.sum(0), None, None, None, None
