"""What the graphs of an artifact say of each layer: neurons, synapses, time constants and kernels.

Names of tensors are those that ``export/network_graph.py`` gives them. A network of somebody else has others: then
nothing is known of its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import Artifact
from service.contract.manifest import Manifest
from service.runtime.graph_weights import read_tensors

Numbers = NDArray[np.float64]
LONGEST_KERNEL_STEPS = 2_000
SHOWN_KERNELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # quantiles of the decays
SAME_KERNEL = 0.02  # of the largest current, within which two kernels are one: weights have 16 bits
LARGE_WEIGHT = 0.1  # share of the largest, from which on a synapse is shown: the bank's weights are rounded to 16 bits


@dataclass(frozen=True)
class Kernel:
    """The current that one spike leaves in a synapse: relative to its weight, or to its largest value without a decay.

    Attributes:
        lag_steps: mean time after the spike, weighted by the square of the current, over LONGEST_KERNEL_STEPS; of a
            synapse with a decay, its time constant.
        decay: a step, of the exact form; None of a synapse that only the bank has.
        bank: weights of the bank's decays, [K]; None without a bank.
    """

    lag_steps: float
    decay: float | None
    bank: Numbers | None

    def exact_at(self, steps: Numbers) -> Numbers:
        """At steps after the spike."""
        assert self.decay is not None
        return np.asarray(self.decay**steps)

    def bank_at(self, steps: Numbers, decays: Numbers) -> Numbers:
        """At steps after the spike, out of the bank of ``decays`` [K]."""
        assert self.bank is not None
        return np.asarray((self.bank * decays ** steps[:, None]).sum(1))


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: of the layer.
        inputs: from the layer before.
        neurons: in it.
        is_recurrent: its neurons have synapses on each other.
        synapses: on its neurons; with delays, one for each tap of a unit.
        decays: a step, of synapses by their kind, ``input`` or ``recurrent``; empty without an exact form.
        reset_decay: of the reset or the membrane, of each neuron; empty without.
        bank: its decays a step, fastest first; empty without a bank form.
        kernels: a few synapses, from the fastest to the slowest, by decay or by mean lag.
        weights: of the exact form, by kind; empty without.
        lag_steps: without an exact form, of synapses that have a current, by their kind; see :class:`Kernel`.
    """

    name: str
    inputs: int
    neurons: int
    is_recurrent: bool
    synapses: int
    decays: dict[str, Numbers]
    reset_decay: Numbers
    bank: Numbers
    kernels: list[Kernel] = field(default_factory=list)
    weights: dict[str, Numbers] = field(default_factory=dict)
    lag_steps: dict[str, Numbers] = field(default_factory=dict)


def read_layers(artifact: Artifact) -> list[Layer]:
    """The layers of a network, in order; empty where the graphs are not those of ours.

    Raises:
        ArtifactError: a graph is damaged.
    """
    forms = {form: _named(read_tensors(artifact.read(text.file))) for form, text in artifact.manifest.forms.items()}
    if not all(_is_sound(tensors) for tensors in forms.values()):
        return []
    exact, bank = forms.get("exact", {}), forms.get("bank", {})
    layers, inputs = [], artifact.manifest.input.channels
    for name, neurons in sizes(artifact.manifest).items():
        if f"{name}.weight_in" not in (exact or bank):
            return []
        try:
            layers.append(_layer(name, inputs, neurons, exact, bank))
        except (ValueError, IndexError, KeyError):  # of other names and sizes than ours
            return []
        inputs = neurons
    return layers


def _is_sound(tensors: Mapping[str, Numbers]) -> bool:
    """Whether all numbers are finite, and all decays from 0 to 1."""
    return all(
        np.isfinite(values).all() and ("decay" not in name or not values.size or 0 <= values.min() <= values.max() <= 1)
        for name, values in tensors.items()
    )


def sizes(manifest: Manifest) -> dict[str, int]:
    """The neurons of each layer, by name."""
    hidden = {f"hidden{number}": neurons for number, neurons in enumerate(manifest.hidden, 1)}
    return hidden | {"readout": manifest.outputs}


def _named(tensors: Mapping[str, Any]) -> dict[str, Numbers]:
    """Tensors by the names that the exporter gave them, in one type."""
    return {name.rpartition("/")[2]: array.astype(np.float64) for name, array in tensors.items()}


