"""A network with other kernels than r^n, made of HetSyn's parts: a bank, exact sums, its neurons.

The weights of a bank are ``w_ji c_k``, with the c_k of ``kernels.py`` in place of those of a decay. All else is as in
HetSyn, and so are the sums: whole numbers on a grid, the same bits in any batch and in any chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from examples.kernels.kernel_fit import fit_kernels
from examples.kernels.kernels import Fractional, Pair, Shape, Unit, coefficients, map_parts, mixture, parts
from hetsyn_model.compiled import LayerWeights
from hetsyn_model.neurons.neuron import Neuron
from hetsyn_model.spec import SurrogateSpec
from hetsyn_model.synapses.bank import Bank, BankWeights, dyadic
from hetsyn_model.synapses.path import Direct
from hetsyn_model.tensors import detached, tensors_of, with_tensors

State = dict[str, Tensor]
WINDOW_STEPS = 1000  # over which a bank keeps the error of kernels without end
ACTIVE = 0.05  # share of the inputs that fire in a step, for which initial weights are sized


class Kernels(nn.Module):
    """The kernels of a path. Training may change every value.

    Attributes:
        decay: r a step.
        shaped: the kernels' other values: ``order``, or ``fast`` and ``factor``.
        unit: what is 1 of a fractional kernel.
    """

    def __init__(
        self,
        decay: Tensor,
        shape: Mapping[str, Tensor],
        unit: Unit = "first",
        *,
        learned: bool,
    ) -> None:
        super().__init__()
        self.unit: Unit = unit
        self.decay = nn.Parameter(decay, learned)
        self.shaped = nn.ParameterDict({name: nn.Parameter(values, learned) for name, values in shape.items()})

    def shape(self) -> Shape:
        if "order" in self.shaped:
            return Fractional(self.shaped["order"], self.unit, WINDOW_STEPS)
        return Pair(self.shaped["fast"], self.shaped["factor"])

    @torch.no_grad()
    def clamp_(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Bring each value into its range."""
        for name, values in (("decay", self.decay), *self.shaped.items()):
            values.clamp_(*ranges[name])

    def typical(self) -> tuple[float, float]:
        """Compute first value and squared norm of the kernel with the mean values."""
        with torch.no_grad():
            mean = mixture(self.decay.double().mean(), map_parts(self.shape(), torch.mean))
            return float(mean.masses.sum()), float(mean.squared_norm())


class Layer(nn.Module):
    """One layer; ``neuron`` and ``own_reset`` say what its neurons are.

    Attributes:
        w_in: weights of the input, [j, i].
        w_rec: weights of the layer's own spikes, [j, j]; None for the readout.
        of_input: kernels of the input.
        of_own: kernels of the layer's own spikes; they may be the same object.
    """

    def __init__(
        self, inputs: int, neuron: Neuron, of_input: Kernels, of_own: Kernels | None, neurons: int, *, own_reset: bool
    ) -> None:
        super().__init__()
        self.neuron, self.own_reset, self.of_input, self.of_own = neuron, own_reset, of_input, of_own
        self.w_in = nn.Parameter(_weights(neurons, inputs, of_input))
        self.w_rec = None if of_own is None else nn.Parameter(_weights(neurons, neurons, of_own))

    def fit(self) -> Bank:
        """Fit a bank to the kernels, within HetSyn's bound."""
        both = [self.of_input] if self.of_own in (None, self.of_input) else [self.of_input, self.of_own]
        shapes = [map_parts(kernels.shape(), lambda part: part.detach().flatten()) for kernels in both if kernels]
        together = iter([torch.cat(of) for of in zip(*map(parts, shapes), strict=True)])
        decays = torch.cat([kernels.decay.detach().flatten() for kernels in both if kernels])
        return fit_kernels(decays, map_parts(shapes[0], lambda _: next(together)))

    def compiled(self, name: str, bank: Bank) -> LayerWeights:
        """Make the layer that runs, differentiable."""
        rows = {}
        if self.w_rec is not None and self.of_own is not None:
            weight: Tensor = self.w_rec
            if self.own_reset:  # a spike resets its neuron through a synapse of the neuron to itself
                weight = weight - torch.eye(len(weight), dtype=weight.dtype)
            rows["recurrent"] = _rows(bank, weight, self.of_own)
        rows["input"] = _rows(bank, self.w_in, self.of_input)
        rounded, grid = dyadic(rows)
        decays = torch.tensor(bank.decays, dtype=self.w_in.dtype)
        synapses = BankWeights(rounded["input"], rounded.get("recurrent"), None, decays, grid)
        return LayerWeights(name, self.w_in.shape[1], synapses, self.neuron, Direct(), Direct())


