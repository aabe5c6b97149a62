"""A network of snnTorch's neurons: ``python -m examples.snntorch_network [models/snntorch-network/1]``.

It needs ``pip install --no-deps snntorch``. The neurons get their potentials as arguments (no ``init_hidden``), so the
step's state is all that they remember.
"""

from __future__ import annotations

import sys

import snntorch
import torch
from torch import Tensor, nn

from examples.training import CHANNELS, LABELS, train
from export import export_step
from export.write import Report

NEURONS = 24
State = tuple[Tensor, tuple[Tensor, Tensor]]


class SnnTorchNetwork(nn.Module):
    """A hidden layer that resets to zero, and an output layer with a synaptic current that counts spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(CHANNELS, NEURONS), nn.Linear(NEURONS, len(LABELS))
        self.hidden = snntorch.Leaky(beta=0.9, reset_mechanism="zero")
        self.output = snntorch.Synaptic(alpha=0.8, beta=0.9)

    def initial_state(self) -> State:
        return torch.zeros(1, NEURONS), (torch.zeros(1, len(LABELS)), torch.zeros(1, len(LABELS)))

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        potential, (current, output) = state
        spikes, potential = self.hidden(self.enter(x), potential)
        fired, current, output = self.output(self.leave(spikes), current, output)
        return (potential, (current, output)), fired


def main(out: str = "models/snntorch-network/1", *, updates: int = 60) -> Report:
    torch.manual_seed(0)
    network = SnnTorchNetwork()
    print(f"{train(network, updates):.0%} of new streams are right")
    return export_step(
        network,
        out=out,
        example_input=torch.zeros(1, CHANNELS),
        initial_state=network.initial_state(),
        labels=LABELS,
        decision="spike_count",
        skip_steps=16,
        description="snnTorch's neurons, which tell which half of the channels is active first.",
        input_kind="spikes",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
