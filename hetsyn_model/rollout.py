"""The loops over time: whole streams through a network, step by step or layer by layer.

The exact form runs step by step. The bank form runs layer by layer: a layer's input product covers all
steps at once, and only its recurrence is sequential. That part is compiled (``native/rollout.cpp``) with
a backward pass of its own, which keeps spikes and potentials, not currents; plain torch stands in for it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hetsyn_model import native
from hetsyn_model.bank import BankWeights
from hetsyn_model.events import Events, event_product, pointer, suffix
from hetsyn_model.network import LayerWeights, Network, step
from hetsyn_model.readout import decide, probabilities
from hetsyn_model.spec import DecisionSpec, NetworkSpec, decay_of
from hetsyn_model.spike import spike_step, surrogate_derivative
from hetsyn_model.state import Form, initial_state


@dataclass(frozen=True)
class Rollout:
    """What a batch of streams did.

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
        """[batch, outputs]."""
        return probabilities(self.decision, self.scores, self.steps)


def rollout(network: Network, spikes: Tensor | Events, form: Form, steps: Tensor | None = None) -> Rollout:
    """Run whole streams from their initial state; differentiable, with dropout in training mode.

    Args:
        spikes: float [batch, steps, channels], or the same as events.
        steps: int64 [batch], length of each stream where they differ; the score ends there.

    Raises:
        ValueError: the form or the input's shape is not the network's.
    """
    if form not in ("exact", "bank"):
        raise ValueError(f"form {form!r} is neither 'exact' nor 'bank'")
    if not isinstance(spikes, Tensor | Events):
        raise ValueError(f"spikes are a {type(spikes).__name__}: give a tensor [batch, steps, channels], or Events")
    if isinstance(spikes, Tensor) and not bool(torch.isfinite(spikes).all()):
        raise ValueError("spikes hold values that are not finite")
    if isinstance(spikes, Tensor) and spikes.dim() != 3:
        raise ValueError(f"spikes of shape {tuple(spikes.shape)} are not [batch, steps, channels]")
    channels = spikes.channels if isinstance(spikes, Events) else spikes.shape[-1]
    if channels != network.spec.channels:
        raise ValueError(f"spikes have {channels} channels, the network takes {network.spec.channels}")
    batch, longest = (spikes.batch, spikes.steps) if isinstance(spikes, Events) else spikes.shape[:2]
    if steps is None:
        steps = torch.full((batch,), longest, dtype=torch.int64)
    readout, hidden, fired = (_by_step if form == "exact" else _by_layer)(network, spikes)
    return Rollout(readout, hidden, decide(network.spec.decision, readout, fired, steps), steps, network.spec.decision)


Traces = tuple[Tensor, list[Tensor], Tensor | None]  # readout, hidden spikes, output spikes if it has any


def _by_step(network: Network, spikes: Tensor | Events) -> Traces:
    spec, weights = network.spec, network.weights("exact")
    dtype = network.dtype
    dense = spikes.dense(dtype) if isinstance(spikes, Events) else spikes.to(dtype)
    state = initial_state(network.state_layout("exact"), dense.shape[0], dtype)
    readout: list[Tensor] = []
    fired: list[Tensor] = []
    hidden: list[list[Tensor]] = [[] for _ in spec.hidden]
    for t in range(dense.shape[1]):
        surrogate = spec.surrogate if torch.is_grad_enabled() else None
        state, output = step(spec, weights, state, dense[:, t], surrogate, spec.dropout if network.training else 0.0)
        readout.append(output.readout)
        if "readout.spikes" in state:
            fired.append(state["readout.spikes"])
        for layer, z in zip(hidden, output.hidden_spikes, strict=True):
            layer.append(z)
    return (
        _stacked(readout, dense, spec.outputs),
        [_stacked(layer, dense, n) for layer, n in zip(hidden, spec.hidden, strict=True)],
        _stacked(fired, dense, spec.outputs) if fired else None,
    )


def _stacked(steps: list[Tensor], like: Tensor, width: int) -> Tensor:
    return torch.stack(steps, 1) if steps else like.new_zeros(like.shape[0], 0, width)


def _by_layer(network: Network, spikes: Tensor | Events) -> Traces:
    spec = network.spec
    x = spikes.to(network.dtype) if isinstance(spikes, Tensor) else spikes
    hidden: list[Tensor] = []
    fired = potential = torch.empty(0)
    for layer in network.weights("bank"):
        assert isinstance(layer.synapses, BankWeights)
        drive = event_product(x, layer.synapses.weight_in)
        if layer.synapses.bias is not None:
            drive = drive + layer.synapses.bias
        fired, potential = layer_rollout(spec, layer, drive)
        if layer.name != "readout":
            hidden.append(fired)
        x = torch.nn.functional.dropout(fired, spec.dropout, network.training)
    return potential, hidden, fired if spec.decision.rule == "spike_count" else None