class Running(NamedTuple):
    """Layers that run."""

    layers: tuple[LayerWeights, ...]

    def initial_state(self) -> State:
        tensors = [tensor for layer in self.layers for tensor in layer.layout()]
        dtype = self.layers[0].synapses.dtype
        return {tensor.name.replace(".", "_"): torch.zeros(1, *tensor.shape, dtype=dtype) for tensor in tensors}

    def step(self, state: State, x: Tensor, surrogate: SurrogateSpec | None = None) -> tuple[State, Tensor]:
        after: State = {}
        potential = x
        for layer in self.layers:
            before = {f"{layer.name}.{name.removeprefix(f'{layer.name}_')}": value for name, value in state.items()}
            kept, potential = layer.advance(before, layer.synapses.enter(x), layer.recurrent_path, surrogate)
            after |= {name.replace(".", "_"): value for name, value in kept.items()}
            x = after.get(f"{layer.name}_spikes", potential)
        return after, potential


class KernelNetwork(nn.Module):
    """Layers that learn; :meth:`served` makes the cell to export. ``ranges`` bounds each value of a kernel."""

    def __init__(self, layers: Sequence[Layer], ranges: Mapping[str, tuple[float, float]]) -> None:
        super().__init__()
        self.layers, self.ranges = nn.ModuleList(layers), ranges
        self.fit()

    def fit(self) -> None:
        """Fit the banks to the kernels as they are now; training does without, because a fit may take seconds."""
        self._clamp()
        self._banks = [layer.fit() for layer in self._layers()]
        self._running = self.running()

    def running(self) -> Running:
        """Make the layers that run, with the weights as they are now."""
        names = [*(f"hidden{index + 1}" for index in range(len(self.layers) - 1)), "readout"]
        each = zip(self._layers(), names, self._banks, strict=True)
        return Running(tuple(layer.compiled(name, bank) for layer, name, bank in each))

    def initial_state(self) -> State:
        """Begin streams with the weights as they are now."""
        self._clamp()
        self._running = self.running()
        return self._running.initial_state()

    def _clamp(self) -> None:
        for layer in self._layers():
            for kernels in filter(None, (layer.of_input, layer.of_own)):
                kernels.clamp_(self.ranges)

    def _layers(self) -> list[Layer]:
        return [cast(Layer, layer) for layer in self.layers]

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        return self._running.step(state, x, SurrogateSpec() if torch.is_grad_enabled() else None)

    def served(self) -> Served:
        """Make the cell that is exported, with banks fitted anew."""
        self.fit()
        return Served(self._running)


class Served(nn.Module):
    """A trained network as a cell: its weights are buffers, which are exported."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = Running(tuple(detached(layer) for layer in running.layers))
        self._places = [place for layer in running.layers for place in tensors_of(layer, layer.name)]
        for layer in self._running.layers:
            for place, tensor in tensors_of(layer, layer.name).items():
                self.register_buffer(place.replace(".", "_"), tensor)

    def initial_state(self) -> State:
        return self._running.initial_state()

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        tensors = {place: getattr(self, place.replace(".", "_")) for place in self._places}
        layers = tuple(with_tensors(layer, tensors, layer.name) for layer in self._running.layers)
        return Running(layers).step(state, x)


def _weights(neurons: int, inputs: int, kernels: Kernels) -> Tensor:
    """Draw weights with which some neurons fire at first."""
    first, norm = kernels.typical()
    return torch.randn(neurons, inputs) / (1.5 * math.sqrt(first**2 + ACTIVE * inputs * norm))


def _rows(bank: Bank, weight: Tensor, kernels: Kernels) -> Tensor:
    """Compute w_ji c_k, [i, K * j]."""
    c = coefficients(bank, kernels.decay, kernels.shape()).to(weight.dtype)  # [j | 1, i | 1, K]
    return (weight.unsqueeze(-1) * c).permute(1, 2, 0).reshape(weight.shape[1], -1)
