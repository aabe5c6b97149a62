"""One layer's learned tensors, and its neurons' own decays and thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from hetsyn_model.resonance import Resonance
from hetsyn_model.spec import NetworkSpec, decay_of
from hetsyn_model.synapse import ExactWeights, SynapsePath

NEURON_BUFFERS = ("threshold", "kappa")  # files from before 2026-12 lack them


class Layer(nn.Module):
    """The tensors of one layer: parameters that training changes, and buffers that it does not.

    Args:
        spec: of the network.
        inputs: number of synapses a neuron from the layer before.
        neurons: number of neurons.
        recurrent: whether the layer has recurrent synapses.
        spiking: whether its neurons spike; those of the readout need not.
        generator: of the initial weights.

    Attributes:
        w_in: weights of the input synapses, [j, i].
        r_in: their decays a step, [j, i], [j, 1] or [1, 1].
        b_in: their constant drive, [j, i] or [j, 1]; None without.
        w_rec: the same of the recurrent synapses, [j, j]; None without recurrence.
        r_rec: None where the decays are tied to ``r_in``.
        b_rec: as ``b_in``.
        threshold: float64 [j], theta; None for a layer that does not spike. The description's number at first; set
            other values in place. float64 whatever the network's type, so that none is rounded twice.
        kappa: float64 [j], decay a step of the reset current or the membrane, likewise; None where it is tied or
            learned (``resonance``), and where the layer has neither.
        resonance: what resonant neurons learn; None for others.
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
        resonance = neuron.resonance if spiking else None
        has_kappa = resonance is None and (neuron.is_membrane or (spiking and neuron.has_own_reset))
        self.register_buffer("kappa", _constant(neurons, decay_of(neuron.tau_reset_steps)) if has_kappa else None)
        self.w_in, self.r_in, self.b_in = self._path(inputs, generator)
        self.w_rec: nn.Parameter | None = None
        self.r_rec: nn.Parameter | None = None
        self.b_rec: nn.Parameter | None = None
        if recurrent:
            self.w_rec, r_rec, self.b_rec = self._path(neurons, generator)
            self.r_rec = None if spec.neuron.tied else r_rec
            with torch.no_grad():
                self.w_rec.mul_(0.5)  # recurrence starts weaker than the input, or activity runs away
                if not spec.self_recurrent:
                    self.w_rec.fill_diagonal_(0.0)
        self.resonance = None if resonance is None else Resonance(resonance, neurons, generator)

    def _path(self, inputs: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
        neuron = self.spec.neuron
        low, high = neuron.tau_init_steps
        decays = neuron.decays if neuron.is_filtered else "shared"
        shape = {"synapse": (self.neurons, inputs), "neuron": (self.neurons, 1), "shared": (1, 1)}[decays]
        tau = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        decay = torch.exp(-1.0 / tau) if neuron.is_filtered else torch.zeros(shape)
        # a current of time constant tau adds up some tau/2 squared weights of each input that fires; at one
        # input in twenty this brings potentials to two thirds of the threshold, so that some neurons fire at first
        driven = neuron if self.spiking else replace(neuron, resonance=None)  # a readout's membrane does not swing
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
        """The synapses in the exact form, differentiable; those of resonant neurons with their factor 1 - alpha."""
        recurrent = None
        if self.w_rec is not None:
            weight: Tensor = self.w_rec
            if not self.spec.self_recurrent:
                weight = weight * (1 - torch.eye(self.neurons, dtype=weight.dtype, device=weight.device))
            recurrent = self._driving(weight, self.r_in if self.r_rec is None else self.r_rec, self.b_rec)
        neuron = self.spec.neuron
        path = self._driving(self.w_in, self.r_in, self.b_in)
        return ExactWeights(neuron.per_synapse, path, recurrent, filtered=neuron.is_filtered)

    def _driving(self, weight: Tensor, decay: Tensor, bias: Tensor | None) -> SynapsePath:
        if self.resonance is None:
            return SynapsePath(weight, decay, bias)
        factor = (1 - self.resonance.decay()).unsqueeze(-1)
        return SynapsePath(factor * weight, decay, None if bias is None else factor * bias)

    def recovery(self) -> Tensor | None:
        """Decay of each recovery current, and what membrane and spike add to it, [3, j]; None without resonance."""
        return None if self.resonance is None else self.resonance.recovery()

    def kappas(self) -> Tensor | None:
        """kappa in the network's type, [j]; None for a layer that neither spikes nor has a membrane."""
        if self.resonance is not None:
            return self.resonance.decay()
        if self.kappa is not None:
            return self.kappa.to(self.w_in.dtype)
        return self.r_in[:, 0].expand(self.neurons) if self.spiking else None

    def thresholds(self) -> Tensor | None:
        """theta in the network's type, [j]; None for a layer that does not spike."""
        return None if self.threshold is None else self.threshold.to(self.w_in.dtype)

    def decay_values(self) -> Tensor:
        """Every decay of the layer's synapses, [count]."""
        return torch.cat([r.detach().flatten() for r in (self.r_in, self.r_rec) if r is not None])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        before = {name: getattr(self, name) for name in NEURON_BUFFERS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in before.items():  # moves to another device, but keeps its type
            if value is not None and getattr(self, name).dtype != torch.float64:
                setattr(self, name, value.to(getattr(self, name).device))
        return self


def _constant(neurons: int, value: float) -> Tensor:
    return torch.full((neurons,), value, dtype=torch.float64)
