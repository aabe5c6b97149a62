"""Collects the nodes and edges of a NIR graph to write, and makes currents and resets of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.nir import NirError
from export.nir.convention import Rule
from export.nir.graph import Float64Array


@dataclass
class Writer:
    """Collects nodes and edges.

    Attributes:
        nir: the library.
        dt: duration of a step in seconds.
        nodes: by name.
    """

    nir: Any
    dt: float
    rule: Rule
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: Any, *sources: str) -> str:
        """Add a node, and an edge from each source to it. Returns its name."""
        node.metadata = {"hetsyn.dt": self.dt, "hetsyn.rule": self.rule}
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def tau(self, decay: Float64Array) -> Float64Array:
        """Compute the time constant of a decay between 0 and 1, by the rule."""
        return -self.dt / np.log(decay) if self.rule == "exponential" else self.dt / (1 - decay)

    def weights(self, weight: Float64Array, bias: Float64Array | None) -> Any:
        return self.nir.Linear(weight) if bias is None else self.nir.Affine(weight, bias)

    def filtered(
        self, name: str, source: str, weight: Float64Array, decay: Float64Array, bias: Float64Array | None, target: str
    ) -> None:
        """Add ``source -> weights -> LI -> target``: a current I(t) = decay * I(t-1) + W x(t) + b for each neuron.

        Args:
            name: prefix of the nodes' names.
            source: node of x.
            weight: W, [neurons, inputs].
            decay: [neurons].
            bias: b, [neurons]; None without.
            target: node that the current goes to.
        """
        kinds = {"li": (decay > 0) & (decay < 1), "i": decay == 1, "jump": decay == 0}
        present = {kind: rows for kind, rows in kinds.items() if rows.any()}
        for kind, rows in present.items():
            part = name if len(present) == 1 else f"{name}_{kind}"
            mine, drive = weight * rows[:, None], None if bias is None else bias * rows
            end = self.add(f"{part}_weights", self.weights(mine, drive), source)
            if kind == "li":
                inside = np.where(rows, decay, 0.5)
                zero = np.zeros(len(decay))
                end = self.add(f"{part}_current", self.nir.LI(self.tau(inside), 1 / (1 - inside), zero), end)
            elif kind == "i":
                end = self.add(f"{part}_current", self.nir.I(np.full(len(decay), 1 / self.dt)), end)
            self.edges.append((end, target))

    def feedback(self, name: str, neuron: str, size: Float64Array, decay: Float64Array) -> None:
        """Add a current of a neuron's own spikes of the step before, J = decay * J + size * z, to its potential."""
        n = len(decay)
        end = self.add(f"{name}_size", self.nir.Scale(-size), neuron)
        if (decay == 1).all():
            end = self.add(f"{name}_current", self.nir.I(np.full(n, 1 / self.dt)), end)
        elif ((decay > 0) & (decay < 1)).all():
            end = self.add(f"{name}_current", self.nir.LI(self.tau(decay), 1 / (1 - decay), np.zeros(n)), end)
        elif decay.any():
            raise NirError(
                f"{name!r} has decays of 0 or 1 for some of its neurons, which NIR cannot hold beside others: keep "
                "them between 0 and 1 by decay_range"
            )
        self.edges.append((end, neuron))
