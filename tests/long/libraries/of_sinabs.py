"""Networks of Sinabs, whose layers take all steps at once: [stream, steps, neurons]."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from tests.long.libraries.case import HIDDEN, Case, array, chain, recurrent, spread
from tests.long.libraries.task import CHANNELS, CLASSES, STEPS


def _sinabs(
    hidden: Callable[[Any, Any, int], nn.Module], graph: Callable[[nn.Module], Any] | None = None, **options: Any
) -> Case:
    layers, activation = importlib.import_module("sinabs.layers"), importlib.import_module("sinabs.activation")
    network = nn.Sequential(
        nn.Linear(CHANNELS, HIDDEN),
        hidden(layers, activation, HIDDEN),
        nn.Linear(HIDDEN, CLASSES),
        layers.LIF(
            tau_mem=spread(8.0, 20.0, CLASSES),
            spike_threshold=torch.ones(CLASSES),
            norm_input=False,
            **({"spike_fn": activation.SingleSpike} if options.get("spikes") == "single" else {}),
        ),
    )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("tau" not in name and "threshold" not in name)

    neurons: list[Any] = [network[1], network[3]]

    def restart() -> None:
        for layer in neurons:
            layer.reset_states()

    def counts(spikes: Tensor) -> Tensor:
        for layer in neurons:
            if layer.is_state_initialised():
                layer.reset_states()
        total: Tensor = network(spikes).sum(1)
        restart()
        return total

    def exported() -> Any:
        made = importlib.import_module("sinabs.nir").to_nir(network, torch.zeros(1, STEPS, CHANNELS))
        restart()
        return made

    if graph is None:
        return Case(network, counts, exported, options)
    return Case(network, counts, lambda: graph(network), options)


def _lif(layers: Any, activation: Any, neurons: int, **more: Any) -> nn.Module:  # noqa: ARG001
    layer: nn.Module = layers.LIF(
        tau_mem=spread(5.0, 20.0, neurons), spike_threshold=spread(0.8, 1.2, neurons), norm_input=False, **more
    )
    return layer


def lif() -> Case:
    return _sinabs(_lif)


def lif_single() -> Case:
    return _sinabs(
        lambda layers, activation, n: _lif(layers, activation, n, spike_fn=activation.SingleSpike),
        spikes="single",
    )


def iaf() -> Case:
    return _sinabs(lambda layers, activation, n: layers.IAF(spike_threshold=spread(0.8, 1.2, n)))  # noqa: ARG005


def lif_recurrent() -> Case:
    def hidden(layers: Any, activation: Any, neurons: int) -> nn.Module:
        layer: nn.Module = layers.LIFRecurrent(
            tau_mem=spread(5.0, 20.0, neurons),
            rec_connect=nn.Linear(neurons, neurons, bias=False),
            spike_threshold=spread(0.8, 1.2, neurons),
            norm_input=False,
            spike_fn=activation.SingleSpike,  # with several spikes a step, what recurrence excites grows without end
        )
        return layer

    def graph(network: Any) -> Any:
        def lif(layer: Any) -> Any:
            tau = array(layer.tau_mem)
            zero = np.zeros_like(tau)
            return nir.LIF(tau, np.ones_like(tau), zero, array(layer.spike_threshold), zero)

        return chain(
            nir.Affine(array(network[0].weight), array(network[0].bias)),
            recurrent(lif(network[1]), nir.Linear(array(network[1].rec_connect.weight))),
            nir.Affine(array(network[2].weight), array(network[2].bias)),
            lif(network[3]),
        )

    return _sinabs(hidden, graph, spikes="single")
