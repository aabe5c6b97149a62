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
from hetsyn_model.bank import sum_bank
from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.events import Events, pointer
from hetsyn_model.path import Delays, shares_grad
from hetsyn_model.readout import decide, probabilities
from hetsyn_model.resonance import resonance_step
from hetsyn_model.spec import MEMBRANE_RESETS, DecisionSpec, NetworkSpec, decay_of
from hetsyn_model.spike import spike_step, surrogate_derivative
from hetsyn_model.state import initial_state, state_name
from hetsyn_model.step import Sources, step


@dataclass(frozen=True)
class Rollout:
    """What a batch of streams did.

    Attributes:
        readout: [batch, steps, outputs], potential of the output layer at each step.
        hidden_spikes: one [batch, steps, neurons] a hidden layer.
        scores: [batch, outputs], the decision rule's score after a stream's last step; argmax is the class.
        steps: int64 [batch], length of each stream.
        decision: the rule that made the scores.
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


def rollout(
    compiled: Compiled,
    spikes: Tensor | Events,
    steps: Tensor | None = None,
    *,
    before: Events | None = None,
    dropout: float = 0.0,
) -> Rollout:
    """Run whole streams from their initial state; differentiable.

    Args:
        compiled: the network in one form.
        spikes: float [batch, steps, channels], or the same as events; values where the network takes those.
        steps: int64 [batch], length of each stream where they differ; the score ends there.
        before: one stream, which each of them hears before its first step; the result has nothing of it.
        dropout: probability with which a spike does not reach the next layer, in training.

    Returns:
        Readout, hidden spikes and scores. Readout and spikes after a stream's end are those of an input without spikes.

    Raises:
        ValueError: the input's shape is not the network's.
    """
    spec = compiled.spec
    kind = spec.input_kind
    if not isinstance(spikes, Tensor | Events):
        raise ValueError(f"{kind} are a {type(spikes).__name__}: give a tensor [batch, steps, channels], or Events")
    spikes = spikes.to(compiled.dtype) if isinstance(spikes, Tensor) else spikes
    numbers = spikes if isinstance(spikes, Tensor) else spikes.values.to(compiled.dtype)
    # in the network's type, which may not hold a float64; training's events on a GPU are not waited for
    is_read = isinstance(spikes, Tensor) or numbers.device.type == "cpu"
    if is_read and not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{kind} contain numbers that are not finite")
    if isinstance(spikes, Tensor) and spikes.dim() != 3:
        raise ValueError(f"{kind} of shape {tuple(spikes.shape)} are not [batch, steps, channels]")
    channels = spikes.channels if isinstance(spikes, Events) else spikes.shape[-1]
    if channels != spec.channels:
        raise ValueError(f"{kind} have {channels} channels, but the network takes {spec.channels}")
    batch, longest = (spikes.batch, spikes.steps) if isinstance(spikes, Events) else spikes.shape[:2]
    if steps is None:
        steps = torch.full((batch,), longest, dtype=torch.int64, device=compiled.device)
    by_form = _by_step if compiled.form == "exact" else _by_layer
    if before is not None and before.steps:
        spikes = (spikes if isinstance(spikes, Events) else Events.of(spikes)).after(before)
    readout, hidden, output = by_form(compiled, spikes, dropout)
    if before is not None and before.steps:
        readout, output, *hidden = (trace[:, before.steps :] for trace in (readout, output, *hidden))
    return Rollout(readout, hidden, decide(spec.decision, output, steps), steps, spec.decision)


# readout, hidden spikes, and what the decision reads of the output layer: its spikes, or the readout again
LayerOutputs = tuple[Tensor, list[Tensor], Tensor]


def _by_step(compiled: Compiled, spikes: Tensor | Events, dropout: float) -> LayerOutputs:
    spec, dtype = compiled.spec, compiled.dtype
    dense = spikes.dense(dtype) if isinstance(spikes, Events) else spikes
    state = initial_state(compiled.layout, dense.shape[0], dtype, dense.device)
    readout_at: list[Tensor] = []
    fired_at: list[Tensor] = []
    hidden_at: list[list[Tensor]] = [[] for _ in spec.hidden]
    sources: Sources = {}
    for t in range(dense.shape[1]):
        surrogate = spec.surrogate if torch.is_grad_enabled() else None
        state, output = step(compiled, state, dense[:, t], surrogate, dropout, sources)
        readout_at.append(output.readout)
        if spec.decision.counts_spikes:
            fired_at.append(state[state_name("readout", "spikes")])
        for layer, z in zip(hidden_at, output.hidden_spikes, strict=True):
            layer.append(z)
    readout = _stacked(readout_at, dense, spec.outputs)
    hidden = [_stacked(layer, dense, n) for layer, n in zip(hidden_at, spec.hidden, strict=True)]
    return readout, hidden, _stacked(fired_at, dense, spec.outputs) if spec.decision.counts_spikes else readout


def _stacked(steps: list[Tensor], like: Tensor, width: int) -> Tensor:
    return torch.stack(steps, 1) if steps else like.new_zeros(like.shape[0], 0, width)


def _by_layer(compiled: Compiled, spikes: Tensor | Events, dropout: float) -> LayerOutputs:
    spec = compiled.spec
    x = spikes
    hidden: list[Tensor] = []
    fired = potential = torch.empty(0, device=compiled.device)
    for layer in compiled.layers:
        if layer.input_delays is not None:
            x = layer.input_delays.of_stream(x.dense(compiled.dtype) if isinstance(x, Events) else x)
        fired, potential = layer_rollout(spec, layer, layer.bank.input_drive(x))
        if layer.name != "readout":
            hidden.append(fired)
        x = torch.nn.functional.dropout(fired, dropout)
    return potential, hidden, fired if spec.decision.counts_spikes else potential


def layer_rollout(spec: NetworkSpec, layer: LayerWeights, drive: Tensor) -> tuple[Tensor, Tensor]:
    """All steps of one bank layer, from its initial state.

    Args:
        spec: the network's description.
        layer: a layer in the bank form.
        drive: [batch, steps, K * neurons], input product and bias.

    Returns:
        Spikes and potential, each [batch, steps, neurons]; the spikes of a layer without threshold are 0.

    Raises:
        ValueError: the layer is in the exact form.
    """
    synapses, delays = layer.bank, layer.recurrent_delays
    if native.runs(drive):
        shares = None if delays is None else delays.shares
        if delays is not None and shares is None:
            shares = delays.whole_shares(drive.dtype)
        spikes, potential = _LayerRollout.apply(
            *(drive, synapses.weight_rec, layer.kappa, layer.threshold, layer.recovery, shares),
            *(synapses.decays, spec, None if delays is None else delays.detach()),
        )
        return spikes, potential
    bank = synapses.decays.shape[0]
    batch, steps, neurons = drive.shape[0], drive.shape[1], drive.shape[2] // bank
    surrogate = spec.surrogate if torch.is_grad_enabled() else None
    current = drive.new_zeros(batch, bank, neurons)
    fired = kept = recovery = drive.new_zeros(batch, neurons)
    adaptation = drive.new_zeros(batch, neurons) if spec.neuron.adaptive else None
    spikes_at: list[Tensor] = []
    potential_at: list[Tensor] = []
    sources: list[Tensor] = []
    for t in range(steps):
        arriving = drive[:, t]
        if synapses.weight_rec is not None:
            sources.append(fired)
            own = fired if delays is None else delays.of_sources(sources)
            arriving = arriving + own @ synapses.weight_rec
        current = synapses.decays.unsqueeze(-1) * current + arriving.view(current.shape)
        total = sum_bank(current)
        if layer.threshold is not None and layer.kappa is not None and layer.recovery is not None:
            total, fired, recovery = resonance_step(
                total, fired, kept, recovery, layer.kappa, layer.recovery, layer.threshold, surrogate
            )
            kept = total
        elif layer.threshold is not None and layer.kappa is not None:
            total, fired, kept, adaptation = spike_step(
                total, fired, kept, adaptation, layer.kappa, layer.threshold, spec.neuron, surrogate
            )
        elif layer.kappa is not None:
            total = kept = layer.kappa * kept + total
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
        kappa: Tensor | None,
        threshold: Tensor | None,
        recovery: Tensor | None,
        shares: Tensor | None,
        decays: Tensor,
        spec: NetworkSpec,
        delays: Delays | None,
    ) -> tuple[Tensor, Tensor]:
        library = native.required()
        drive, bank = drive.contiguous(), decays.shape[0]
        batch, steps, neurons = drive.shape[0], drive.shape[1], drive.shape[2] // bank
        weight_rec = None if weight_rec is None else weight_rec.contiguous()
        kappa, threshold, recovery = (
            None if part is None else part.to(drive.dtype).contiguous() for part in (kappa, threshold, recovery)
        )
        shares = None if shares is None else shares.contiguous()
        neuron = spec.neuron
        struct = native.LayerStruct(
            batch,
            steps,
            bank,
            neurons,
            threshold is not None,
            weight_rec is not None,
            neuron.is_membrane,
            MEMBRANE_RESETS.index(neuron.membrane_reset),
            1 if delays is None else delays.path.taps,
            1 if shares is None else shares.shape[0],
            decay_of(neuron.adaptation_tau_steps),
            neuron.adaptation_strength,
        )
        spikes = torch.zeros(batch, steps, neurons, dtype=drive.dtype)
        potential = torch.empty_like(spikes)
        # A(t), from the spikes before t; of resonant neurons R(t)
        risen = torch.empty_like(spikes) if neuron.adaptive or recovery is not None else None
        library.function("layer_forward", drive)(
            ctypes.byref(struct),
            *map(pointer, (drive, weight_rec, decays, kappa, threshold, recovery, shares, spikes, potential, risen)),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(weight_rec, kappa, threshold, recovery, shares, decays, spikes, potential, risen)
        ctx.struct, ctx.spec, ctx.drive_shape, ctx.delays = struct, spec, drive.shape, delays
        ctx.set_materialize_grads(True)
        return spikes, potential

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        library = native.required()
        weight_rec, kappa, threshold, recovery, shares, decays, spikes, potential, risen = ctx.saved_tensors
        surrogate = None
        if threshold is not None:
            u = potential - threshold
            if risen is not None and recovery is None:
                u = u - risen
            surrogate = surrogate_derivative(u, ctx.spec.surrogate, threshold).contiguous()
        grad_drive = torch.empty(ctx.drive_shape, dtype=spikes.dtype)
        grad_rec = None if weight_rec is None else torch.zeros_like(weight_rec)
        arrival_grad = None
        if shares is not None:  # nothing arrives in the first step
            arrival_grad = torch.zeros(*spikes.shape[:2], shares.shape[1], dtype=spikes.dtype)
        wants_decay = kappa is not None and ctx.needs_input_grad[2]
        grad_kappa = torch.zeros(spikes.shape[0], spikes.shape[2], dtype=spikes.dtype) if wants_decay else None
        grad_recovery = None if recovery is None else spikes.new_zeros(spikes.shape[0], *recovery.shape)
        grad_spikes, grad_potential = (grad.contiguous() for grad in grads)
        library.function("layer_backward", spikes)(
            ctypes.byref(ctx.struct),
            *map(
                pointer,
                (
                    spikes,
                    potential,
                    surrogate,
                    grad_spikes,
                    grad_potential,
                    weight_rec,
                    decays,
                    kappa,
                    threshold,
                    recovery,
                    risen,
                    shares,
                    grad_drive,
                    grad_rec,
                    arrival_grad,
                    grad_kappa,
                    grad_recovery,
                ),
            ),
            torch.get_num_threads(),
        )
        of_kappa, of_recovery = (None if grad is None else grad.sum(0) for grad in (grad_kappa, grad_recovery))
        grad_shares = None
        if arrival_grad is not None and shares is not None:
            earlier = torch.nn.functional.pad(spikes, (0, 0, 1, 0))[:, :-1]  # of the step before
            arrivals = ctx.delays.of_stream(earlier)
            grad_rec = arrivals.flatten(0, 1).T @ grad_drive.flatten(0, 1)
            if ctx.needs_input_grad[5]:
                grad_shares = shares_grad(arrival_grad, earlier, shares.shape[0])
        return (
            grad_drive,
            grad_rec,
            of_kappa,
            None,
            of_recovery,
            grad_shares,
            None,
            None,
            None,
        )