def layer_rollout(spec: NetworkSpec, layer: LayerWeights, drive: Tensor) -> tuple[Tensor, Tensor]:
    """All steps of one bank layer, from its initial state.

    Args:
        drive: [batch, steps, K * neurons], input product and bias.

    Returns:
        spikes and potential, each [batch, steps, neurons]; the spikes of a layer without threshold are 0.
    """
    synapses = layer.synapses
    assert isinstance(synapses, BankWeights)
    if native.runs(drive):
        spikes, potential = _LayerRollout.apply(  # type: ignore[no-untyped-call]
            drive, synapses.weight_rec, layer.reset_decay, synapses.decays, spec
        )
        return spikes, potential
    bank = synapses.decays.shape[0]
    batch, steps, neurons = drive.shape[0], drive.shape[1], drive.shape[2] // bank
    surrogate = spec.surrogate if torch.is_grad_enabled() else None
    current = drive.new_zeros(batch, bank, neurons)
    fired = reset = drive.new_zeros(batch, neurons)
    adaptation = drive.new_zeros(batch, neurons) if spec.neuron.adaptive else None
    spikes_at: list[Tensor] = []
    potential_at: list[Tensor] = []
    for t in range(steps):
        arriving = drive[:, t]
        if synapses.weight_rec is not None:
            arriving = arriving + fired @ synapses.weight_rec
        current = synapses.decays.unsqueeze(-1) * current + arriving.view(current.shape)
        total = current[:, 0]
        for k in range(1, bank):
            total = total + current[:, k]
        if layer.reset_decay is not None:
            total, fired, reset, adaptation = spike_step(
                total, fired, reset, adaptation, layer.reset_decay, spec.neuron, surrogate
            )
        spikes_at.append(fired)
        potential_at.append(total)
    like = drive.new_zeros(batch, 0, neurons)
    return _stacked(spikes_at, like, neurons), _stacked(potential_at, like, neurons)


class _LayerRollout(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        weight_rec: Tensor | None,
        reset_decay: Tensor | None,
        decays: Tensor,
        spec: NetworkSpec,
    ) -> tuple[Tensor, Tensor]:
        library = native.library()
        assert library is not None
        drive, bank = drive.contiguous(), decays.shape[0]
        batch, steps, neurons = drive.shape[0], drive.shape[1], drive.shape[2] // bank
        weight_rec = None if weight_rec is None else weight_rec.contiguous()
        kappa = None if reset_decay is None else reset_decay.to(drive.dtype).contiguous()
        neuron = spec.neuron
        struct = native.LayerStruct(
            batch,
            steps,
            bank,
            neurons,
            kappa is not None,
            weight_rec is not None,
            neuron.threshold,
            decay_of(neuron.adaptation_tau_steps),
            neuron.adaptation_strength,
        )
        spikes = torch.zeros(batch, steps, neurons, dtype=drive.dtype)
        potential = torch.empty_like(spikes)
        getattr(library, f"hetsyn_layer_forward_{suffix(drive)}")(
            ctypes.byref(struct),
            *map(pointer, (drive, weight_rec, decays, kappa, spikes, potential)),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(weight_rec, kappa, decays, spikes, potential)
        ctx.struct, ctx.spec, ctx.drive_shape = struct, spec, drive.shape
        ctx.set_materialize_grads(True)
        return spikes, potential

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        library = native.library()
        assert library is not None
        weight_rec, kappa, decays, spikes, potential = ctx.saved_tensors
        neuron = ctx.spec.neuron
        surrogate = None
        if kappa is not None:
            u = potential - neuron.threshold
            if neuron.adaptive:
                u = u - _adaptation(spikes, decay_of(neuron.adaptation_tau_steps), neuron.adaptation_strength)
            surrogate = surrogate_derivative(u, ctx.spec.surrogate, neuron.threshold).contiguous()
        grad_drive = torch.empty(ctx.drive_shape, dtype=spikes.dtype)
        grad_rec = None if weight_rec is None else torch.zeros_like(weight_rec)
        wants_decay = kappa is not None and ctx.needs_input_grad[2]
        grad_kappa = torch.zeros(spikes.shape[0], spikes.shape[2], dtype=spikes.dtype) if wants_decay else None
        grad_spikes, grad_potential = (grad.contiguous() for grad in grads)
        getattr(library, f"hetsyn_layer_backward_{suffix(spikes)}")(
            ctypes.byref(ctx.struct),
            *map(
                pointer,
                (
                    spikes,
                    surrogate,
                    grad_spikes,
                    grad_potential,
                    weight_rec,
                    decays,
                    kappa,
                    grad_drive,
                    grad_rec,
                    grad_kappa,
                ),
            ),
            torch.get_num_threads(),
        )
        return grad_drive, grad_rec, None if grad_kappa is None else grad_kappa.sum(0), None, None


def _adaptation(spikes: Tensor, decay: float, strength: float) -> Tensor:
    """A(t) from the spikes before t, [batch, steps, neurons]."""
    level = torch.zeros_like(spikes)
    for t in range(1, spikes.shape[1]):
        level[:, t] = decay * level[:, t - 1] + strength * spikes[:, t - 1]
    return level
