"""One layer's learned tensors, and its neurons' own decays and thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from hetsyn_model.neurons.neuron import LearnedNeurons, Neuron
from hetsyn_model.neurons.spike import Adaptation, MembraneNeuron, ResettingNeuron, Silent, SilentMembrane
from hetsyn_model.spec import NetworkSpec, PathSpec, decay_of
from hetsyn_model.synapses.path import Delays, Direct, Path, triangle
from hetsyn_model.synapses.synapse import ExactWeights, SynapsePath

NEURON_BUFFERS = ("threshold", "kappa")  # files from before 2026-12 lack them


class Layer(nn.Module):
    """The tensors of one layer: parameters that training changes, and buffers that it does not.

    Attributes:
        w_in: weights of the input synapses, [j, i]; with several taps a unit, i is tap * units + unit.
        r_in: decays of the input synapses a step, [j, i], [j, 1] or [1, 1].
        b_in: constant drive of the input synapses, [j, i] or [j, 1]; None without.
        w_rec: weights of the recurrent synapses, [j, j]; None without recurrence.
        r_rec: decays of the recurrent synapses; None if they are tied to ``r_in``.
        b_rec: constant drive of the recurrent synapses; None without.
        delay_in: delays of the input path in steps, [taps, units], whole when served; None without delays.
        delay_rec: delays of the recurrent path, likewise.
        threshold: float64 [j], theta, at first the description's; None for a layer that does not spike. Set other
            values in place. It is float64 in every network, so that no value is rounded twice. A loop of your own can
            learn it after ``requires_grad_()``, and has to keep it above 0.
        kappa: float64 [j], decay a step of the reset current or the membrane, likewise; None if it is tied or learned
            (``own``), or if the layer has neither.
        own_name: field in ``NeuronSpec``, and module here, of neurons with their own equations; None for others.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        inputs: int,
        neurons: int,
        *,
        recurrent: bool,
        spiking: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.spec, self.inputs, self.neurons, self.spiking = spec, inputs, neurons, spiking
        neuron = spec.neuron
        self.threshold: Tensor | None
        self.kappa: Tensor | None
        self.register_buffer("threshold", _constant(neurons, neuron.threshold) if spiking else None)
        self.own_name = neuron.own_name if spiking else None
        has_kappa = self.own_name is None and (neuron.potential == "membrane" or (spiking and neuron.has_own_reset))
        self.register_buffer("kappa", _constant(neurons, decay_of(neuron.tau_reset_steps)) if has_kappa else None)
        self.w_in, self.r_in, self.b_in = self._path(inputs * spec.input_path.taps, generator)
        self.w_rec: nn.Parameter | None = None
        self.r_rec: nn.Parameter | None = None
        self.b_rec: nn.Parameter | None = None
        if recurrent:
            self.w_rec, r_rec, self.b_rec = self._path(neurons * spec.recurrent_path.taps, generator)
            self.r_rec = None if spec.neuron.tied else r_rec
            with torch.no_grad():
                self.w_rec.mul_(0.5)  # recurrence begins weaker than the input, else activity runs away
                if not spec.self_recurrent:
                    self.w_rec.mul_(self._others(self.w_rec))
        self.delay_in = _delays(spec.input_path, inputs, generator)
        self.delay_rec = _delays(spec.recurrent_path, neurons, generator) if recurrent else None
        if neuron.own is not None and self.own_name is not None:
            self.add_module(self.own_name, neuron.own.learned(neuron, neurons, generator))

    def _path(self, inputs: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
        neuron = self.spec.neuron
        low, high = neuron.tau_init_steps
        decays = neuron.decays if neuron.is_filtered else "shared"
        shape = {"synapse": (self.neurons, inputs), "neuron": (self.neurons, 1), "shared": (1, 1)}[decays]
        tau = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        decay = torch.exp(-1.0 / tau) if neuron.is_filtered else torch.zeros(shape)
        # a current with time constant tau adds up some tau/2 squared weights of each firing input; at one input in
        # twenty, potentials reach two thirds of the threshold, so that some neurons fire at first
        driven = neuron if self.spiking else neuron.without_own()
        first = driven.first_effect**2
        scale = neuron.threshold / (1.5 * math.sqrt(first + inputs * 0.05 * driven.memory_steps / 2))
        weight = scale * torch.randn(self.neurons, inputs, generator=generator, dtype=torch.float64)
        bias_shape = (self.neurons, inputs) if neuron.per_synapse else (self.neurons, 1)
        bias = nn.Parameter(torch.zeros(bias_shape)) if self.spec.bias else None
        return (
            nn.Parameter(weight.float()),
            nn.Parameter(decay.float(), requires_grad=neuron.learn_decays and neuron.is_filtered),
            bias,
        )

    def exact(self) -> ExactWeights:
        """Make the synapses in the exact form, differentiable. Those of resonant neurons have the factor 1 - alpha."""
        neuron, weight = self.spec.neuron, self.w_rec
        path = self._driving(SynapsePath(self.w_in, self.r_in, self.b_in))
        recurrent = None
        if weight is not None:
            rows = weight if self.spec.self_recurrent else weight * self._others(weight)
            recurrent = self._driving(SynapsePath(rows, path.decay if self.r_rec is None else self.r_rec, self.b_rec))
        return ExactWeights(neuron.per_synapse, path, recurrent, filtered=neuron.is_filtered)

    @property
    def own(self) -> LearnedNeurons | None:
        """Return the module of neurons with their own equations; None for the base family."""
        return None if self.own_name is None else cast(LearnedNeurons, self.get_submodule(self.own_name))

    def _driving(self, path: SynapsePath) -> SynapsePath:
        gain = None if self.own is None else self.own.gain()
        if gain is None:
            return path
        factor = gain.unsqueeze(-1)
        return replace(path, weight=factor * path.weight, bias=None if path.bias is None else factor * path.bias)

    def neuron(self) -> Neuron:
        """Make the neurons to run, differentiable."""
        spec, kappa, threshold = self.spec.neuron, self._kappas(), self.thresholds()
        if threshold is None:
            return Silent() if kappa is None else SilentMembrane(kappa)
        if self.own is not None:
            return self.own.neuron(threshold)
        assert kappa is not None  # every layer that spikes has one
        adaptation = None
        if spec.adaptive:
            adaptation = Adaptation(decay_of(spec.adaptation_tau_steps), spec.adaptation_strength)
        if spec.is_membrane:
            return MembraneNeuron(kappa, threshold, spec.reset, adaptation)
        return ResettingNeuron(kappa, threshold, adaptation)

    def _others(self, weight: Tensor) -> Tensor:
        """Make a mask [j, row]: 1 for a synapse from another neuron, 0 for one from the neuron itself."""
        itself = torch.eye(self.neurons, dtype=weight.dtype, device=weight.device)
        return (1 - itself).repeat(1, self.spec.recurrent_path.taps)

    def input_way(self, spread: float | None) -> Path:
        """Make the path from the layer before; its delays are whole, or have a spread."""
        return _path(self.spec.input_path, self.delay_in, spread)

    def recurrent_way(self, spread: float | None) -> Path:
        """Make the path of the layer's own spikes, likewise."""
        return _path(self.spec.recurrent_path, self.delay_rec, spread)

    def kappas(self) -> Tensor | None:
        """Return kappa in the network's type, [j]; None for a layer that neither spikes nor has a membrane."""
        return getattr(self.neuron(), "kappa", None)

    def _kappas(self) -> Tensor | None:
        if self.kappa is not None:
            return self.kappa.to(self.w_in.dtype)
        return self.r_in[:, 0].expand(self.neurons) if self.spiking else None

    def thresholds(self) -> Tensor | None:
        """Return theta in the network's type, [j]; None for a layer that does not spike."""
        return None if self.threshold is None else self.threshold.to(self.w_in.dtype)

    def decay_values(self) -> Tensor:
        """Return all decays of the layer's synapses, [count]."""
        return torch.cat([r.detach().flatten() for r in (self.r_in, self.r_rec) if r is not None])

    def decay_parameters(self) -> dict[str, nn.Parameter]:
        """List the decays by the name of the parameter."""
        return {name: r for name, r in (("r_in", self.r_in), ("r_rec", self.r_rec)) if r is not None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        before = {name: getattr(self, name) for name in NEURON_BUFFERS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in before.items():  # moves to another device, but keeps its type
            if value is not None and getattr(self, name).dtype != torch.float64:
                setattr(self, name, value.to(getattr(self, name).device))
        return self


def _constant(neurons: int, value: float) -> Tensor:
    return torch.full((neurons,), value, dtype=torch.float64)


def _delays(path: PathSpec, units: int, generator: torch.Generator) -> nn.Parameter | None:
    if not path.is_delayed:
        return None
    if path.initial == "even":
        delays = torch.linspace(0.0, path.max_delay_steps, path.taps).round().unsqueeze(-1).repeat(1, units)
    else:
        delays = path.max_delay_steps * torch.rand(path.taps, units, generator=generator)
        delays = delays if path.learn_delays else delays.round()
    return nn.Parameter(delays, requires_grad=path.learn_delays)


def _path(path: PathSpec, delays: Tensor | None, spread: float | None) -> Path:
    if delays is None:
        return Direct()
    whole = delays.detach().round().long().clamp(0, path.max_delay_steps)
    shares = None if spread is None or not path.learn_delays else triangle(delays, path.max_delay_steps, spread)
    return Delays(path, whole, shares)
