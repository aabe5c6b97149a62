"""Neurons with autaptic gates (STC, arXiv 2406.00405): ``python -m examples.autaptic_gate [models/autaptic-gate/1]``.

    a(t) = 1 + tanh(G_a z(t-1))      how much of the potential stays
    b(t) = 1 + tanh(G_b z(t-1))      how much of the input arrives
    h(t) = a(t) v(t-1) + b(t) W x(t)
    z(t) = H(h(t) - 1),   v(t) = h(t) - z(t)

The paper's gain ``a`` may exceed 1, and then a stream of hours grows without end: here it is at most 0.999.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from examples.training import CHANNELS, LABELS, spike, train
from export import export_step
from export.write import Report

NEURONS, LARGEST_GAIN, READOUT_DECAY = 24, 0.999, 0.9


class AutapticGate(nn.Module):
    """One gated layer and a leaky readout."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(CHANNELS, NEURONS)
        self.keep, self.take = nn.Linear(NEURONS, NEURONS, bias=False), nn.Linear(NEURONS, NEURONS, bias=False)
        self.readout = nn.Linear(NEURONS, len(LABELS))

    def initial_state(self) -> dict[str, Tensor]:
        return {
            "potential": torch.zeros(1, NEURONS),
            "spikes": torch.zeros(1, NEURONS),
            "output": torch.zeros(1, len(LABELS)),
        }

    def step(self, state: dict[str, Tensor], x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        gain = (1 + torch.tanh(self.keep(state["spikes"]))).clamp(max=LARGEST_GAIN)
        arrives = 1 + torch.tanh(self.take(state["spikes"]))
        potential = gain * state["potential"] + arrives * self.enter(x)
        spikes = spike(potential - 1)
        output = READOUT_DECAY * state["output"] + self.readout(spikes)
        return {"potential": potential - spikes, "spikes": spikes, "output": output}, output


def main(out: str = "models/autaptic-gate/1", *, updates: int = 100) -> Report:
    torch.manual_seed(0)
    network = AutapticGate()
    print(f"{train(network, updates):.0%} of new streams are right")
    return export_step(
        network,
        out=out,
        example_input=torch.zeros(1, CHANNELS),
        initial_state=network.initial_state(),
        labels=LABELS,
        decision="last",
        description="Neurons with autaptic gates that tell which half of the channels is active first.",
        input_kind="spikes",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
