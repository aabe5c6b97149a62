"""A temporal filter with a gate before spiking neurons (STSC-SNN, arXiv 2210.05241), made causal.

``python -m examples.temporal_filter [models/temporal-filter/1]``

    F_i(t) = sum_m f_i(m) x_i(t-m), m = 0..4                        a filter of each channel
    A(t) = 1 - sigmoid(W_2 relu(sum_m W_1(m) x(t-m) + b)), m = 0..2   a gate
    v(t) = (1 - 1/tau) v(t-1) (1 - z(t-1)) + W F(t) A(t),   z(t) = H(v(t) - 0.3)

The paper centres both sums, and so looks two steps ahead.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from examples.training import CHANNELS, LABELS, spike, train
from export import export_step
from export.write import Report

FILTER_TAPS, GATE_TAPS, GATE_UNITS, NEURONS = 5, 3, 4, 24
TAU_STEPS, THRESHOLD, READOUT_DECAY = 10.0, 0.3, 0.9


class TemporalFilter(nn.Module):
    """Filter and gate, one layer of neurons, and a leaky readout."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = nn.Parameter(
            torch.eye(FILTER_TAPS)[0].repeat(CHANNELS, 1) + 0.1 * torch.randn(CHANNELS, FILTER_TAPS)
        )
        self.squeeze = nn.Linear(GATE_TAPS * CHANNELS, GATE_UNITS)
        self.excite = nn.Linear(GATE_UNITS, CHANNELS, bias=False)
        self.enter = nn.Linear(CHANNELS, NEURONS, bias=False)
        self.readout = nn.Linear(NEURONS, len(LABELS))

    def initial_state(self) -> dict[str, Tensor]:
        return {
            "history": torch.zeros(1, CHANNELS, FILTER_TAPS - 1),  # the latest first
            "potential": torch.zeros(1, NEURONS),
            "output": torch.zeros(1, len(LABELS)),
        }

    def step(self, state: dict[str, Tensor], x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        recent = torch.cat([x.unsqueeze(-1), state["history"]], -1)
        filtered = (self.taps * recent).sum(-1)
        gate = 1 - torch.sigmoid(self.excite(torch.relu(self.squeeze(recent[..., :GATE_TAPS].flatten(1)))))
        potential = (1 - 1 / TAU_STEPS) * state["potential"] + self.enter(filtered * gate)
        spikes = spike(potential - THRESHOLD)
        output = READOUT_DECAY * state["output"] + self.readout(spikes)
        after = {"history": recent[..., :-1], "potential": potential * (1 - spikes), "output": output}
        return after, output


def main(out: str = "models/temporal-filter/1", *, updates: int = 100) -> Report:
    torch.manual_seed(0)
    network = TemporalFilter()
    print(f"{train(network, updates):.0%} of new streams are right")
    return export_step(
        network,
        out=out,
        example_input=torch.zeros(1, CHANNELS),
        initial_state=network.initial_state(),
        labels=LABELS,
        decision="last",
        description="Filtered and gated spikes that tell which half of the channels is active first.",
        input_kind="spikes",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
