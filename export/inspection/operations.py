"""Counts the operations and the memory traffic of a network's step from its weights.

Synaptic operations are those of NeuroBench (Yik et al., Nature Communications 16, 1545, 2025; "Synaptic Operations" in
the documentation of its metrics): connections times activations of the layer before. Dense counts
all of them; effective leaves out activations and weights of zero. With binary activations they are accumulates (ACs),
with others multiply-accumulates (MACs). They do not include biases, nor what a neuron does with its state.

This module counts the state's operations too: a current is multiplied by its decay in every step, with or without a
spike, and added to a potential. ``docs/explanation/performance.md`` has the formulas and what is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import Manifest, TensorDescription

Numbers = NDArray[np.float64]
FLOAT32_BYTES = 4
# energy of one float32 operation at 45 nm and 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about
# it)", ISSCC 2014, pages 10-14
ADDITION_PJ, MULTIPLICATION_PJ = 0.9, 3.7
CURRENTS = ("input_current", "recurrent_current", "bank_current")  # state of synapses
# state of neurons, and the multiplications of a step that it costs: its decay, and what a membrane adds to a recovery
NEURON_STATE = {"reset_current": 1, "membrane": 1, "adaptation_current": 1, "recovery": 2}
KNOWN_STATE = {*CURRENTS, *NEURON_STATE, "spikes", "input_history", "recurrent_history"}


class Fanout(NamedTuple):
    """Connections of each unit of a source to one layer, through all taps of a delayed path.

    Attributes:
        of_unit: [units], connections with a weight other than 0.
        dense: connections of all units, including weights of 0.
        row_bytes: bytes of all weights of one unit, including weights of 0.
    """

    of_unit: Numbers
    dense: int
    row_bytes: int


@dataclass(frozen=True)
class Source:
    """Units with spikes that cause operations: the network's input, or the neurons of a layer.

    Attributes:
        name: ``input``, or the layer's name.
        fanouts: to the next layer, and to the own layer if it is recurrent.
        resets: additions for a spike in its own neuron: the reset, and the adaptation or recovery.
        is_binary: the activations are spikes, not values.
    """

    name: str
    fanouts: tuple[Fanout, ...]
    resets: int = 0
    is_binary: bool = True


@dataclass(frozen=True)
class Work:
    """The cost of a network's step: a constant part, and one for each spike.

    Attributes:
        synaptic_decays: synaptic currents; each step multiplies each by its decay and adds it to a potential.
        neuron_decays: the same for reset and adaptation currents and membranes; recovery currents count twice.
        biases: constant drives; each step adds them.
        scalings: sums of 16-bit weights; each step multiplies them by a power of two and adds them to their current.
        macs: multiply-accumulates of values that are never 0 (LSTM).
        constant_bytes: decays and other weights that every step reads.
        state_bytes: a stream's state without its decision. A step reads and writes all of it.
    """

    sources: tuple[Source, ...]
    synaptic_decays: int
    neuron_decays: int
    biases: int
    scalings: int
    macs: int
    constant_bytes: int
    state_bytes: int


@dataclass(frozen=True)
class Operations:
    """The operations of one step, means over the measured spikes.

    Attributes:
        dense: synaptic operations, NeuroBench's ``Dense``.
        effective_macs: NeuroBench's ``Effective_MACs``.
        effective_acs: NeuroBench's ``Effective_ACs``.
        synaptic_decays: multiplications by the decays of synapses or of a bank.
        neuron_decays: multiplications by the decays of resets, membranes, adaptations and recoveries, and of a
            membrane into its recovery.
        multiplications: decays and MACs.
        additions: ACs, MACs, decayed values into potentials, scaled sums, resets and biases.
        scalings: multiplications by a power of two, not counted above.
        weight_bytes_read: weights of the spiking units, decays and other constants.
        state_bytes_read: a stream's state.
        state_bytes_written: the same.
    """

    dense: float
    effective_macs: float
    effective_acs: float
    synaptic_decays: float
    neuron_decays: float
    multiplications: float
    additions: float
    scalings: float
    weight_bytes_read: float
    state_bytes_read: float
    state_bytes_written: float

    @property
    def arithmetic_nj(self) -> float:
        """Compute the energy of additions and multiplications in float32 at 45 nm, without memory or control."""
        return (self.additions * ADDITION_PJ + self.multiplications * MULTIPLICATION_PJ) / 1000

    def to_dict(self) -> dict[str, float]:
        """Return all numbers by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"arithmetic_nj": self.arithmetic_nj}


