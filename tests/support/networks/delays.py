"""Networks with delays, for tests that hold for every kind of path."""

from __future__ import annotations

from dataclasses import replace

import torch

from hetsyn_model import DecisionSpec, Network, NetworkSpec, PathSpec
from hetsyn_model.spec import InputKind, Rule
from tests.support.networks.networks import neuron_of, set_own

NONE = PathSpec()
PATHS: dict[str, tuple[PathSpec, PathSpec]] = {
    "input": (PathSpec(7), NONE),
    "input-24": (PathSpec(24), NONE),
    "input-26-taps-2": (PathSpec(26, 2), NONE),
    "recurrent": (NONE, PathSpec(5)),
    "recurrent-50-taps-2": (NONE, PathSpec(50, 2)),
    "both": (PathSpec(9, 2), PathSpec(27)),
}


def delayed_network(
    path: str,
    kind: str = "hetsyn",
    rule: Rule = "sum_softmax",
    *,
    bias: bool = False,
    input_kind: InputKind = "spikes",
    longest_everywhere: bool = False,
) -> Network:
    """A network that fires, with its banks; the same at every call.

    Args:
        path: one of ``PATHS``.
        bias: whether there is a constant drive.
        input_kind: spikes or values.
        longest_everywhere: whether every delay is the longest.
    """
    input_path, recurrent_path = PATHS[path]
    spec = NetworkSpec(
        channels=30,
        hidden=(17, 9),
        outputs=5,
        bias=bias,
        neuron=neuron_of(kind),
        decision=DecisionSpec(rule, skip_steps=3),
        input_kind=input_kind,
        input_path=input_path,
        recurrent_path=recurrent_path,
    )
    made = Network(spec, seed=3).eval()
    set_own(made, kind)
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(2.5)
            if bias:
                layer.get_parameter("b_in").normal_(0.0, 0.01)
        for name, delay in made.delays().items():
            if longest_everywhere:
                delay.fill_(made.path_of(name).max_delay_steps)
    made.fit_banks()
    return made


def without_delays(made: Network) -> NetworkSpec:
    """The description of the same network of today."""
    return replace(made.spec, input_path=NONE, recurrent_path=NONE)
