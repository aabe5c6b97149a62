"""Writes a layer of a HetSyn network as NIR nodes.

NIR has no synapse with a time constant, no reset that decays, and no threshold that adapts. They are made of parts: a
current with K decays is K times Linear -> LI, added up; the reset is Scale(-theta) -> LI from the neuron's own spikes
of the step before, and so is an adaptation. An LI of decay 1 is an I, and one of decay 0 is left out.

    in parts   K x (Linear -> LI) -> Threshold;  Threshold -> Scale -> LI -> Threshold;  Threshold -> K x (Linear -> LI)
               with membranes, a LIF in place of Threshold and reset, and a LI for the readout
    whole      Linear -> LIF or CubaLIF, or the four nodes of a recurrent layer, for a network of such neurons
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.nir import NirError
from export.nir.graph import Float64Array
from export.nir.writer import Writer
from hetsyn_model.compiled import LayerWeights
from hetsyn_model.spec import NetworkSpec, decay_of
from hetsyn_model.synapses.synapse import ExactWeights, SynapsePath


def in_parts(writer: Writer, spec: NetworkSpec, layer: LayerWeights, source: str) -> str:
    """Write a layer of any network.

    Args:
        source: node of its input.

    Returns:
        The node of its output: spikes, or the readout's potential.

    Raises:
        NirError: NIR has no nodes for it.
    """
    n = layer.neurons
    if spec.neuron.is_membrane:
        if spec.neuron.adaptive:
            raise NirError("NIR has no membrane whose threshold adapts: train the network without adaptation")
        target = writer.add(layer.name, _neurons(writer, layer, _array(layer.kappa, n)))
    elif layer.threshold is None:
        target = writer.add(layer.name, writer.nir.Scale(np.ones(n)))
    else:
        theta = _array(layer.threshold, n)
        target = writer.add(layer.name, writer.nir.Threshold(theta))
        writer.feedback(f"{layer.name}_reset", target, theta, _array(layer.kappa, n))
        if spec.neuron.adaptive:
            strength, fall = spec.neuron.adaptation_strength, decay_of(spec.neuron.adaptation_tau_steps)
            writer.feedback(f"{layer.name}_adaptation", target, np.full(n, strength), np.full(n, fall))
    _currents(writer, layer, source, target)
    return target


def _currents(writer: Writer, layer: LayerWeights, source: str, target: str) -> None:
    n, synapses = layer.neurons, layer.synapses
    if isinstance(synapses, ExactWeights):
        for name, start, path in (("in", source, synapses.input), ("recurrent", target, synapses.recurrent)):
            if path is not None:
                weight, decay, bias = _path(path, n)
                writer.filtered(f"{layer.name}_{name}", start, weight, decay, bias, target)
        return
    for k, decay in enumerate(synapses.decays.double().numpy()):
        columns = slice(k * n, (k + 1) * n)
        decays = np.full(n, decay)
        bias = None if synapses.bias is None else synapses.bias[columns].double().numpy()
        weight = synapses.weight_in[:, columns].T.double().numpy()
        writer.filtered(f"{layer.name}_in{k}", source, weight, decays, bias, target)
        if synapses.weight_rec is not None:
            weight = synapses.weight_rec[:, columns].T.double().numpy()
            writer.filtered(f"{layer.name}_recurrent{k}", target, weight, decays, None, target)


def whole(writer: Writer, spec: NetworkSpec, layer: LayerWeights, source: str) -> str:
    """Write a layer of LIF or CubaLIF neurons, or a readout of LI or CubaLI. Arguments as :func:`in_parts`."""
    n, synapses = layer.neurons, layer.synapses
    if not isinstance(synapses, ExactWeights) or synapses.per_synapse:
        raise NirError("the network is not LIF: each synapse has a decay of its own; write it without --as lif")
    if spec.neuron.adaptive or spec.neuron.has_own_reset:
        what = "a threshold that adapts" if spec.neuron.adaptive else "currents and resets with decays of their own"
        raise NirError(f"the network is not LIF: its neurons have {what}; write it without --as lif")
    weight, synaptic, bias = _path(synapses.input, n)
    recurrent = synapses.recurrent
    if recurrent is not None:
        inner, other, more = _path(recurrent, n)
        if (other != synaptic).any():
            raise NirError(
                f"layer {layer.name!r} has other decays for its recurrence than for its input; write it without "
                "--as lif"
            )
        bias = more if bias is None else bias if more is None else bias + more
    decay = _array(layer.kappa, n) if spec.neuron.is_membrane else synaptic
    current = synaptic if spec.neuron.is_membrane and synaptic.any() else None
    for found in (decay, *(() if current is None else (current,))):
        if not ((found > 0) & (found < 1)).all():
            raise NirError(f"layer {layer.name!r} has decays of 0 or 1, which no LIF has: write it without --as lif")
    start = writer.add(f"{layer.name}_weights", writer.weights(weight, bias), source)
    neurons = _neurons(writer, layer, decay, current)
    if recurrent is None:
        return writer.add(layer.name, neurons, start)
    nir = writer.nir
    nodes = {
        "input": nir.Input(np.array([n])),
        "lif": neurons,
        "w_rec": nir.Linear(inner),
        "output": nir.Output(np.array([n])),
    }
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    return writer.add(layer.name, nir.NIRGraph(nodes=nodes, edges=edges, type_check=False), start)


def _neurons(writer: Writer, layer: LayerWeights, decay: Float64Array, current: Float64Array | None = None) -> Any:
    """Make a node of neurons with gain 1.

    Args:
        decay: the potential's, [neurons].
        current: the current's decay, [neurons]; None without a current.
    """
    nir, n = writer.nir, layer.neurons
    zero, theta = np.zeros(n), None if layer.threshold is None else _array(layer.threshold, n)
    if current is None and (decay == 1).all():
        gain = np.full(n, 1 / writer.dt)
        return nir.I(gain) if theta is None else nir.IF(gain, theta, zero)
    if not ((decay > 0) & (decay < 1)).all():
        raise NirError(f"layer {layer.name!r} has a kappa of 0, or of 1 for some neurons, which NIR cannot hold")
    tau, gain = writer.tau(decay), 1 / (1 - decay)
    if current is None:
        return nir.LI(tau, gain, zero) if theta is None else nir.LIF(tau, gain, zero, theta, zero)
    tau_syn, jump = writer.tau(current), 1 / (1 - current)
    if theta is None:
        return nir.CubaLI(tau_syn, tau, gain, zero, jump)
    return nir.CubaLIF(tau_syn, tau, gain, zero, theta, zero, jump)


def _path(path: SynapsePath, neurons: int) -> tuple[Float64Array, Float64Array, Float64Array | None]:
    """Return weights, decay and drive of a path with one decay a neuron."""
    bias = None if path.bias is None else path.bias.double().numpy()[:, 0]
    return path.weight.double().numpy(), _array(path.decay[:, 0], neurons), bias


def _array(values: Any, neurons: int) -> Float64Array:
    return np.asarray(values.double().numpy() * np.ones(neurons))
