"""The network: its learned tensors, of which :meth:`Network.compile` makes the exact or the bank form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.events import Events
from hetsyn_model.layer import NEURON_BUFFERS, Layer
from hetsyn_model.rollout import Rollout, rollout
from hetsyn_model.spec import ERROR_BOUND, NetworkSpec, PathSpec
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import FORMS, Form
from hetsyn_model.synapses.bank import Bank, BankError, BankWeights, compile_bank
from hetsyn_model.synapses.bank_fit import evenly_apart, fit_bank, kernel_error
from hetsyn_model.synapses.synapse import ExactWeights

GOOD_ENOUGH = 1e-5  # a kernel error below the rounding of a bank's weights needs no fit


@dataclass(frozen=True)
class _Fit:
    """The last fit of the banks, and their limits.

    Attributes:
        seen: by layer, a fingerprint of the decays that the bank was last compared with.
        allowed: by layer, the kernel error above which the bank is fitted again.
    """

    error_bound: float | None = None
    hold: bool = False
    seen: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    allowed: Mapping[str, float] = field(default_factory=dict)


class Network(nn.Module):
    """A HetSyn network, from its description and a seed.

    Attributes:
        banks: the bank of each layer by name, of the last :meth:`fit_banks`; empty before.
        delay_spread: in training mode, steps over which a spike is spread around a learned delay. None, and always
            outside training mode: delays are whole steps, as served, and do not learn.
    """

    def __init__(self, spec: NetworkSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.banks: dict[str, Bank] = {}
        self.delay_spread: float | None = None
        self._fit = _Fit()
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
        """List the layers by name, in the order in which a step runs through them."""
        return dict(zip(self.spec.layer_names, (cast(Layer, layer) for layer in self.layers), strict=True))

    def layer(self, name: str) -> Layer:
        return self.named_layers()[name]

    def decays(self) -> dict[str, nn.Parameter]:
        """List the learned decays by the name of their parameter; none if the description fixes them."""
        return {
            f"layers.{index}.{name}": parameter
            for index, layer in enumerate(self.named_layers().values())
            for name, parameter in layer.decay_parameters().items()
            if parameter.requires_grad
        }

    def delays(self) -> dict[str, nn.Parameter]:
        """List the learned delays by the name of their parameter."""
        return {
            f"layers.{index}.{name}": parameter
            for index, layer in enumerate(self.layers)
            for name, parameter in layer.named_parameters()
            if name in ("delay_in", "delay_rec") and parameter.requires_grad
        }

    def own_values(self) -> dict[str, nn.Parameter]:
        """List what neurons with their own equations learn, by the name of the parameter."""
        part = f".{self.spec.neuron.own_name}."
        return {name: parameter for name, parameter in self.named_parameters() if part in name}

    @torch.no_grad()
    def clamp_decays_(self) -> None:
        """Clamp decays, delays and neurons' own values to their ranges, after each optimiser step."""
        for layer in self.named_layers().values():
            for parameter in layer.decay_parameters().values():
                if parameter.requires_grad:
                    parameter.clamp_(*self.spec.neuron.decay_range)
            if layer.own is not None:
                layer.own.clamp_()
        for name, delay in self.delays().items():
            delay.clamp_(0.0, self.path_of(name).max_delay_steps)

    @torch.no_grad()
    def share_at_bounds(self) -> float | None:
        """Compute the share of the learned decays at an end of their range; None if none is learned."""
        at_bound = []
        for layer in self.named_layers().values():
            low, high = self.spec.neuron.decay_range
            for parameter in layer.decay_parameters().values():
                if parameter.requires_grad:
                    at_bound.append(((parameter <= low) | (parameter >= high)).flatten())
        return float(torch.cat(at_bound).double().mean()) if at_bound else None

    def path_of(self, delay: str) -> PathSpec:
        """Return the description of a delay's path, by the name of its parameter."""
        return self.spec.input_path if delay.endswith("delay_in") else self.spec.recurrent_path

    def fit_banks(
        self,
        *,
        size: int | Sequence[int] | None = None,
        error_bound: float = ERROR_BOUND,
        hold: bool = False,
        whole_range: bool = False,
    ) -> dict[str, float]:
        """Fit every layer's bank to its present decays, keep the banks, and return the kernel error by layer.

        The banks follow the decays. If decays have changed, the next rollout in the bank form measures the kernel
        errors. It fits a bank again, to the same size or bound, if its error is above the bound, or, with a size, above
        twice its first error.

        Args:
            size: decays of each bank, or of each layer's in turn (fewer if fewer are exact). None: the smallest that
                meets the bound.
            error_bound: relative L2 error of the worst kernel, used without ``size``.
            hold: keep these banks until the next call, even if the decays change: for a training loop with its own
                schedule, as ``hetsyn train``'s once an epoch. :meth:`kernel_errors` gives their error.
            whole_range: fit to the whole ``decay_range``. Training then cannot make the banks worse.

        Raises:
            BankError: no allowed size meets the bound, or ``size`` has not one number a layer.
        """
        sizes = (size,) * len(self.layers) if isinstance(size, int) else None if size is None else tuple(size)
        if sizes is not None and len(sizes) != len(self.layers):
            raise BankError(f"{len(sizes)} sizes of banks for {len(self.layers)} layers: give one, or one a layer")
        self.banks = self._fitted(sizes, error_bound, whole_range)
        self._fit = _Fit(None if sizes is not None else error_bound, hold)
        return self._remember_fit()

    def _remember_fit(self) -> dict[str, float]:
        """Remember the decays of this fit, and return the kernel errors."""
        errors, fit = self.kernel_errors(), self._fit
        self._fit = replace(
            fit,
            seen={name: _fingerprint(layer) for name, layer in self.named_layers().items()},
            allowed={name: self._allowed(error, fit.error_bound) for name, error in errors.items()},
        )
        return errors

    @staticmethod
    def _allowed(error: float, error_bound: float | None) -> float:
        if error_bound is not None:
            return max(error, error_bound)
        return max(2.0 * error, GOOD_ENOUGH)

    def _follow_decays(self) -> None:
        """Fit the banks again that :meth:`fit_banks` says."""
        if self._fit.hold:
            return
        fit = self._fit
        seen, allowed = dict(fit.seen), dict(fit.allowed)
        for name, layer in self.named_layers().items():
            now = _fingerprint(layer)
            if seen.get(name) == now:
                continue
            error = kernel_error(self.banks[name], layer.decay_values())
            if error > allowed.get(name, math.inf):
                size = self.banks[name].size if fit.error_bound is None else None
                bank = fit_bank(layer.decay_values(), size=size, error_bound=fit.error_bound or ERROR_BOUND)
                self.banks[name] = bank
                error = kernel_error(bank, layer.decay_values())
                del allowed[name]
            # only a new bank changes the limit, else many small steps would raise it without end
            allowed.setdefault(name, self._allowed(error, fit.error_bound))
            seen[name] = now
        self._fit = replace(fit, seen=seen, allowed=allowed)

    def _fitted(self, sizes: Sequence[int] | None, error_bound: float, whole_range: bool = False) -> dict[str, Bank]:
        banks: dict[str, Bank] = {}
        for index, (name, layer) in enumerate(self.named_layers().items()):
            size = None if sizes is None else sizes[index]
            neuron, decays = self.spec.neuron, layer.decay_values()
            allowed = evenly_apart(neuron.decay_range) if whole_range and neuron.learn_decays else decays
            banks[name] = fit_bank(allowed, size=size, error_bound=error_bound)
        return banks

    def kernel_errors(self) -> dict[str, float]:
        """Compute the relative L2 error of the worst kernel of each layer's bank, for the present decays."""
        return {name: kernel_error(bank, self.layer(name).decay_values()) for name, bank in self.banks.items()}

    # torch's Module.compile compiles forward(), which a Network does not have
    def compile(self, form: Form) -> Compiled:  # type: ignore[override]
        """Make the network in one form, ready to run; differentiable in its parameters.

        The bank form uses the banks of :meth:`fit_banks`, fitted again if the decays have moved away from them. Without
        banks it fits some to ERROR_BOUND, which the network does not keep.

        Raises:
            ModelError: the form is unknown.
            BankError: no bank of an allowed size meets ERROR_BOUND.
        """
        if form not in FORMS:
            raise ModelError(f"form {form!r} is neither 'exact' nor 'bank'")
        banks: dict[str, Bank] = {}
        if form == "bank":
            if self.banks:
                self._follow_decays()
            banks = self.banks or self._fitted(None, ERROR_BOUND)
        layers: list[LayerWeights] = []
        spread = self.delay_spread if self.training else None
        for name, layer in self.named_layers().items():
            synapses: ExactWeights | BankWeights = layer.exact()
            if form == "bank":
                takes_values = self.spec.takes_values and not layers
                synapses = compile_bank(banks[name], layer.exact(), takes_values=takes_values)
            ways = layer.input_way(spread), layer.recurrent_way(spread)
            layers.append(LayerWeights(name, layer.inputs, synapses, layer.neuron(), *ways))
        return Compiled(self.spec, form, tuple(layers))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def rollout(
        self,
        spikes: Tensor | Events,
        form: Form = "bank",
        steps: Tensor | None = None,
    ) -> Rollout:
        """Run whole streams from their initial state; differentiable, with dropout in training mode.

        Args:
            spikes: float [batch, steps, channels], or the same as events; values for a network of values.
            form: ``exact``, a current a synapse, or ``bank``, K shared decays a layer.
            steps: int64 [batch], length of each stream if they differ.

        Raises:
            ModelError: the form is unknown, or the input is not as :func:`hetsyn_model.rollout.rollout` takes it.
            BankError: form ``bank`` before :meth:`fit_banks`, and no bank meets ERROR_BOUND.
        """
        dropout = self.spec.dropout if self.training else 0.0
        return rollout(self.compile(form), spikes, steps, dropout=dropout)

    def save(self) -> Mapping[str, object]:
        """Return plain values and tensors for :meth:`load`."""
        return {
            "spec": self.spec.to_dict(),
            "banks": {name: list(bank.decays) for name, bank in self.banks.items()},
            "error_bound": self._fit.error_bound,
            "hold": self._fit.hold,
            "tensors": {name: tensor.cpu() for name, tensor in self.state_dict().items()},
        }

    def restore(self, saved: Mapping[str, object]) -> None:
        """Restore tensors, banks and how these follow from the result of :meth:`save`; the description stays.

        Raises:
            ModelError: not a result of ``save``, or of another network.
        """
        _, banks, tensors = _parts(saved)
        buffers = {name: value for name, value in self.state_dict().items() if name.endswith(NEURON_BUFFERS)}
        try:
            self.load_state_dict(buffers | dict(tensors))
        except RuntimeError as error:
            raise ModelError(f"not the tensors of this network: {error}") from error
        self.banks = {name: Bank(tuple(decays)) for name, decays in banks.items()}
        if "hold" in saved:  # earlier versions kept neither
            self._fit = _Fit(cast(float | None, saved["error_bound"]), bool(saved["hold"]))
        self._remember_fit()

    @staticmethod
    def load(saved: Mapping[str, object]) -> Network:
        """Make a network from the result of :meth:`save`.

        Raises:
            ModelError: not a result of ``save``.
        """
        spec, _, tensors = _parts(saved)
        network = Network(NetworkSpec.from_dict(spec)).to(next(iter(tensors.values())).dtype)
        network.restore(saved)
        return network


def _parts(saved: Mapping[str, object]) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    spec, banks, tensors = (saved.get(name) for name in ("spec", "banks", "tensors"))
    if not (isinstance(spec, Mapping) and isinstance(banks, Mapping) and isinstance(tensors, Mapping)):
        raise ModelError("not a result of Network.save(): spec, banks and tensors must be mappings")
    return spec, banks, tensors


@torch.no_grad()
def _fingerprint(layer: Layer) -> tuple[float, float]:
    """Compute two sums over a layer's decays, to see whether they have changed."""
    values = layer.decay_values().double()
    return float(values.sum()), float(values.dot(values))