def sizes(manifest: Manifest) -> dict[str, int]:
    """List the neurons of each layer by name."""
    hidden = {f"hidden{number}": neurons for number, neurons in enumerate(manifest.hidden, 1)}
    return hidden | {"readout": manifest.outputs}


def count(work: Work, activity: Mapping[str, Numbers | float]) -> Operations:
    """Count the operations of a step.

    Args:
        activity: by source, the share of steps in which each unit is not 0: [units], or one number for all.
    """
    effective = {True: 0.0, False: float(work.macs)}  # by whether the activations are binary
    dense, resets, rows_bytes = float(work.macs), 0.0, 0.0
    for source in work.sources:
        units = len(source.fanouts[0].of_unit) if source.fanouts else 1
        rate = np.broadcast_to(np.asarray(activity[source.name], np.float64), (units,))
        resets += source.resets * float(rate.sum())
        for fanout in source.fanouts:
            dense += fanout.dense
            effective[source.is_binary] += float(rate @ fanout.of_unit)
            rows_bytes += float(rate.sum()) * fanout.row_bytes
    decays = work.synaptic_decays + work.neuron_decays
    return Operations(
        dense=dense,
        effective_macs=effective[False],
        effective_acs=effective[True],
        synaptic_decays=work.synaptic_decays,
        neuron_decays=work.neuron_decays,
        multiplications=decays + effective[False],
        additions=effective[True] + effective[False] + decays + work.scalings + work.biases + resets,
        scalings=work.scalings,
        weight_bytes_read=rows_bytes + work.constant_bytes,
        state_bytes_read=work.state_bytes,
        state_bytes_written=work.state_bytes,
    )


def work_of_network(
    tensors: Mapping[str, NDArray[Any]],
    state: Sequence[TensorDescription],
    sizes: Mapping[str, int],
    channels: int,
    *,
    is_binary: bool = True,
) -> Work:
    """Count the work of a network as it is served.

    Args:
        tensors: the graph's constants, by the exporter's names.
        sizes: neurons of each layer, in order.
        is_binary: the input is spikes, not values.

    Raises:
        ValueError: the tensors are not such a network's, or its neurons' equations are unknown here.
    """
    kept = {name: [t for t in state if t.name.startswith(f"{name}.")] for name in sizes}
    words = {
        name: {t.name.removeprefix(f"{name}."): prod(t.shape) for t in described} for name, described in kept.items()
    }
    if unknown := {part for parts in words.values() for part in parts} - KNOWN_STATE:
        raise ValueError(f"nobody has counted what the state {', '.join(sorted(unknown))} costs")
    units, own = channels, tuple[Fanout, ...]()
    sources, before = list[Source](), ("input", 0)
    for name, neurons in sizes.items():
        fanout = _fanout(tensors, f"{name}.weight_in", units)
        sources.append(Source(before[0], (fanout, *own), before[1], is_binary or before[0] != "input"))
        recurrent = f"{name}.weight_rec" in tensors
        own = (_fanout(tensors, f"{name}.weight_rec", neurons),) if recurrent else ()
        resets = sum(part in NEURON_STATE for part in words[name]) if "spikes" in words[name] else 0
        before, units = (name, resets), neurons
    if before[1]:  # the outputs spike
        sources.append(Source(before[0], (Fanout(np.zeros(units), 0, 0),), before[1]))
    of_layers = [(name.rpartition(".")[2], array) for name, array in tensors.items() if name.split(".")[0] in sizes]
    return Work(
        sources=tuple(sources),
        synaptic_decays=sum(count for parts in words.values() for part, count in parts.items() if part in CURRENTS),
        neuron_decays=sum(
            count * NEURON_STATE.get(part, 0) for parts in words.values() for part, count in parts.items()
        ),
        biases=sum(array.size for name, array in of_layers if name.startswith("bias_")),
        scalings=sum(array.size for name, array in of_layers if name == "scale"),
        macs=0,
        constant_bytes=sum(array.nbytes for name, array in of_layers if not name.startswith("weight_")),
        state_bytes=sum(tensor.bytes for described in kept.values() for tensor in described),
    )


