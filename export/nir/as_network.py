"""Converts a NIR graph to a HetSyn network, if possible: the operator then runs it, the same to the bit in any batch.

It is possible if every layer is weights and neurons, or weights alone at the end: Input -> (Linear | Affine ->
neurons)+ -> Output. Neurons may have weights back to themselves. Gains are multiplied into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from export.nir.dynamics import Neurons, Program
from export.nir.graph import IDENTITY, INPUT, INTEGRATORS, NEURONS, OUTPUT, WEIGHTS, Float64Array, Node
from hetsyn_model.layer import Layer
from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec, Reset

# HetSyn's name for NIR's type
RESETS: Mapping[str, Reset] = {
    "subtract-next": "subtract",
    "subtract-at-once": "subtract_at_once",
    "zero": "zero",
}


@dataclass(frozen=True)
class _Found:
    """One layer of a chain.

    Attributes:
        weights: Linear or Affine from the layer before.
        neurons: node of the neurons; None at the end of a chain of weights.
        back: weights of the recurrence; None without.
    """

    weights: Node
    neurons: Node | None
    back: Node | None


def network_of(program: Program, decision: DecisionSpec, step_s: float) -> Network | None:
    """Convert a graph to a network; None if it cannot be one.

    Args:
        program: the graph in steps.
        step_s: duration of a step in seconds.
    """
    layers = _chain(program)
    if layers is None or len(layers) < 2 or not _are_ours(program, layers, decision):
        return None
    neurons = [None if layer.neurons is None else program.neurons[layer.neurons.name] for layer in layers]
    filtered = any(each is not None and each.current_decay is not None for each in neurons)
    resets = [each.reset for each in neurons if each is not None and each.reset is not None]
    spec = NetworkSpec(
        channels=layers[0].weights.values["weight"].shape[1],
        hidden=tuple(layer.weights.values["weight"].shape[0] for layer in layers[:-1]),
        outputs=layers[-1].weights.values["weight"].shape[0],
        recurrent=any(layer.back is not None for layer in layers),
        bias=any("bias" in node.values for layer in layers for node in (layer.weights, layer.back) if node is not None),
        step_s=step_s,
        neuron=NeuronSpec(
            decays="neuron",
            potential="membrane",
            reset=RESETS[resets[0]],
            learn_decays=False,
            decay_range=(0.0, 1.0) if filtered else (0.0, 0.0),
        ),
        decision=decision,
    )
    network = Network(spec)
    with torch.no_grad():
        for layer, found, each in zip(network.named_layers().values(), layers, neurons, strict=True):
            _fill(layer, found, each)
    return network.eval()


@torch.no_grad()
def run_network(program: Program, network: Network, values: Float64Array) -> dict[str, Float64Array]:
    """Run the network on streams. Returns what :func:`export.nir.cell.run_cell` does for a cell."""
    layers = _chain(program)
    assert layers is not None
    rolled = network.rollout(torch.from_numpy(values).float(), "exact")
    readout = rolled.readout
    traces = [spikes.double().numpy() for spikes in rolled.hidden_spikes]
    threshold = network.layer("readout").thresholds()
    output = (readout if threshold is None else readout > threshold).double().numpy()
    names = [layer.neurons.name for layer in layers if layer.neurons is not None]
    found = dict(zip(names, [*traces, output], strict=False))
    return found | {program.graph.of_kind(OUTPUT)[0].name: output}


def _chain(program: Program) -> list[_Found] | None:
    """Find the layers from Input to Output; None if there are other nodes."""
    graph = program.graph
    used = set(program.order.names)

    def following(name: str) -> list[str]:
        found: list[str] = []
        for target in graph.targets(name):
            if target in used:
                found += following(target) if graph.nodes[target].kind == IDENTITY else [target]
        return found

    layers: list[_Found] = []
    name = graph.of_kind(INPUT)[0].name
    counted = 2  # Input and Output
    while True:
        ahead = following(name)
        back = None
        if layers and layers[-1].neurons is not None:
            loops = [target for target in ahead if following(target) == [name]]
            if len(loops) > 1 or any(graph.nodes[loop].kind not in WEIGHTS for loop in loops):
                return None
            back = graph.nodes[loops[0]] if loops else None
            ahead = [target for target in ahead if target not in loops]
            layers[-1] = replace(layers[-1], back=back)
            counted += len(loops)
        if len(ahead) != 1:
            return None
        node = graph.nodes[ahead[0]]
        if node.kind == OUTPUT:
            identities = sum(graph.nodes[each].kind == IDENTITY for each in used)
            return layers if counted + identities == len(used) else None
        after = following(node.name)
        if node.kind not in WEIGHTS or len(after) != 1:
            return None
        end = graph.nodes[after[0]]
        if end.kind == OUTPUT:
            layers.append(_Found(node, None, None))
            name = node.name
            counted += 1
        elif end.kind in NEURONS:
            layers.append(_Found(node, end, None))
            name = end.name
            counted += 2
        else:
            return None


def _are_ours(program: Program, layers: list[_Found], decision: DecisionSpec) -> bool:
    *hidden, last = layers
    if any(layer.neurons is None or layer.neurons.kind in INTEGRATORS for layer in hidden) or last.back is not None:
        return False
    spikes = last.neurons is not None and last.neurons.kind not in INTEGRATORS
    if spikes != decision.counts_spikes:
        return False
    neurons = [program.neurons[layer.neurons.name] for layer in layers if layer.neurons is not None]
    at_rest = all(not (each.offset.any() or each.initial.any() or each.reset_to.any()) for each in neurons)
    # "at least the threshold" becomes "above the next lower float", unless the threshold is subtracted too
    exact = all(not each.multiple and (not each.reached or each.reset in ("zero", None)) for each in neurons)
    positive = all(each.threshold is None or bool((each.threshold > 0).all()) for each in neurons)
    return at_rest and exact and positive and len({each.reset for each in neurons if each.reset is not None}) == 1


def _fill(layer: Layer, found: _Found, neurons: Neurons | None) -> None:
    """Copy a chain's numbers into a layer; each is rounded once, to float32."""
    gain: Float64Array = np.ones(()) if neurons is None else neurons.gain * neurons.current_gain
    rows = np.broadcast_to(gain, (layer.neurons,))[:, None]
    layer.w_in.copy_(torch.from_numpy(found.weights.values["weight"] * rows))
    if layer.b_in is not None:
        layer.b_in.copy_(torch.from_numpy(_bias(found.weights, layer.neurons) * rows))
    decay = np.zeros(()) if neurons is None or neurons.current_decay is None else neurons.current_decay
    decays = torch.from_numpy(np.broadcast_to(decay, (layer.neurons,)).copy())[:, None]
    for values in (layer.r_in, layer.r_rec):
        if values is not None:
            values.copy_(decays.expand_as(values) if values.shape[0] > 1 else decays[:1])
    if layer.w_rec is not None:
        weight = np.zeros((layer.neurons,) * 2) if found.back is None else found.back.values["weight"] * rows
        layer.w_rec.copy_(torch.from_numpy(weight))
    if layer.b_rec is not None:
        bias = np.zeros((layer.neurons, 1)) if found.back is None else _bias(found.back, layer.neurons) * rows
        layer.b_rec.copy_(torch.from_numpy(bias))
    if layer.kappa is not None:
        layer.kappa.copy_(torch.as_tensor(0.0 if neurons is None else neurons.decay).expand_as(layer.kappa))
    if layer.threshold is not None and neurons is not None and neurons.threshold is not None:
        threshold = neurons.threshold
        if neurons.reached:
            threshold = np.nextafter(threshold.astype(np.float32), np.float32(-np.inf)).astype(np.float64)
        layer.threshold.copy_(torch.as_tensor(threshold).expand_as(layer.threshold))


def _bias(node: Node, neurons: int) -> Float64Array:
    return node.values.get("bias", np.zeros(neurons))[:, None]
