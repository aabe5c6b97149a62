"""NIR graphs, small and seeded. Their users skip themselves where ``nir`` is missing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

Edges = Sequence[tuple[str, str]]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def full(shape: Any, value: float) -> NDArray[np.float64]:
    return np.full(shape, value, np.float64)


def lif(shape: Any, *, tau: float = 0.01, r: float = 10.0, leak: float = 0.0, reset: float = 0.0) -> Any:
    """LIF neurons with a threshold of 1."""
    return nir.LIF(full(shape, tau), full(shape, r), full(shape, leak), full(shape, 1.0), full(shape, reset))


def if_(shape: Any, *, r: float = 300.0) -> Any:
    """IF neurons with a threshold of 1."""
    return nir.IF(full(shape, r), full(shape, 1.0), full(shape, 0.0))


def cuba_lif(shape: Any, *, leak: float = 0.0) -> Any:
    """CubaLIF neurons with a threshold of 1."""
    return nir.CubaLIF(
        full(shape, 0.005),
        full(shape, 0.01),
        full(shape, 10.0),
        full(shape, leak),
        full(shape, 1.0),
        full(shape, 0.0),
        full(shape, 3.0),
    )


def cuba_li(shape: Any) -> Any:
    return nir.CubaLI(full(shape, 0.005), full(shape, 0.01), full(shape, 2.0), full(shape, 0.1), full(shape, 3.0))


def li(shape: Any) -> Any:
    return nir.LI(full(shape, 0.02), full(shape, 2.0), full(shape, 0.3))


def linear(outputs: int, inputs: int, seed: int = 0, size: float = 1.0) -> Any:
    return nir.Linear(rng(seed).normal(size=(outputs, inputs)) * size)


def affine(outputs: int, inputs: int, seed: int = 0, size: float = 1.0) -> Any:
    return nir.Affine(rng(seed).normal(size=(outputs, inputs)) * size, rng(seed + 100).normal(size=outputs) * 0.1)


def graph(nodes: dict[str, Any], edges: Edges, inputs: Any = 6, outputs: Any = 4, **metadata: Any) -> Any:
    """A graph with an Input ``in`` and an Output ``out`` besides the nodes."""
    ends = {"in": nir.Input(np.atleast_1d(inputs)), "out": nir.Output(np.atleast_1d(outputs))}
    return nir.NIRGraph(nodes={**ends, **nodes}, edges=list(edges), metadata=metadata, type_check=False)


def paths(*lines: str) -> list[tuple[str, str]]:
    """Edges along paths of names, ``paths("in a b", "a out")``; each once."""
    return list(dict.fromkeys(edge for line in lines for edge in itertools.pairwise(line.split())))


def chain(*nodes: Any, inputs: Any = 6, outputs: Any = 4, **metadata: Any) -> Any:
    """Input, the nodes ``n0``, ``n1``, … one after the other, Output."""
    names = [f"n{index}" for index in range(len(nodes))]
    path = ["in", *names, "out"]
    return graph(dict(zip(names, nodes, strict=True)), list(itertools.pairwise(path)), inputs, outputs, **metadata)


def recurrent(neurons: Any, weights: Any, n: int, *, source: str = "lif") -> Any:
    """The four nodes of a recurrent layer; ``source`` is where its Input leads."""
    return nir.NIRGraph(
        nodes={
            "input": nir.Input(np.array([n])),
            "lif": neurons,
            "w_rec": weights,
            "output": nir.Output(np.array([n])),
        },
        edges=[("input", source), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
        type_check=False,
    )


def image_network() -> Any:
    """Convolutions and pooling of every kind, with two layers of neurons; 2 x 8 x 8 to 5."""
    random = rng(3)
    return chain(
        nir.Conv2d(None, random.normal(size=(4, 2, 3, 3)), 1, 1, 1, 1, random.normal(size=4) * 0.1),
        lif((4, 8, 8)),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Conv2d(None, random.normal(size=(6, 2, 3, 3)), (2, 2), "valid", 1, 2, random.normal(size=6)),
        nir.AvgPool2d(np.array([3, 2]), np.array([1, 1]), np.array([1, 1])),
        nir.Flatten(None, 0, -1),
        nir.Linear(random.normal(size=(5, 12))),
        if_(5),
        inputs=(2, 8, 8),
        outputs=5,
    )


def line_network() -> Any:
    """Conv1d with padding ``same``, a stride and a dilation; 2 x 12 to 4."""
    random = rng(4)
    return chain(
        nir.Conv1d(None, random.normal(size=(3, 2, 4)), 1, "same", 2, 1, random.normal(size=3)),
        lif((3, 12)),
        nir.Conv1d(None, random.normal(size=(4, 3, 5)), 2, 1, 1, 1, random.normal(size=4)),
        nir.Flatten(None, 0, -1),
        linear(4, 20),
        cuba_lif(4),
        inputs=(2, 12),
    )


def delayed_network() -> Any:
    """Delays of none to five steps of 1 ms, and one in a loop, between recurrent layers; 6 to 4."""
    return graph(
        {
            "fc1": linear(8, 6, 1),
            "rec": recurrent(lif(8, leak=0.1), affine(8, 8, 2, 0.2), 8, source="w_rec"),
            "late": nir.Delay(np.array([0, 1, 2, 3, 4, 5, 1, 0]) * 1e-3),
            "fc2": affine(4, 8, 3),
            "cuba": cuba_lif(4, leak=0.2),
            "back": nir.Delay(full(4, 2e-3)),
            "again": linear(4, 4, 4, 0.3),
            "skip": linear(4, 6, 5),
            "read": li(4),
        },
        paths("in fc1 rec late fc2 cuba back again cuba read out", "in skip cuba"),
    )


def feedback_network() -> Any:
    """Two layers, the second of which leads back to the first; 6 to 4."""
    return graph(
        {
            "fc1": linear(8, 6, 1),
            "first": lif(8),
            "fc2": linear(4, 8, 2),
            "second": if_(4),
            "back": linear(8, 4, 3, 0.5),
        },
        paths("in fc1 first fc2 second back first", "second out"),
    )


def integrator_network() -> Any:
    """Every node that gives numbers, and a loop of integrators; 6 to 4."""
    return graph(
        {
            "scale": nir.Scale(rng(1).normal(size=6)),
            "fc": linear(4, 6, 2),
            "cuba": cuba_li(4),
            "i": nir.I(full(4, 20.0)),
            "step": nir.Threshold(full(4, 0.2)),
            "loop": linear(4, 4, 3, 0.2),
            "li": li(4),
        },
        paths("in scale fc cuba i step li loop li out", "fc li"),
    )


NETWORKS = {
    "image": image_network,
    "line": line_network,
    "delayed": delayed_network,
    "feedback": feedback_network,
    "integrators": integrator_network,
}