def _fanout(tensors: Mapping[str, NDArray[Any]], name: str, units: int) -> Fanout:
    weights, delays = tensors.get(name), tensors.get(name.replace("weight", "delay"))
    taps = 1 if delays is None else delays.size // units
    if weights is None or weights.ndim != 2 or weights.shape[0] != taps * units:
        raise ValueError(f"{name} is not there, or not of {units} units")
    connections = np.count_nonzero(weights.reshape(taps, units, -1), axis=(0, 2)).astype(np.float64)
    return Fanout(connections, weights.size, taps * weights.shape[1] * weights.itemsize)


def all_connected(channels: int, sizes: Mapping[str, int], recurrent: bool, *, is_binary: bool = True) -> Work:
    """Count a network's connections by its sizes, as if all weights were float32 and none 0. State is not counted."""
    fanouts = {}
    units = channels
    for name, neurons in sizes.items():
        fanouts[f"{name}.weight_in"] = np.ones((units, neurons), np.float32)
        if recurrent and name != "readout":
            fanouts[f"{name}.weight_rec"] = np.ones((neurons, neurons), np.float32)
        units = neurons
    return work_of_network(fanouts, (), sizes, channels, is_binary=is_binary)


def lif_work(connected: Work, sizes: Mapping[str, int], *, own_decays: bool) -> Work:
    """Count leaky integrate-and-fire neurons with the same connections, in their smallest form (Propositions 1 and 3).

    One potential a neuron, ``v_j(t) = rho_j v_j(t-1) + sum_i w_ji x_i(t) - theta z_j(t-1)``, and its spike.

    Args:
        connected: a network with a weight a synapse, for its connections.
        sizes: neurons of each layer, in order.
        own_decays: each neuron has a decay (HetNeu). False: all share one (LIF).
    """
    neurons = sum(sizes.values())
    sources = tuple(Source(s.name, s.fanouts, int(s.name in sizes), s.is_binary) for s in connected.sources)
    spiking = sum(sizes.get(source.name, 0) for source in sources)
    return Work(
        sources=sources,
        synaptic_decays=0,
        neuron_decays=neurons,
        biases=0,
        scalings=0,
        macs=0,
        constant_bytes=neurons * FLOAT32_BYTES if own_decays else 0,
        state_bytes=(neurons + spiking) * FLOAT32_BYTES,
    )


def lstm_work(channels: int, hidden: Sequence[int], outputs: int, *, is_binary: bool = True) -> Work:
    """Count layers of LSTM cells, one after the other, and a linear readout.

    ``i, f, o = sigmoid(...)``, ``g = tanh(...)``, ``c = f c + i g``, ``h = o tanh(c)``: beside its weights a cell
    multiplies three times, as NeuroBench counts it. Biases, sigmoid and tanh are not counted. No ``h`` is 0.

    Args:
        hidden: cells of each layer.
        is_binary: the input is spikes, so only the spikes' weights are accumulated.
    """
    first = 4 * hidden[0]
    row = Fanout(np.full(channels, float(first)), channels * first, first * FLOAT32_BYTES)
    weights = sum(4 * cells * cells for cells in hidden) + hidden[-1] * outputs
    weights += sum(4 * cells * inputs for inputs, cells in pairwise(hidden))
    return Work(
        sources=(Source("input", (row,), is_binary=is_binary),),
        synaptic_decays=0,
        neuron_decays=0,
        biases=0,
        scalings=0,
        macs=weights + 3 * sum(hidden),
        constant_bytes=weights * FLOAT32_BYTES,
        state_bytes=2 * sum(hidden) * FLOAT32_BYTES,
    )


def lstm_values(channels: int, hidden: Sequence[int], outputs: int) -> int:
    """Count the trained values of an LSTM of ``lstm_work``, with one bias a gate and one an output."""
    inputs = (channels, *hidden)
    gates = sum(4 * cells * (units + cells + 1) for units, cells in zip(inputs, hidden, strict=False))
    return gates + (hidden[-1] + 1) * outputs


def lstm_hidden(channels: int, hidden: Sequence[int], outputs: int, values: int) -> list[int]:
    """Size the layers of the largest LSTM in the proportion of ``hidden`` with at most ``values`` trained values."""
    cells = wider = [1] * len(hidden)
    width = 1
    while lstm_values(channels, wider, outputs) <= values:
        cells = wider
        width += 1
        wider = [max(1, round(width * neurons / max(hidden))) for neurons in hidden]
    return cells
