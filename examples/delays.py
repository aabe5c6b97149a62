"""Networks whose spikes have delays, after three papers: ``python -m examples.delays [dcls|delrec|stsc] [FOLDER]``.

Delays are settings of HetSyn's own networks, so each is trained and exported as they are.

"Like": range of the delays, time constants, thresholds and resets are the papers'. Other than there, nothing is
normalised between the layers, a spike needs a potential above the threshold (theirs: at or above), the surrogate is
Gaussian (theirs: ATan), and first delays are drawn over the whole range. Nothing is said of their accuracy.
"""

from __future__ import annotations

import math
import sys

import torch

from examples.training import CHANNELS, LABELS, draw
from export import export_network
from hetsyn_model import Network, NetworkSpec, NeuronSpec, PathSpec


def _leaky(tau_steps: float, threshold: float = 1.0) -> NeuronSpec:
    """A leaky integrator that keeps 1 - 1 / tau of its potential a step, and that a spike empties."""
    kept = 1.0 - 1.0 / tau_steps
    return NeuronSpec(
        potential="membrane",
        reset="zero",
        decay_range=(0.0, 0.0),
        threshold=threshold,
        tau_reset_steps=-1.0 / math.log(kept),
    )


def dcls_like(channels: int, hidden: tuple[int, ...], outputs: int, *, taps: int = 1) -> NetworkSpec:
    """Delays of 0 to 240 ms before every layer, no recurrence, next to no other memory (arXiv 2306.17670, SHD).

    The paper learns a delay for each synapse; here a unit has ``taps`` delays, each with weights of its own. The paper
    lets 12 silent steps come after each layer's input, which its decision counts.

    Args:
        channels: of the input; the paper's 140, of which more than one spike a step counts once here.
        hidden: neurons of each hidden layer; the paper's (256, 256).
        outputs: classes.
        taps: delays a unit.
    """
    return NetworkSpec(
        channels,
        hidden,
        outputs,
        recurrent=False,
        dropout=0.4,
        step_s=0.01,
        neuron=_leaky(1.005),
        input_path=PathSpec(24, taps),
    )


def delrec_like(channels: int, hidden: tuple[int, ...], outputs: int) -> NetworkSpec:
    """One delay a neuron of up to 0.48 s on its way back to its layer (arXiv 2509.24852, SHD).

    Args:
        channels: of the input.
        hidden: neurons of each hidden layer; the paper's (256, 256), of which only the second is recurrent.
        outputs: classes.
    """
    return NetworkSpec(
        channels, hidden, outputs, dropout=0.4, step_s=0.01, neuron=_leaky(1.05), recurrent_path=PathSpec(48)
    )


def filtered_input(channels: int, hidden: tuple[int, ...], outputs: int) -> NetworkSpec:
    """Five fixed taps of each unit, of this step and the four before: a causal filter (arXiv 2210.05241, STSC).

    The paper's filter looks two steps ahead and has one coefficient a channel and tap; here each synapse has one. The
    paper filters the input alone, this network the spikes into every layer. The paper's gate is left out, and its
    outputs: 100, of which five vote for each class.

    Args:
        channels: of the input.
        hidden: neurons of each hidden layer; the paper's (128, 128).
        outputs: classes.
    """
    path = PathSpec(4, 5, learn_delays=False, initial="even")
    return NetworkSpec(
        channels, hidden, outputs, recurrent=False, step_s=0.06, neuron=_leaky(10.0, 0.3), input_path=path
    )


NETWORKS = {"dcls": dcls_like, "delrec": delrec_like, "stsc": filtered_input}


def train(network: Network, updates: int) -> float:
    """Train on the bursts of ``examples/training.py``; spikes are spread over delays, ever less, then not at all.

    Returns:
        The share of 256 new streams whose class is found.
    """
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()
    for update in range(updates):
        network.delay_spread = max(3.0 * (1.0 - 1.5 * update / updates), 0.0) if update < 0.75 * updates else None
        x, label = draw(32, generator)
        loss = torch.nn.functional.nll_loss(network.rollout(x).probabilities.clamp_min(1e-9).log(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.clamp_decays_()
    network.eval()
    with torch.no_grad():
        x, label = draw(256, generator)
        return float((network.rollout(x).scores.argmax(-1) == label).float().mean())


def main(name: str = "delrec", out: str = "", *, updates: int = 80) -> Network:
    if name not in NETWORKS:
        raise SystemExit(f"there is no network {name!r}: give one of {', '.join(NETWORKS)}")
    torch.manual_seed(0)
    network = Network(NETWORKS[name](CHANNELS, (24,), len(LABELS)))
    with torch.no_grad():
        for layer in network.layers:
            layer.get_parameter("w_in").mul_(2.0)  # of eight channels few fire
    print(f"{train(network, updates):.0%} of new streams are right")
    export_network(network, out=out or f"models/{name}/1", labels=LABELS)
    return network


if __name__ == "__main__":
    main(*sys.argv[1:])
