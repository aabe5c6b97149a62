"""A network of a library, and NIR nodes for those that no library writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from tests.long.libraries.task import CHANNELS, CLASSES, Counts

HIDDEN = 32


@dataclass(frozen=True)
class Case:
    """A network of a library.

    Attributes:
        counts: what the library itself makes of streams.
        graph: makes its NIR graph, after training.
        options: of ``import_nir``, besides the producer.
    """

    network: nn.Module
    counts: Counts
    graph: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)


def spread(low: float, high: float, neurons: int) -> Tensor:
    return torch.linspace(low, high, neurons)


def array(tensor: Any) -> Any:
    return tensor.detach().numpy()


def full(kind: Any, neurons: int, *values: Any) -> Any:
    return kind(*(np.full(neurons, float(value)) for value in values))


def recurrent(neurons: Any, weights: Any) -> Any:
    ends = {"input": nir.Input(np.array([HIDDEN])), "output": nir.Output(np.array([HIDDEN]))}
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    return nir.NIRGraph(nodes={**ends, "lif": neurons, "w_rec": weights}, edges=edges, type_check=False)


def chain(*nodes: Any) -> Any:
    names = ["in", *(f"n{index}" for index in range(len(nodes))), "out"]
    ends = (nir.Input(np.array([CHANNELS])), nir.Output(np.array([CLASSES])))
    return nir.NIRGraph(
        nodes=dict(zip(names, (ends[0], *nodes, ends[1]), strict=True)),
        edges=list(pairwise(names)),
        type_check=False,
    )
