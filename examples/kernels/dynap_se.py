"""Pairs of an excitatory and an inhibitory synapse, which answer late, as on the DYNAP-SE (arXiv 2002.04924).

``python -m examples.kernels.dynap_se [models/dynap-se/1]``

    g(n) = r^n - g r_f^n     of each synapse; r, r_f and g are learned
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from examples.kernels.network import KernelNetwork, Kernels, Layer
from examples.training import CHANNELS, LABELS, train
from export import export_step
from export.write import Report
from hetsyn_model.neurons.spike import ResettingNeuron, Silent
from hetsyn_model.spec import decay_of

NMDA_TAU_S, GABA_TAU_S = 35.5e-3, 14.2e-3  # of the chip's circuits at the biases of its simulator
RESET_TAU_STEPS = 20.0


def dynap_se(
    channels: int,
    hidden: tuple[int, ...],
    outputs: int,
    *,
    step_s: float = 1e-3,
    factor: float = 1.0,
    spread: float = 0.2,
) -> KernelNetwork:
    """Make an untrained network.

    Args:
        factor: strength of the inhibitory synapse relative to the excitatory one.
        spread: share by which initial time constants differ either way, as those of the chip's circuits do.
    """

    def kernels(neurons: int, inputs: int) -> Kernels:
        def decays(tau_s: float) -> Tensor:
            drawn = 1.0 + spread * (2.0 * torch.rand(neurons, inputs) - 1.0)
            return torch.exp(-step_s / (tau_s * drawn))

        shape = {"fast": decays(GABA_TAU_S), "factor": torch.full((neurons, inputs), factor)}
        return Kernels(decays(NMDA_TAU_S), shape, learned=True)

    layers: list[Layer] = []
    inputs = channels
    for neurons in (*hidden, outputs):
        spikes = len(layers) < len(hidden)
        decay = torch.full((neurons,), decay_of(RESET_TAU_STEPS))
        neuron = ResettingNeuron(decay, torch.ones(neurons)) if spikes else Silent()
        own = kernels(neurons, neurons) if spikes else None
        layers.append(Layer(inputs, neuron, kernels(neurons, inputs), own, neurons, own_reset=False))
        inputs = neurons
    return KernelNetwork(layers, {"decay": (0.0, 1.0), "fast": (0.0, 1.0), "factor": (0.0, 2.0)})


def main(out: str = "models/dynap-se/1", *, updates: int = 60) -> Report:
    torch.manual_seed(0)
    network = dynap_se(CHANNELS, (24,), len(LABELS), step_s=4e-3)
    print(f"{train(network, updates):.0%} of new streams are right")
    served = network.served()
    return export_step(
        served,
        out=out,
        example_input=torch.zeros(1, CHANNELS),
        initial_state=served.initial_state(),
        labels=LABELS,
        decision="last",
        step_s=4e-3,
        description="Pairs of synapses that tell which half of the channels is active first.",
        input_kind="spikes",
        tolerance=0.0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
