"""What the graphs of an artifact say of each layer: neurons, synapses, time constants and kernels.

Names of tensors are those that ``export/network_graph.py`` gives them. A network of somebody else has others: then
nothing is known of its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import Artifact
from service.contract.manifest import Manifest
from service.runtime.graph_weights import read_tensors

Numbers = NDArray[np.float64]
LONGEST_KERNEL_STEPS = 2_000
SUFFIXES = {"input": "in", "recurrent": "rec"}  # of the tensors of synapses, by kind
SHOWN_KERNELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # quantiles of the decays
SAME_KERNEL = 0.02  # of the largest current, within which two kernels are one: weights have 16 bits
LARGE_WEIGHT = 0.1  # share of the largest, from which on a synapse is shown: the bank's weights are rounded to 16 bits


@dataclass(frozen=True)
class Kernel:
    """The current that one spike leaves in a synapse of a bank, relative to its largest value.

    Attributes:
        lag_steps: mean time after the spike, weighted by the square of the current, over LONGEST_KERNEL_STEPS.
        weights: of the bank's decays, [K].
    """

    lag_steps: float
    weights: Numbers

    def at(self, steps: Numbers, decays: Numbers) -> Numbers:
        """Compute it at steps after the spike, out of the bank of ``decays`` [K]."""
        return np.asarray((self.weights * decays ** steps[:, None]).sum(1))


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: of the layer.
        inputs: from the layer before.
        neurons: in it.
        is_recurrent: its neurons have synapses on each other.
        synapses: on its neurons; with delays, one for each tap of a unit.
        decays: a step, of synapses by their kind, ``input`` or ``recurrent``; empty of a bank.
        reset_decay: of the reset or the membrane, of each neuron; empty without.
        bank: its decays a step, fastest first; empty without.
        kernels: a few synapses of a bank, from the fastest to the slowest by mean lag.
        lag_steps: of a bank's synapses that have a current, by their kind; see :class:`Kernel`.
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
    lag_steps: dict[str, Numbers] = field(default_factory=dict)


def read_layers(artifact: Artifact) -> list[Layer]:
    """Read the layers of a network, in order; none where the graph is not one of ours.

    Raises:
        ArtifactError: the graph is damaged.
    """
    tensors = _named(read_tensors(artifact.read(artifact.manifest.network.file)))
    if not _is_sound(tensors):
        return []
    layers, inputs = [], artifact.manifest.input.channels
    for name, neurons in sizes(artifact.manifest).items():
        if f"{name}.weight_in" not in tensors:
            return []
        try:
            layers.append(_layer(name, inputs, neurons, tensors))
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


def _layer(name: str, inputs: int, neurons: int, tensors: Mapping[str, Numbers]) -> Layer:
    nothing = np.zeros(0)
    weights = {
        kind: tensors[f"{name}.weight_{suffix}"]
        for kind, suffix in SUFFIXES.items()
        if f"{name}.weight_{suffix}" in tensors
    }
    decays: dict[str, Numbers] = {}
    synapses: dict[str, _BankSynapses] = {}
    bank = tensors.get(f"{name}.decays", nothing).ravel()
    if len(bank):
        scale = tensors[f"{name}.scale"]
        scale = scale / np.abs(scale).max(initial=0.0)
        for kind, weight in weights.items():
            basis = (weight * scale).reshape(len(weight), len(bank), neurons)
            synapses[kind] = _BankSynapses.of(basis, bank)
    else:
        for kind, weight in weights.items():
            if (decay := tensors.get(f"{name}.decay_{SUFFIXES[kind]}")) is not None:
                decays[kind] = np.broadcast_to(decay, weight.T.shape)  # [neurons, inputs]
    reset = tensors.get(f"{name}.kappa", tensors.get(f"{name}.reset_decay", nothing)).ravel()
    rows = sum(len(weight) for weight in weights.values())
    return Layer(
        *(name, inputs, neurons, "recurrent" in weights, neurons * rows, decays, reset, bank),
        kernels=synapses["input"].kernels(bank) if synapses else [],
        lag_steps={kind: one.lag_steps[one.square > 0] for kind, one in synapses.items()},
    )


class _BankSynapses(NamedTuple):
    """All synapses of one kind of a bank.

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
                found.append(Kernel(float(self.lag_steps[index]), self.weights[index] / peak))
        return found
