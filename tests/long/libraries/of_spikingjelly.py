"""Networks of SpikingJelly, whose neurons have one time constant and one threshold a layer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import nir
import torch
from torch import Tensor, nn

from tests.long.libraries.case import HIDDEN, Case, array, chain, full, recurrent
from tests.long.libraries.task import CHANNELS, CLASSES


def _spikingjelly(neuron: Callable[[Any], nn.Module]) -> Case:
    base = "spikingjelly.activation_based"
    layer, kinds, tools = (importlib.import_module(f"{base}.{name}") for name in ("layer", "neuron", "functional"))
    network = nn.Sequential(layer.Linear(CHANNELS, HIDDEN), neuron(kinds), layer.Linear(HIDDEN, CLASSES), neuron(kinds))
    _strengthen(network[0], network[2])

    def counts(spikes: Tensor) -> Tensor:
        tools.reset_net(network)
        total = torch.stack([network(spikes[:, t]) for t in range(spikes.shape[1])]).sum(0)
        tools.reset_net(network)
        return total

    def graph() -> Any:
        export = importlib.import_module(f"{base}.nir_exchange").export_to_nir
        made = export(network, torch.zeros(1, CHANNELS))
        tools.reset_net(network)
        return made

    return Case(network, counts, graph)


def _strengthen(*layers: Any) -> None:
    """Larger weights, so that neurons fire at first."""
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(4.0)


def lif() -> Case:
    return _spikingjelly(lambda kinds: kinds.LIFNode(tau=4.0))


def if_() -> Case:
    return _spikingjelly(lambda kinds: kinds.IFNode())


def plif() -> Case:
    return _spikingjelly(lambda kinds: kinds.ParametricLIFNode(init_tau=4.0, decay_input=False))


def cubalif() -> Case:
    return _spikingjelly(lambda kinds: kinds.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_reset=0.0))


def lif_recurrent() -> Case:
    base = "spikingjelly.activation_based"
    layer, kinds, tools = (importlib.import_module(f"{base}.{name}") for name in ("layer", "neuron", "functional"))
    hidden = layer.LinearRecurrentContainer(kinds.LIFNode(tau=4.0, decay_input=False), HIDDEN, HIDDEN)
    out = kinds.LIFNode(tau=4.0, decay_input=False)
    network = nn.Sequential(layer.Linear(CHANNELS, HIDDEN), hidden, layer.Linear(HIDDEN, CLASSES), out)
    _strengthen(network[0], hidden.rc, network[2])

    def counts(spikes: Tensor) -> Tensor:
        tools.reset_net(network)
        total = torch.stack([network(spikes[:, t]) for t in range(spikes.shape[1])]).sum(0)
        tools.reset_net(network)
        return total

    def graph() -> Any:
        weight, bias = array(hidden.rc.weight), array(hidden.rc.bias)
        numbers = (4e-4, 4.0, 0.0, 1.0, 0.0)  # tau, R, v_leak, threshold, v_reset
        return chain(
            nir.Affine(array(network[0].weight), array(network[0].bias)),
            nir.Affine(weight[:, :HIDDEN], bias),
            recurrent(full(nir.LIF, HIDDEN, *numbers), nir.Linear(weight[:, HIDDEN:])),
            nir.Affine(array(network[2].weight), array(network[2].bias)),
            full(nir.LIF, CLASSES, *numbers),
        )

    return Case(network, counts, graph)
