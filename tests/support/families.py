"""The named families, small: one network of each that fires."""

from __future__ import annotations

import torch

from hetsyn_model import Network, NetworkSpec
from hetsyn_model.families import dcls_like, delrec_like, dynap_pair, f_lif, filtered_input, se_adlif

SIZES = (20, (16, 12), 5)
# with the steps of its longest delay; of those without delays, a number to cut chunks by
FAMILIES: dict[str, tuple[NetworkSpec, int]] = {
    "DCLS": (dcls_like(*SIZES), 24),
    "DCLS, two taps": (dcls_like(*SIZES, taps=2), 24),
    "DelRec": (delrec_like(*SIZES), 48),
    "STSC's taps": (filtered_input(*SIZES), 4),
    "SE-adLIF": (NetworkSpec(*SIZES, neuron=se_adlif()), 8),
    "f-LIF": (NetworkSpec(*SIZES, **f_lif()), 8),
    "f-LIF, learned": (NetworkSpec(*SIZES, **f_lif(learned=True)), 8),
    "DYNAP-SE": (NetworkSpec(*SIZES, **dynap_pair()), 8),
}


def family_network(name: str, *, longest_everywhere: bool = False) -> tuple[Network, int]:
    """The network of a family with its banks, and the steps of its longest delay, which every unit may have."""
    spec, steps = FAMILIES[name]
    made = Network(spec, seed=1).eval()
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(3.0)
        for path, delay in made.delays().items() if longest_everywhere else ():
            delay.fill_(made.path_of(path).max_delay_steps)
    made.fit_banks()
    return made, steps
