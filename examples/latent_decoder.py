"""Firing rates from spikes by latent oscillators, after LangevinFlow (arXiv 2507.11531), causal and without noise.

``python -m examples.latent_decoder [models/latent-decoder/1]``

    h(t) = GRU(x(t), h(t-1))
    z(t) = z(t-1) + e v(t-1)                                         coupled oscillators, U(z) = |B z|^2 / 2
    v(t) = (1 - g) (v(t-1) - e dU/dz(z(t))) + D h(t)                 damped, driven by h in place of noise
    rates(t) = sigmoid(W [z(t); v(t); h(t)] + b)                     of every neuron's next spike

The spikes are of a population that follows a Lorenz system. The rates are those of the next step: a decoder of the same
step learns to copy its spikes. The paper's decoder sees whole trials, draws v, and has exp in place of the sigmoid;
here a step has one spike of a neuron at most.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from examples.training import rollout
from export import export_step
from export.write import Report

NEURONS, LATENTS, HIDDEN, STEPS = 16, 6, 16, 60
STEP_S, STRIDE, DAMPING = 0.02, 0.3, 0.1
State = dict[str, Tensor]


def lorenz_population(streams: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw spikes and firing rates (spikes a step) of neurons that read a Lorenz system, [streams, STEPS, NEURONS]."""
    generator = torch.Generator().manual_seed(seed)
    reading = torch.randn(3, NEURONS, generator=torch.Generator().manual_seed(0))  # the same population each time
    x, y, z = torch.randn(3, streams, generator=generator) * 5 + torch.tensor([[0.0], [0.0], [25.0]])
    rates = []
    for _ in range(50 + STEPS):
        for _ in range(4):
            x, y, z = x + 0.01 * 10 * (y - x), y + 0.01 * (x * (28 - z) - y), z + 0.01 * (x * y - 8 / 3 * z)
        latent = torch.stack([x / 8, y / 9, (z - 23) / 9], -1)
        rates.append((0.6 * latent @ reading - 1.5).exp().clamp(max=0.9))
    rate = torch.stack(rates[50:], 1)  # the first ones are on the way to the attractor
    return (torch.rand(rate.shape, generator=generator) < rate).float(), rate


class LatentDecoder(nn.Module):
    """Spikes of a step in, firing rates of the population in the next step out."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.drive = nn.GRUCell(NEURONS, HIDDEN), nn.Linear(HIDDEN, LATENTS)
        self.coupling = nn.Parameter(torch.eye(LATENTS) + 0.1 * torch.randn(LATENTS, LATENTS))  # B
        self.readout = nn.Linear(2 * LATENTS + HIDDEN, NEURONS)
        nn.init.constant_(self.readout.bias, -1.5)

    def initial_state(self) -> State:
        return {"h": torch.zeros(1, HIDDEN), "z": torch.zeros(1, LATENTS), "v": torch.zeros(1, LATENTS)}

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        h = self.recurrent(x, state["h"])
        z = state["z"] + STRIDE * state["v"]
        force = z @ (self.coupling.T @ self.coupling)  # the gradient of U
        v = (1 - DAMPING) * (state["v"] - STRIDE * force) + self.drive(h)
        return {"h": h, "z": z, "v": v}, self.readout(torch.cat([z, v, h], -1)).sigmoid()


def train(decoder: LatentDecoder, updates: int) -> float:
    """Train on the likelihood of each next step's spikes.

    Returns:
        On new streams, the share of the rates' variance that the decoder explains.
    """
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    for update in range(updates):
        spikes, _ = lorenz_population(16, seed=1 + update)
        loss = nn.functional.binary_cross_entropy(rollout(decoder, spikes)[:, :-1], spikes[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        spikes, truth = lorenz_population(64, seed=0)
        error, usual = rollout(decoder, spikes)[:, :-1] - truth[:, 1:], truth - truth.mean((0, 1))
        return float(1 - error[:, 10:].square().sum() / usual[:, 11:].square().sum())


def main(out: str = "models/latent-decoder/1", *, updates: int = 150) -> Report:
    torch.manual_seed(0)
    decoder = LatentDecoder()
    print(f"explains {train(decoder, updates):.0%} of the variance of the rates in new streams")
    return export_step(
        decoder,
        out=out,
        example_input=torch.zeros(1, NEURONS),
        initial_state=decoder.initial_state(),
        labels=[f"neuron {index}" for index in range(NEURONS)],
        decision="trace",
        step_s=STEP_S,
        description="Chances that each neuron of a population, which follows a Lorenz system, spikes in the next step.",
        input_kind="spikes",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
