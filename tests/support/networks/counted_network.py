"""A network's step in single additions and multiplications of numbers, all of which are counted.

Plain Python over the tensors of a graph, written from ``docs/explanation/model.md``: it decays every current, adds
the weights of the units that spike, and sums up. Sums of one step are not in memory; all else is read where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]


@dataclass
class Tally:
    """What was done, in all steps together."""

    accumulates: int = 0
    additions: int = 0
    multiplications: int = 0
    scalings: int = 0
    weight_bytes: int = 0
    state_bytes_read: int = 0
    state_bytes_written: int = 0

    def add(self, a: float, b: float) -> float:
        self.additions += 1
        return a + b

    def accumulate(self, total: float, weight: float) -> float:
        """Add the weight of a spike."""
        self.accumulates += 1
        return self.add(total, weight)

    def multiply(self, a: float, b: float) -> float:
        self.multiplications += 1
        return a * b

    def scale(self, total: float, power: float) -> float:
        assert math.frexp(power)[0] == 0.5  # a power of two
        self.scalings += 1
        return total * power

    def constant(self, tensor: Tensor, *index: int) -> float:
        self.weight_bytes += tensor.itemsize
        return float(tensor[index])

    def row(self, tensor: Tensor, unit: int) -> list[float]:
        """The weights of a unit, [columns]."""
        self.weight_bytes += tensor[unit].nbytes
        return [float(weight) for weight in tensor[unit]]


class CountedNetwork:
    """A network in one form.

    Args:
        tensors: the graph's constants, by the exporter's names.
        state: shape of each state tensor of the layers, by name.
        layers: names of the layers, in order.
        reset: of membranes.
        threshold: of neurons that have none of their own.
        adaptation: decay and strength.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Sequence[int]], layers: Sequence[str],
        *, reset: str, threshold: float, adaptation: tuple[float, float],
    ) -> None:  # fmt: skip
        self.tensors, self.layers = tensors, layers
        self.reset, self.threshold, self.adaptation = reset, threshold, adaptation
        self.state = {name: np.zeros(shape) for name, shape in state.items()}
        self.tally = Tally()

    def step(self, active: Sequence[int]) -> tuple[list[list[int]], list[float]]:
        """One step.

        Args:
            active: channels with a spike.

        Returns:
            The neurons of each layer that fire, and the potentials of the last.
        """
        fired, potential = [], list[float]()
        for layer in self.layers:
            spikes = f"{layer}.spikes"
            before = self._fired_before(spikes) if spikes in self.state else []
            sources = [("in", active), ("rec", before)] if f"{layer}.weight_rec" in self.tensors else [("in", active)]
            if f"{layer}.decays" in self.tensors:
                potential = self._bank(layer, sources)
            else:
                potential = self._exact(layer, sources)
            potential, active = self._neurons(layer, potential, before)
            fired.append(active)
        return fired, potential

    def _load(self, name: str, *index: int) -> float:
        self.tally.state_bytes_read += 4
        return float(self.state[name][index])

    def _store(self, name: str, value: float, *index: int) -> None:
        self.tally.state_bytes_written += 4
        self.state[name][index] = value

    def _fired_before(self, spikes: str) -> list[int]:
        return [n for n in range(len(self.state[spikes])) if self._load(spikes, n)]

    def _bank(self, layer: str, sources: Sequence[tuple[str, Sequence[int]]]) -> list[float]:
        tally, tensors, name = self.tally, self.tensors, f"{layer}.bank_current"
        decays = tensors[f"{layer}.decays"]
        neurons = self.state[name].shape[1]
        sums = [0.0] * (len(decays) * neurons)
        for suffix, units in sources:
            for unit in units:
                for column, weight in enumerate(tally.row(tensors[f"{layer}.weight_{suffix}"], unit)):
                    if weight:
                        sums[column] = tally.accumulate(sums[column], weight)
        potential = [0.0] * neurons
        for k in range(len(decays)):
            decay = tally.constant(decays, k)
            for n in range(neurons):
                column = k * neurons + n
                arrived = tally.scale(sums[column], tally.constant(tensors[f"{layer}.scale"], column))
                value = tally.add(tally.multiply(decay, self._load(name, k, n)), arrived)
                if f"{layer}.bias_in" in tensors:
                    value = tally.add(value, tally.constant(tensors[f"{layer}.bias_in"], column))
                self._store(name, value, k, n)
                potential[n] = tally.add(potential[n], value)
        return potential

    def _exact(self, layer: str, sources: Sequence[tuple[str, Sequence[int]]]) -> list[float]:
        tally, tensors = self.tally, self.tensors
        neurons = tensors[f"{layer}.weight_in"].shape[1]
        potential = [0.0] * neurons
        for suffix, units in sources:
            weight, decay = tensors[f"{layer}.weight_{suffix}"], tensors.get(f"{layer}.decay_{suffix}")
            bias = tensors.get(f"{layer}.bias_{suffix}")
            rows = {unit: tally.row(weight, unit) for unit in units}
            name = f"{layer}.{'input' if suffix == 'in' else 'recurrent'}_current"
            for n in range(neurons):
                if decay is None:
                    for arriving in rows.values():
                        if arriving[n]:
                            potential[n] = tally.accumulate(potential[n], arriving[n])
                    if bias is not None:
                        potential[n] = tally.add(potential[n], tally.constant(bias, n, 0))
                    continue
                for i in range(decay.shape[1]):
                    value = tally.multiply(tally.constant(decay, n, i), self._load(name, n, i))
                    own = [rows[i]] if i in rows else []
                    for arriving in own if decay.shape[1] == len(weight) else rows.values():
                        value = tally.accumulate(value, arriving[n]) if arriving[n] else value
                    if bias is not None:
                        value = tally.add(value, tally.constant(bias, n, i))
                    self._store(name, value, n, i)
                    potential[n] = tally.add(potential[n], value)
        return potential

    def _neurons(self, layer: str, sums: list[float], before: list[int]) -> tuple[list[float], list[int]]:
        tally, tensors = self.tally, self.tensors
        membrane, reset, spikes = f"{layer}.membrane", f"{layer}.reset_current", f"{layer}.spikes"
        fired, recovery = [], f"{layer}.recovery"
        for n, total in enumerate(sums):
            own = tensors.get(f"{layer}.threshold")
            threshold = self.threshold
            if own is not None and spikes in self.state:
                threshold = tally.constant(own, n)
            if membrane in self.state:
                left = self._left(layer, self._load(membrane, n), n in before, threshold, n)
                recovered = self._load(recovery, n) if recovery in self.state else 0.0
                total = tally.add(total, -recovered) if recovery in self.state else total
                sums[n] = tally.add(left, total)
                self._store(membrane, sums[n], n)
            elif reset in self.state:
                kept = tally.multiply(tally.constant(tensors[f"{layer}.kappa"], n), self._load(reset, n))
                kept = tally.add(kept, threshold) if n in before else kept
                self._store(reset, kept, n)
                sums[n] = tally.add(total, -kept)
            if spikes not in self.state:
                continue
            level, adaptation = threshold, f"{layer}.adaptation_current"
            if adaptation in self.state:
                raised = tally.multiply(self.adaptation[0], self._load(adaptation, n))
                raised = tally.add(raised, self.adaptation[1]) if n in before else raised
                self._store(adaptation, raised, n)
                level = tally.add(threshold, raised)
            if recovery in self.state:
                weights = tensors[f"{layer}.recovery"]
                beta, of_membrane, of_spike = (tally.constant(weights, row, n) for row in range(3))
                kept = 0.0 if sums[n] > level else sums[n]
                recovered = tally.add(tally.multiply(beta, recovered), tally.multiply(of_membrane, kept))
                self._store(recovery, tally.add(recovered, of_spike) if sums[n] > level else recovered, n)
            self._store(spikes, float(sums[n] > level), n)
            if sums[n] > level:
                fired.append(n)
        return sums, fired

    def _left(self, layer: str, value: float, spiked: bool, threshold: float, n: int) -> float:
        tally, kappa = self.tally, self.tally.constant(self.tensors[f"{layer}.kappa"], n)
        if spiked and self.reset == "subtract_at_once":
            value = tally.add(value, -threshold)
        value = tally.multiply(kappa, value)
        if spiked and self.reset != "subtract_at_once":
            value = tally.add(value, -value if self.reset == "zero" else -threshold)
        return value
