"""The related systems that are settings of a network, small: one of each that fires."""

from __future__ import annotations

import torch

from examples.delays import dcls_like, delrec_like, filtered_input
from hetsyn_model import Network, NetworkSpec
from hetsyn_model.spec import se_adlif


def families(channels: int, hidden: tuple[int, ...], outputs: int) -> dict[str, NetworkSpec]:
    """Describe a network of each, of these sizes."""
    sizes = (channels, hidden, outputs)
    return {
        "dcls_like": dcls_like(*sizes),
        "dcls_like, two taps": dcls_like(*sizes, taps=2),
        "delrec_like": delrec_like(*sizes),
        "filtered_input": filtered_input(*sizes),
        "se_adlif": NetworkSpec(*sizes, neuron=se_adlif()),
    }


SIZES = (20, (16, 12), 5)
FAMILIES = families(*SIZES)
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
