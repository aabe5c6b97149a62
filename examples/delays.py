"""Networks with delays of spikes, after three papers: ``python -m examples.delays [dcls|delrec|stsc] [FOLDER]``.

Delays are settings of HetSyn's own networks, so each is trained and exported as they are. The delays' range, the time
constants, thresholds and resets are the papers'. Four things differ: nothing is normalised between the layers, a spike
needs a potential above the threshold (theirs: at or above), the surrogate is Gaussian (theirs: ATan), and first delays
are drawn over the whole range. The papers' accuracy was not tried.
"""

from __future__ import annotations

import math
import sys

import torch

from examples.training import CHANNELS, LABELS, draw
from export import export_network
from hetsyn_model import Network, NetworkSpec, NeuronSpec, PathSpec


def _leaky(tau_steps: float, threshold: float = 1.0) -> NeuronSpec:
    """Describe a leaky integrator: it keeps 1 - 1 / tau of its potential a step, and a spike empties it."""
    kept = 1.0 - 1.0 / tau_steps
    return NeuronSpec(
        potential="membrane",
        reset="zero",
        decay_range=(0.0, 0.0),
        threshold=threshold,
        tau_reset_steps=-1.0 / math.log(kept),
    )


def dcls_like(channels: int, hidden: tuple[int, ...], outputs: int, *, taps: int = 1) -> NetworkSpec:
    """Describe DCLS's network (arXiv 2306.17670, SHD): delays of 0 to 240 ms before every layer, and no recurrence.

    The paper learns a delay for each synapse; here a unit has ``taps`` delays, each with weights of its own. The paper
    adds 12 silent steps after each layer's input, and its decision counts them. It has 140 channels, where several
    spikes of a step count (here once), and hidden layers of 256 and 256 neurons.
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
    """Describe DelRec's network (arXiv 2509.24852, SHD): a neuron's spikes reach its layer after up to 0.48 s.

    The paper has hidden layers of 256 and 256 neurons, and only the second is recurrent.
    """
    return NetworkSpec(
        channels, hidden, outputs, dropout=0.4, step_s=0.01, neuron=_leaky(1.05), recurrent_path=PathSpec(48)
    )


def filtered_input(channels: int, hidden: tuple[int, ...], outputs: int) -> NetworkSpec:
    """Describe STSC's filter (arXiv 2210.05241), made causal: each unit has taps of this step and of the four before.

    The paper's filter looks two steps ahead and has one coefficient a channel and tap; here each synapse has one. The
    paper filters the input alone, this network the spikes into every layer. The paper's gate is left out, and so are
    its 100 outputs, of which five vote for each class. Its hidden layers have 128 and 128 neurons.
    """
    path = PathSpec(4, 5, learn_delays=False, initial="even")
    return NetworkSpec(
        channels, hidden, outputs, recurrent=False, step_s=0.06, neuron=_leaky(10.0, 0.3), input_path=path
    )


NETWORKS = {"dcls": dcls_like, "delrec": delrec_like, "stsc": filtered_input}


def train(network: Network, updates: int) -> float:
    """Train on the bursts of ``examples/training.py``. Returns the share of 256 new streams that get their class.

    Spikes are spread over delays, less and less, and at last not at all.
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
