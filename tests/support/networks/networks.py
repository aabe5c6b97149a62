"""Every kind of neuron that a network may have, for tests that hold for all of them."""

from __future__ import annotations

from typing import get_args

import torch

from hetsyn_model import Network, NetworkSpec, NeuronSpec, PathSpec, SurrogateSpec, variant
from hetsyn_model.spec import DecisionSpec, InputKind, ResonanceSpec, Rule, Variant, se_adlif

UNFILTERED = (0.0, 0.0)
NO_DELAYS = (PathSpec(), PathSpec())
NEURONS: dict[str, NeuronSpec] = {
    "hetsyn": variant("hetsyn"),
    "hetneu": variant("hetneu"),
    "homneu": variant("homneu"),
    "alif": variant("alif"),
    "hetneu-fixed-reset": variant("hetneu", reset_tau_steps=9.0),
    "no-synapse-memory": NeuronSpec(decay_range=UNFILTERED),
    "lif": NeuronSpec(potential="membrane", decay_range=UNFILTERED),
    "lif-at-once": NeuronSpec(potential="membrane", reset="subtract_at_once", decay_range=UNFILTERED),
    "lif-zero": NeuronSpec(potential="membrane", reset="zero", decay_range=UNFILTERED),
    "cubalif-zero": NeuronSpec(
        potential="membrane", reset="zero", decays="shared", tau_init_steps=(4, 4), learn_decays=False
    ),
    "cubalif-neuron": NeuronSpec(potential="membrane", decays="neuron", tau_init_steps=(3, 9)),
    "hetsyn-membrane": NeuronSpec(potential="membrane", reset="subtract_at_once", tau_reset_steps=5.0),
    "alif-zero": NeuronSpec(
        potential="membrane", reset="zero", decay_range=UNFILTERED, adaptation_strength=0.1, adaptation_tau_steps=30.0
    ),
    "se-adlif": se_adlif(),
    # a bank before it, and constants with which it swings within a test's steps
    "hetsyn-resonance": NeuronSpec(
        potential="membrane",
        reset="zero",
        tau_init_steps=(1.0, 5.0),
        resonance=ResonanceSpec((2.0, 6.0), (5.0, 20.0), largest_b=1.0, gain=20.0),
    ),
}
# the same, with thresholds and kappas that differ by neuron
OWN = ("hetsyn-own", "lif-own", "lif-zero-own", "cubalif-neuron-own")
KINDS = (*NEURONS, *OWN)
# each kind with rules whose readout has a threshold and has none; the paper's models and a LIF with more
CASES: list[tuple[str, Rule]] = [
    (kind, rule)
    for kind in KINDS
    for rule in get_args(Rule)
    if rule in ("spike_count", "last")
    or kind == "hetsyn"
    or (rule != "late_softmax" and kind in (*get_args(Variant), "lif-zero"))
]


def neuron_of(kind: str) -> NeuronSpec:
    return NEURONS[kind.removesuffix("-own")]


def small_network(
    kind: str,
    rule: Rule,
    *,
    channels: int = 30,
    recurrent: bool = True,
    bias: bool = False,
    input_kind: InputKind = "spikes",
    paths: tuple[PathSpec, PathSpec] = NO_DELAYS,
    surrogate: SurrogateSpec | None = None,
) -> Network:
    """A network of a kind that fires, with its banks; the same at every call.

    Args:
        bias: whether there is a constant drive.
        paths: into each layer, and from a layer back to it.
    """
    spec = NetworkSpec(
        channels=channels,
        hidden=(17, 9),
        outputs=5,
        recurrent=recurrent,
        bias=bias,
        neuron=neuron_of(kind),
        surrogate=surrogate or SurrogateSpec(),
        decision=DecisionSpec(rule, skip_steps=3),
        input_kind=input_kind,
        input_path=paths[0],
        recurrent_path=paths[1],
    )
    made = Network(spec, seed=3).eval()
    set_own(made, kind)
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(2.0)
            if bias:
                layer.get_parameter("b_in").normal_(0.0, 0.01)
    made.fit_banks()
    return made


@torch.no_grad()
def set_own(network: Network, kind: str) -> None:
    """Give each neuron of an ``-own`` kind another threshold and kappa."""
    if not kind.endswith("-own"):
        return
    for layer in network.named_layers().values():
        for values, low, high in ((layer.threshold, 0.6, 1.3), (layer.kappa, 0.6, 1.0)):
            if values is not None:
                values.copy_(torch.linspace(low, high, layer.neurons, dtype=torch.float64))
