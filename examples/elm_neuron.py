"""An ELM neuron (arXiv 2306.16922, first version): ``python -m examples.elm_neuron [models/elm-neuron/1]``.

s(t) = k_s s(t-1) + relu(w) x(t)                    synapses, one time constant
d(t) = 1.7159 tanh(2/3 MLP([s(t); k_m m(t-1)]))
m(t) = k_m m(t-1) + l (1 - k_m) d(t)                memories, time constants on a logarithmic scale
y(t) = W m(t)
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from examples.training import CHANNELS, LABELS, train
from export import export_step
from export.write import Report

MEMORIES, STEP_S = 10, 1e-3
SYNAPSE_TAU_S, MEMORY_TAU_S = 5e-3, (1e-3, 0.5)  # the slowest outlasts a stream
GAIN = 5.0  # l


class ElmNeuron(nn.Module):
    """One neuron with ``CHANNELS`` synapses."""

    synapse_decay: Tensor
    memory_decay: Tensor

    def __init__(self) -> None:
        super().__init__()
        fastest, slowest = MEMORY_TAU_S
        tau_s = torch.logspace(torch.tensor(fastest).log10(), torch.tensor(slowest).log10(), MEMORIES)
        self.register_buffer("synapse_decay", torch.exp(torch.tensor(-STEP_S / SYNAPSE_TAU_S)))
        self.register_buffer("memory_decay", torch.exp(-STEP_S / tau_s))
        self.weight = nn.Parameter(torch.full((CHANNELS,), 0.5))
        self.mlp = nn.Sequential(
            nn.Linear(CHANNELS + MEMORIES, 2 * MEMORIES), nn.ReLU(), nn.Linear(2 * MEMORIES, MEMORIES)
        )
        self.readout = nn.Linear(MEMORIES, len(LABELS))

    def initial_state(self) -> dict[str, Tensor]:
        return {"synapses": torch.zeros(1, CHANNELS), "memories": torch.zeros(1, MEMORIES)}

    def step(self, state: dict[str, Tensor], x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        synapses = self.synapse_decay * state["synapses"] + torch.relu(self.weight) * x
        kept = self.memory_decay * state["memories"]
        change = 1.7159 * torch.tanh(2 / 3 * self.mlp(torch.cat([synapses, kept], -1)))
        memories = kept + GAIN * (1 - self.memory_decay) * change
        return {"synapses": synapses, "memories": memories}, self.readout(memories)


def main(out: str = "models/elm-neuron/1", *, updates: int = 100) -> Report:
    torch.manual_seed(0)
    neuron = ElmNeuron()
    print(f"{train(neuron, updates):.0%} of new streams are right")
    return export_step(
        neuron,
        out=out,
        example_input=torch.zeros(1, CHANNELS),
        initial_state=neuron.initial_state(),
        labels=LABELS,
        decision="last",
        step_s=STEP_S,
        description="An ELM neuron that tells which half of its synapses is active first.",
        input_kind="spikes",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
