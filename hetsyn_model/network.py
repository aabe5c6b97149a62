"""The network: its learned tensors, and how they become the values that a step runs on.

The exact and the bank form are two views of the same tensors: :meth:`Network.compile` gives either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hetsyn_model.bank import Bank, BankWeights, compile_bank, fit_bank, kernel_error
from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.events import Events
from hetsyn_model.rollout import Rollout, rollout
from hetsyn_model.spec import ERROR_BOUND, NetworkSpec, decay_of
from hetsyn_model.state import FORMS, Form, state_layout
from hetsyn_model.synapse import ExactWeights, SynapsePath


class Layer(nn.Module):
    """Learned tensors of one layer.

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

    def _path(self, inputs: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
        neuron = self.spec.neuron
        low, high = neuron.tau_init_steps
        shape = {"synapse": (self.neurons, inputs), "neuron": (self.neurons, 1), "shared": (1, 1)}[neuron.decays]
        tau = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        # a current of time constant tau adds up some tau/2 squared weights of each input that fires; at one
        # input in twenty this brings potentials to two thirds of the threshold, so that some neurons fire at first
        scale = neuron.threshold / (1.5 * math.sqrt(1.0 + inputs * 0.05 * (low + high) / 4))
        weight = scale * torch.randn(self.neurons, inputs, generator=generator, dtype=torch.float64)
        bias_shape = (self.neurons, inputs) if neuron.decays == "synapse" else (self.neurons, 1)
        bias = nn.Parameter(torch.zeros(bias_shape)) if self.spec.bias else None
        return (
            nn.Parameter(weight.float()),
            nn.Parameter(torch.exp(-1.0 / tau).float(), requires_grad=neuron.learn_decays),
            bias,
        )

    def exact(self) -> ExactWeights:
        """The synapses in the exact form, differentiable."""
        recurrent = None
        if self.w_rec is not None:
            weight: Tensor = self.w_rec
            if not self.spec.self_recurrent:
                weight = weight * (1 - torch.eye(self.neurons, dtype=weight.dtype, device=weight.device))
            recurrent = SynapsePath(weight, self.r_in if self.r_rec is None else self.r_rec, self.b_rec)
        per_synapse = self.spec.neuron.decays == "synapse"
        return ExactWeights(per_synapse, SynapsePath(self.w_in, self.r_in, self.b_in), recurrent)

    def reset_decay(self) -> Tensor | None:
        """kappa, [j]; None for a layer that does not spike."""
        if not self.spiking:
            return None
        if self.spec.neuron.tied:
            return self.r_in[:, 0].expand(self.neurons)
        decay = decay_of(self.spec.neuron.tau_reset_steps)
        return torch.full((self.neurons,), decay, dtype=self.w_in.dtype, device=self.w_in.device)

    def decay_values(self) -> Tensor:
        """Every decay of the layer's synapses, [count]."""
        return torch.cat([r.detach().flatten() for r in (self.r_in, self.r_rec) if r is not None])


class Network(nn.Module):
    """A HetSyn network, from its description and a seed.

    Args:
        spec: what the network is.
        seed: of the initial weights and decays.

    Attributes:
        spec: what the network is.
        banks: the bank of each layer by name, as :meth:`fit_banks` left them; empty before.
    """

    def __init__(self, spec: NetworkSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.banks: dict[str, Bank] = {}
        generator = torch.Generator().manual_seed(seed)
        sizes = (spec.channels, *spec.hidden, spec.outputs)
        self.layers = nn.ModuleList(
            Layer(
                spec,
                sizes[index],
                sizes[index + 1],
                generator=generator,
                recurrent=spec.recurrent and index < len(spec.hidden),
                spiking=index < len(spec.hidden) or spec.decision.rule == "spike_count",
            )
            for index in range(len(sizes) - 1)
        )

    def named_layers(self) -> dict[str, Layer]:
        """The layers by name, in the order in which a step runs through them."""
        return dict(zip(self.spec.layer_names, (cast(Layer, layer) for layer in self.layers), strict=True))

    def layer(self, name: str) -> Layer:
        return self.named_layers()[name]

    def decays(self) -> dict[str, nn.Parameter]:
        """The learned decays by the name of their parameter; none where the description fixes them."""
        return {
            f"layers.{index}.{name}": parameter
            for index, layer in enumerate(self.layers)
            for name, parameter in layer.named_parameters()
            if name in ("r_in", "r_rec") and parameter.requires_grad
        }

    @torch.no_grad()
    def clamp_decays_(self) -> None:
        """Bring every learned decay back into its range; call it after each optimiser step."""
        for decay in self.decays().values():
            decay.clamp_(*self.spec.neuron.decay_range)

    def fit_banks(self, *, size: int | None = None, error_bound: float = ERROR_BOUND) -> dict[str, float]:
        """Fit every layer's bank to its decays as they are now, and keep the banks.

        Args:
            size: decays of each bank (fewer where fewer are exact). None: the smallest that meets the bound.
            error_bound: relative L2 error of the worst kernel, used without ``size``.

        Returns:
            Each layer's kernel error.

        Raises:
            BankError: no allowed size meets the bound.
        """
        self.banks = self._fitted(size, error_bound)
        return self.kernel_errors()

    def _fitted(self, size: int | None, error_bound: float) -> dict[str, Bank]:
        return {
            name: fit_bank(layer.decay_values(), size=size, error_bound=error_bound)
            for name, layer in self.named_layers().items()
        }

    def kernel_errors(self) -> dict[str, float]:
        """Relative L2 error of the worst kernel of each layer's bank, for the decays as they are now."""
        return {name: kernel_error(bank, self.layer(name).decay_values()) for name, bank in self.banks.items()}

    # torch's Module.compile compiles forward(), which a Network does not have
    def compile(self, form: Form) -> Compiled:  # type: ignore[override]
        """The network in one form, ready to run; differentiable in its parameters.

        The bank form uses the banks that :meth:`fit_banks` left. Without them it fits banks of ERROR_BOUND for this
        value alone: the network does not keep them, and the next call fits them again.

        Args:
            form: ``exact`` or ``bank``.

        Returns:
            The layers' weights and the layout of their state.

        Raises:
            ValueError: there is no such form.
            BankError: no bank of an allowed size meets ERROR_BOUND.
        """
        if form not in FORMS:
            raise ValueError(f"form {form!r} is neither 'exact' nor 'bank'")
        banks: dict[str, Bank] = {}
        if form == "bank":
            banks = self.banks or self._fitted(None, ERROR_BOUND)
        layers = []
        for name, layer in self.named_layers().items():
            synapses: ExactWeights | BankWeights = layer.exact()
            if form == "bank":
                synapses = compile_bank(banks[name], layer.exact())
            layers.append(LayerWeights(name, synapses, layer.reset_decay()))
        sizes = {name: bank.size for name, bank in banks.items()}
        return Compiled(self.spec, form, tuple(layers), state_layout(self.spec, form, sizes))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def rollout(self, spikes: Tensor | Events, form: Form = "bank", steps: Tensor | None = None) -> Rollout:
        """Run whole streams from their initial state; differentiable, with dropout in training mode.

        Args:
            spikes: float [batch, steps, channels], or the same as events.
            form: ``exact``, a current a synapse, or ``bank``, K shared decays a layer.
            steps: int64 [batch], length of each stream where they differ.

        Returns:
            Readout, hidden spikes and scores.

        Raises:
            ValueError: the form or the input's shape is not the network's.
            BankError: form ``bank`` before :meth:`fit_banks`, and no bank meets ERROR_BOUND.
        """
        return rollout(self.compile(form), spikes, steps, dropout=self.spec.dropout if self.training else 0.0)

    def save(self) -> Mapping[str, object]:
        """All that :meth:`load` needs, as plain values and tensors."""
        return {
            "spec": self.spec.to_dict(),
            "banks": {name: list(bank.decays) for name, bank in self.banks.items()},
            "tensors": {name: tensor.cpu() for name, tensor in self.state_dict().items()},
        }

    def restore(self, saved: Mapping[str, object]) -> None:
        """Take tensors and banks from what :meth:`save` gave; the description stays.

        Raises:
            ValueError: not something that ``save`` gave, or of another network.
        """
        _, banks, tensors = _parts(saved)
        try:
            self.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"not the tensors of this network: {error}") from error
        self.banks = {name: Bank(tuple(decays)) for name, decays in banks.items()}

    @staticmethod
    def load(saved: Mapping[str, object]) -> Network:
        """Inverse of :meth:`save`.

        Raises:
            ValueError: not something that ``save`` gave, or of another network.
        """
        spec, _, tensors = _parts(saved)
        network = Network(NetworkSpec.from_dict(spec)).to(next(iter(tensors.values())).dtype)
        network.restore(saved)
        return network


def _parts(saved: Mapping[str, object]) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    spec, banks, tensors = saved["spec"], saved["banks"], saved["tensors"]
    if not (isinstance(spec, Mapping) and isinstance(banks, Mapping) and isinstance(tensors, Mapping)):
        raise ValueError("not a result of Network.save(): spec, banks and tensors must be mappings")
    return spec, banks, tensors
