"""Threshold, reset and adaptation of a layer as nodes of a graph."""

from __future__ import annotations

from typing import Any

from export.build import GraphBuilder
from hetsyn_model.spec import NetworkSpec, decay_of
from hetsyn_model.state import state_name


def fire(
    body: GraphBuilder,
    spec: NetworkSpec,
    name: str,
    threshold: str,
    before: dict[str, str],
    after: dict[str, str],
    currents: str,
) -> tuple[str, str]:
    """Threshold and reset of one layer into ``after``; potential and spikes, [batch, neurons]."""
    neuron = spec.neuron

    def scalar(value: float) -> Any:
        return body.constant(value, "float32")

    earlier = before[state_name(name, "spikes")]
    taken = body.node("Mul", threshold, earlier)
    if neuron.is_membrane:
        kept = state_name(name, "membrane")
        potential = after[kept] = body.node("Add", _left(body, spec, name, before[kept], earlier, taken), currents)
    else:
        kept = state_name(name, "reset_current")
        after[kept] = body.node("Add", body.node("Mul", f"{name}.kappa", before[kept]), taken)
        potential = body.node("Sub", currents, after[kept])
    level = threshold
    if neuron.adaptive:
        adaptation_name = state_name(name, "adaptation_current")
        adaptation = body.node(
            "Add",
            body.node("Mul", scalar(decay_of(neuron.adaptation_tau_steps)), before[adaptation_name]),
            body.node("Mul", scalar(neuron.adaptation_strength), earlier),
        )
        after[adaptation_name] = adaptation
        level = body.node("Add", level, adaptation)
    spikes = body.cast(body.node("Greater", potential, level), "float32")
    after[state_name(name, "spikes")] = spikes
    return potential, spikes


def _left(body: GraphBuilder, spec: NetworkSpec, name: str, membrane: str, spikes: str, taken: str) -> str:
    """What decay and reset leave of a membrane, as ``hetsyn_model/spike.py`` computes it."""
    kappa = f"{name}.kappa"
    if spec.neuron.membrane_reset == "subtract_at_once":
        return str(body.node("Mul", kappa, body.node("Sub", membrane, taken)))
    decayed = body.node("Mul", kappa, membrane)
    if spec.neuron.membrane_reset == "zero":
        return str(body.node("Mul", decayed, body.node("Sub", body.constant(1.0, "float32"), spikes)))
    return str(body.node("Sub", decayed, taken))