def _layer(name: str, inputs: int, neurons: int, exact: Mapping[str, Numbers], bank: Mapping[str, Numbers]) -> Layer:
    nothing = np.zeros(0)
    either = exact or bank
    suffixes = {"input": "in", "recurrent": "rec"}
    decays, weights = {}, {}
    for kind, suffix in suffixes.items():
        if f"{name}.weight_{suffix}" in exact:
            weights[kind] = exact[f"{name}.weight_{suffix}"].T  # [neurons, inputs]
            if f"{name}.decay_{suffix}" in exact:
                decays[kind] = np.broadcast_to(exact[f"{name}.decay_{suffix}"], weights[kind].shape)
    reset = either.get(f"{name}.kappa", either.get(f"{name}.reset_decay", nothing)).ravel()
    bank_decays = bank.get(f"{name}.decays", nothing).ravel()
    basis: dict[str, Numbers] = {}
    if len(bank_decays):
        scale = bank[f"{name}.scale"]
        scale = scale if exact else scale / np.abs(scale).max(initial=0.0)
        for kind, suffix in suffixes.items():
            if f"{name}.weight_{suffix}" in bank:
                wide = bank[f"{name}.weight_{suffix}"] * scale
                basis[kind] = wide.reshape(wide.shape[0], len(bank_decays), neurons)
    of_bank_alone = {} if exact else {kind: _BankSynapses.of(one, bank_decays) for kind, one in basis.items()}
    kernels = of_bank_alone["input"].kernels(bank_decays) if of_bank_alone else []
    if "input" in decays:
        kernels = _kernels(decays["input"], weights["input"], basis.get("input"))
    is_recurrent = f"{name}.weight_rec" in either
    rows = sum(len(either[f"{name}.weight_{suffix}"]) for suffix in suffixes.values()
               if f"{name}.weight_{suffix}" in either)  # fmt: skip
    return Layer(
        *(name, inputs, neurons, is_recurrent, neurons * rows, decays, reset, bank_decays),
        kernels=kernels,
        weights=weights,
        lag_steps={kind: one.lag_steps[one.square > 0] for kind, one in of_bank_alone.items()},
    )


def _kernels(decay: Numbers, weight: Numbers, basis: Numbers | None) -> list[Kernel]:
    """Kernels of synapses [neurons, inputs] whose weights are large.

    Args:
        decay: of each.
        weight: of each.
        basis: weights of the bank, [inputs, K, neurons].
    """
    largest = np.abs(weight).max(initial=0.0)
    neuron, source = np.nonzero((np.abs(weight) >= LARGE_WEIGHT * largest) & (weight != 0))
    if not len(neuron):
        return []
    order = np.argsort(decay[neuron, source], kind="stable")
    kernels: list[Kernel] = []
    for quantile in SHOWN_KERNELS:
        index = order[round(quantile * (len(order) - 1))]
        j, i = neuron[index], source[index]
        of_bank = None if basis is None else basis[i, :, j] / weight[j, i]
        if not kernels or kernels[-1].decay != decay[j, i]:
            kernels.append(Kernel(_tau_steps(decay[j, i]), float(decay[j, i]), of_bank))
    return kernels


def _tau_steps(decay: float) -> float:
    """Return the time constant of a decay a step, in steps; infinite for a decay of 1."""
    return 0.0 if decay <= 0 else inf if decay >= 1 else -1 / log(decay)


class _BankSynapses(NamedTuple):
    """All synapses of one kind that only the bank has.

    Attributes:
        weights: of the bank's decays, [synapses, K].
        square: sum of the squared current, [synapses].
        lag_steps: see :class:`Kernel`, [synapses].
    """

    weights: Numbers
    square: Numbers
    lag_steps: Numbers

    @staticmethod
    def of(basis: Numbers, decays: Numbers) -> _BankSynapses:
        """Out of the weights of the bank, [inputs, K, neurons], and its decays, [K]."""
        weights = np.moveaxis(basis, 1, -1).reshape(-1, len(decays))
        steps = np.arange(LONGEST_KERNEL_STEPS, dtype=np.float64)
        powers = decays ** steps[:, None]  # [steps, K]
        square, late = (((weights @ (powers.T @ (by * powers))) * weights).sum(1) for by in (1.0, steps[:, None]))
        # weights that nearly cancel leave rounding alone
        lag = np.maximum(np.divide(late, square, out=np.zeros_like(late), where=square > 0), 0.0)
        return _BankSynapses(weights, square, lag)

    def kernels(self, decays: Numbers) -> list[Kernel]:
        """A few synapses whose currents are large."""
        large = np.flatnonzero((self.square >= LARGE_WEIGHT**2 * self.square.max(initial=0.0)) & (self.square > 0))
        if not len(large):
            return []
        order = large[np.argsort(self.lag_steps[large], kind="stable")]
        powers = decays ** np.arange(LONGEST_KERNEL_STEPS, dtype=np.float64)[:, None]
        found: list[Kernel] = []
        curves: list[Numbers] = []
        for quantile in SHOWN_KERNELS:
            index = order[round(quantile * (len(order) - 1))]
            values = powers @ self.weights[index]
            values /= (peak := values[np.abs(values).argmax()])
            if not curves or np.abs(values - curves[-1]).max() > SAME_KERNEL:
                curves.append(values)
                found.append(Kernel(float(self.lag_steps[index]), None, self.weights[index] / peak))
        return found
