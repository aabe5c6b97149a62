"""The named families, small: one network of each that fires."""

from __future__ import annotations

import torch

from benchmarks.families import families
from hetsyn_model import Network, NetworkSpec
from hetsyn_model.families import f_lif

SIZES = (20, (16, 12), 5)
FAMILIES = families(*SIZES) | {"f_lif, learned": NetworkSpec(*SIZES, **f_lif(learned=True))}
NO_DELAY = 8  # steps to cut chunks by where there is none


def family_network(name: str, *, longest_everywhere: bool = False) -> tuple[Network, int]:
    """The network of a family with its banks, and the steps of its longest delay, which every unit may have."""
    spec = FAMILIES[name]
    made = Network(spec, seed=1).eval()
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(3.0)
        for path, delay in made.delays().items() if longest_everywhere else ():
            delay.fill_(made.path_of(path).max_delay_steps)
    made.fit_banks()
    return made, max(spec.input_path.max_delay_steps, spec.recurrent_path.max_delay_steps) or NO_DELAY
