"""An imported NIR graph: flat, checked, and without the library's classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

INPUT, OUTPUT, IDENTITY = "Input", "Output", "Identity"  # an Identity was the Input or Output of a nested graph
SPIKING = ("IF", "LIF", "CubaLIF", "Threshold")  # their output is spikes
INTEGRATORS = ("I", "LI", "CubaLI")
NEURONS = ("IF", "LIF", "CubaLIF", *INTEGRATORS)  # they have a potential
WEIGHTS = ("Linear", "Affine")


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: includes the names of the graphs around it, as ``outer.inner``.
        kind: NIR's name of the type.
        values: parameters that are arrays, float64.
        options: other parameters: shape, stride, padding and the like.
    """

    name: str
    kind: str
    values: Mapping[str, Float64Array] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """Nodes and edges.

    Attributes:
        nodes: by name. One is an Input, one an Output.
        edges: from node to node. A node adds up its inputs.
        metadata: the outermost graph's.
        notes: what was read differently from how it is written, for people.
    """

    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sources(self, name: str) -> list[str]:
        return [source for source, target in self.edges if target == name]

    def targets(self, name: str) -> list[str]:
        return [target for source, target in self.edges if source == name]

    def of_kind(self, *kinds: str) -> list[Node]:
        return [node for node in self.nodes.values() if node.kind in kinds]
