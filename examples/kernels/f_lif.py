"""The fractional leaky integrate-and-fire neuron of f-SNN (arXiv 2507.16937): its memory fades as a power of time.

``python -m examples.kernels.f_lif [models/f-lif/1]``

    tau D^p v = u - v        by the implicit scheme; ``kernels.py`` has the kernel that this is

A layer has one order and one rate for all its synapses. A spike resets its neuron through the same kernel.
"""

from __future__ import annotations

import sys

import torch

from examples.kernels.kernels import LOWEST_ORDER
from examples.kernels.network import KernelNetwork, Kernels, Layer
from examples.training import CHANNELS, LABELS, train
from export import export_step
from export.write import Report
from hetsyn_model.neurons.spike import MembraneNeuron, SilentMembrane

RATES = (0.02, 1.0)  # of learned ones


def f_lif(
    channels: int,
    hidden: tuple[int, ...],
    outputs: int,
    *,
    order: float = 0.5,
    tau: float = 2.0,
    step: float = 1.0,
    learned: bool = False,
    recurrent: bool = True,
) -> KernelNetwork:
    """Make an untrained network.

    Args:
        order: order p of the derivative; the paper searches one for each data set, 0.1 to 0.9.
        tau: time constant in units of the solver's time.
        step: the solver's step h in these units. The rate is ``h^p / tau``.
        learned: training changes order and rate.
        recurrent: the neurons of a hidden layer hear each other; if not, each hears itself alone.
    """
    decay = 1.0 / (1.0 + step**order / tau)  # of the kernel at order 1
    layers: list[Layer] = []
    inputs = channels
    for neurons in (*hidden, outputs):
        kernels = Kernels(torch.tensor([[decay]]), {"order": torch.tensor([[order]])}, "sum", learned=learned)
        spikes = len(layers) < len(hidden)
        nothing = torch.zeros(neurons)  # of the potential is left for the next step: the synapses remember
        neuron = MembraneNeuron(nothing, torch.ones(neurons), "subtract_at_once") if spikes else SilentMembrane(nothing)
        layers.append(Layer(inputs, neuron, kernels, kernels if spikes else None, neurons, own_reset=True))
        inputs = neurons
        own = layers[-1].w_rec
        if own is not None and not recurrent:
            own.data.zero_()
            own.requires_grad_(False)
    low, high = (1.0 / (1.0 + rate) for rate in reversed(RATES))
    return KernelNetwork(layers, {"decay": (low, high) if learned else (0.0, 1.0), "order": (LOWEST_ORDER, 1.0)})


def main(out: str = "models/f-lif/1", *, updates: int = 60) -> Report:
    torch.manual_seed(0)
    network = f_lif(CHANNELS, (24,), len(LABELS), order=0.7, learned=True)
    print(f"{train(network, updates):.0%} of new streams are right")
    served = network.served()
    return export_step(
        served,
        out=out,
        example_input=torch.zeros(1, CHANNELS),
        initial_state=served.initial_state(),
        labels=LABELS,
        decision="last",
        description="Fractional neurons that tell which half of the channels is active first.",
        input_kind="spikes",
        tolerance=0.0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
