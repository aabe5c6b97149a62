"""Resonant neurons of one step in plain ONNX, in the order of operations of ``hetsyn_model/resonance.py``."""

from __future__ import annotations

from export.build import GraphBuilder
from hetsyn_model.state import state_name

RESONANCE = "resonance"  # of a layer: beta, A and B of its neurons, [3, neurons]


def resonate(
    body: GraphBuilder, layer: str, threshold: str, before: dict[str, str], after: dict[str, str], currents: str
) -> tuple[str, str]:
    """One step of a layer's resonant neurons into ``after``.

    Args:
        body: of the step.
        layer: the layer's name, with which its constants ``kappa`` and ``resonance`` begin.
        threshold: a value.
        before: the state's values by tensor.
        after: takes membrane, spikes and recovery.
        currents: their sum a neuron, [batch, neurons].

    Returns:
        Membrane and spikes, [batch, neurons].
    """
    membrane, spikes, recovery = (state_name(layer, name) for name in ("membrane", "spikes", "recovery"))
    one = body.constant(1.0, "float32")
    beta, of_membrane, of_spike = body.node("Split", f"{layer}.{RESONANCE}", outputs=3, axis=0, num_outputs=3)
    decayed = body.node("Mul", f"{layer}.kappa", before[membrane])
    left = body.node("Mul", decayed, body.node("Sub", one, before[spikes]))
    potential = after[membrane] = body.node("Add", left, body.node("Sub", currents, before[recovery]))
    fired = after[spikes] = body.cast(body.node("Greater", potential, threshold), "float32")
    kept = body.node("Mul", potential, body.node("Sub", one, fired))
    added = body.node("Add", body.node("Mul", of_membrane, kept), body.node("Mul", of_spike, fired))
    after[recovery] = body.node("Add", body.node("Mul", beta, before[recovery]), added)
    return potential, fired
