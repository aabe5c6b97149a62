"""Networks of snnTorch, whose neurons differ in decay and threshold."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.long.libraries.case import HIDDEN, Case, spread
from tests.long.libraries.task import CHANNELS, CLASSES


def _snntorch(make: Callable[[dict[str, Any]], nn.Module], *, reset: str = "subtract") -> Case:
    """Linear -> hidden -> Linear -> Leaky; ``make`` makes the hidden layer of these options."""
    snn = importlib.import_module("snntorch")
    surrogate = importlib.import_module("snntorch.surrogate").fast_sigmoid(slope=10)

    def common(neurons: int) -> dict[str, Any]:
        return {
            "beta": spread(0.8, 0.95, neurons),
            "threshold": spread(0.8, 1.2, neurons),
            "spike_grad": surrogate,
            "init_hidden": True,
            "reset_mechanism": reset,
        }

    out = snn.Leaky(**common(CLASSES), output=True)
    network = nn.Sequential(nn.Linear(CHANNELS, HIDDEN), make(common(HIDDEN)), nn.Linear(HIDDEN, CLASSES), out)

    def restart() -> None:
        for layer in (network[1], network[3]):
            for name in ("mem", "syn", "spk"):
                if hasattr(layer, name):
                    setattr(layer, name, torch.zeros(0))

    def counts(spikes: Tensor) -> Tensor:
        restart()
        fired = [network(spikes[:, t])[0] for t in range(spikes.shape[1])]
        restart()
        return torch.stack(fired).sum(0)

    def graph() -> Any:
        restart()
        export = importlib.import_module("snntorch.export_nir").export_to_nir
        return export(network, torch.zeros(1, CHANNELS), ignore_dims=[0])

    return Case(network, counts, graph, options={} if reset == "subtract" else {"reset": reset})


def _leaky(kind: str, **more: Any) -> Callable[[dict[str, Any]], nn.Module]:
    def make(common: dict[str, Any]) -> nn.Module:
        snn = importlib.import_module("snntorch")
        layer: nn.Module = getattr(snn, kind)(**common, **more)
        return layer

    return make


def leaky() -> Case:
    return _snntorch(_leaky("Leaky"))


def leaky_zero() -> Case:
    return _snntorch(_leaky("Leaky"), reset="zero")


def synaptic() -> Case:
    return _snntorch(_leaky("Synaptic", alpha=spread(0.5, 0.8, HIDDEN)))


def rleaky() -> Case:
    return _snntorch(_leaky("RLeaky", linear_features=HIDDEN))


def rsynaptic() -> Case:
    return _snntorch(_leaky("RSynaptic", linear_features=HIDDEN, alpha=spread(0.5, 0.8, HIDDEN)))
