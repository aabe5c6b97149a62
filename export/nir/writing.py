"""A HetSyn network as a NIR graph.

NIR has no synapse with a time constant of its own, no reset that decays, and no threshold that adapts. Its parts have:
a current with K decays is K times Linear -> LI, added up; the reset is Scale(-theta) -> LI from the neuron's own
spikes of the step before, and so is an adaptation. An LI of decay 1 is an I, and one of decay 0 is nothing.

    faithful   K x (Linear -> LI) -> Threshold;  Threshold -> Scale -> LI -> Threshold;  Threshold -> K x (Linear -> LI)
    lif        Linear -> LIF, or the four nodes of a recurrent layer, for a network that is LIF
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from export.nir.convention import Reset, Rule
from export.nir.errors import NirError
from export.nir.reading import nir_library
from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec, decay_of
from hetsyn_model.state import Form
from hetsyn_model.synapse import ExactWeights, SynapsePath
from service.contract.artifact import Artifact

Float64Array = NDArray[np.float64]
DELAY_STEPS = 1  # of every loop
CHECKPOINT = "network.pt"  # of an artifact


@dataclass
class Writer:
    """Collects nodes and edges.

    Attributes:
        nir: the library.
        dt: duration of a step in seconds.
        rule: of the time constants.
        nodes: by name.
        edges: between them.
    """

    nir: Any
    dt: float
    rule: Rule
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: Any, *sources: str) -> str:
        """A node, and an edge from each source to it."""
        node.metadata = {"hetsyn.dt": self.dt, "hetsyn.rule": self.rule}
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def tau(self, decay: Float64Array) -> Float64Array:
        """The time constant of a decay between 0 and 1, by the rule."""
        return -self.dt / np.log(decay) if self.rule == "exponential" else self.dt / (1 - decay)

    def weights(self, weight: Float64Array, bias: Float64Array | None) -> Any:
        return self.nir.Linear(weight) if bias is None else self.nir.Affine(weight, bias)

    def filtered(
        self, name: str, source: str, weight: Float64Array, decay: Float64Array, bias: Float64Array | None, target: str
    ) -> None:
        """``source -> weights -> LI -> target``: a current I(t) = decay * I(t-1) + W x(t) + b for each neuron.

        Args:
            name: that the nodes' names begin with.
            source: node of x.
            weight: W, [neurons, inputs].
            decay: [neurons].
            bias: b, [neurons]; None without.
            target: node that the current goes to.
        """
        kinds = {"li": (decay > 0) & (decay < 1), "i": decay == 1, "jump": decay == 0}
        present = {kind: rows for kind, rows in kinds.items() if rows.any()}
        for kind, rows in present.items():
            part = name if len(present) == 1 else f"{name}_{kind}"
            mine, drive = weight * rows[:, None], None if bias is None else bias * rows
            end = self.add(f"{part}_weights", self.weights(mine, drive), source)
            if kind == "li":
                inside = np.where(rows, decay, 0.5)
                zero = np.zeros(len(decay))
                end = self.add(f"{part}_current", self.nir.LI(self.tau(inside), 1 / (1 - inside), zero), end)
            elif kind == "i":
                end = self.add(f"{part}_current", self.nir.I(np.full(len(decay), 1 / self.dt)), end)
            self.edges.append((end, target))

    def feedback(self, name: str, neuron: str, size: float, decay: Float64Array) -> None:
        """What a neuron's own spikes of the step before take off its potential: J = decay * J + size * z."""
        n = len(decay)
        end = self.add(f"{name}_size", self.nir.Scale(np.full(n, -size)), neuron)
        if (decay == 1).all():
            end = self.add(f"{name}_current", self.nir.I(np.full(n, 1 / self.dt)), end)
        elif ((decay > 0) & (decay < 1)).all():
            end = self.add(f"{name}_current", self.nir.LI(self.tau(decay), 1 / (1 - decay), np.zeros(n)), end)
        elif decay.any():
            raise NirError(
                f"{name!r} has decays of 0 or 1 for some of its neurons, which NIR cannot hold beside others: keep "
                "them between 0 and 1 by decay_range"
            )
        self.edges.append((end, neuron))


@dataclass(frozen=True)
class Written:
    """What came of an export.

    Attributes:
        path: the file.
        form: of the network that was written.
        kernel_error: of its worst kernel; 0 in the exact form.
        nodes: number of them.
        kind: ``faithful`` or ``lif``.
    """

    path: Path
    form: Form
    kernel_error: float
    nodes: int
    kind: Literal["faithful", "lif"]


def export_nir(
    source: Network | str | Path,
    *,
    out: str | Path,
    as_lif: bool = False,
    form: Form | None = None,
    rule: Rule = "exponential",
    labels: tuple[str, ...] = (),
) -> Written:
    """Write a network as a NIR file.

    Args:
        source: a network; or an artifact folder, a checkpoint, or a file of ``Network.save()``.
        out: the file to write.
        as_lif: write LIF neurons, for importers that run no Threshold. Only a network of LIF neurons can be.
        form: that is written. Without it ``exact`` where a neuron has one decay a path, else ``bank``.
        rule: of the file's time constants; the importer has to use the same.
        labels: names of the outputs, which our importer takes; without them those of an artifact.

    Raises:
        NirError: NIR cannot hold the network so; the message says what to do.
        FileExistsError: there is something at ``out``.
    """
    network, found = (source, ()) if isinstance(source, Network) else _open(Path(source))
    path = Path(out)
    if path.exists():
        raise FileExistsError(f"{path} exists: files are never overwritten, choose another name")
    graph, chosen, error = to_nir(network, as_lif=as_lif, form=form, rule=rule, labels=labels or found)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    try:
        nir_library().write(scratch, graph)
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)
    return Written(path, chosen, error, len(graph.nodes), "lif" if as_lif else "faithful")


def to_nir(
    network: Network,
    *,
    as_lif: bool = False,
    form: Form | None = None,
    rule: Rule = "exponential",
    labels: tuple[str, ...] = (),
) -> tuple[Any, Form, float]:
    """A network as a ``nir.NIRGraph``, the form that it is of, and its kernel error. Arguments as :func:`export_nir`.

    Raises:
        NirError: NIR cannot hold the network so; the message says what to do.
    """
    spec = network.spec
    per_synapse = spec.neuron.decays == "synapse"
    if as_lif:
        _check_lif(spec)
    if per_synapse and form == "exact":
        raise NirError(
            "each synapse has a decay of its own, for which NIR has no node: use the bank form (--form bank)"
        )
    chosen: Form = form or ("bank" if per_synapse else "exact")
    compiled = network.compile(chosen).detach()
    errors = network.kernel_errors() if chosen == "bank" else {}
    writer = Writer(nir_library(), spec.step_s, rule)
    source = writer.add("input", writer.nir.Input(np.array([spec.channels])))
    for layer in compiled.layers:
        source = _lif(writer, spec, layer, source) if as_lif else _faithful(writer, spec, layer, source)
    if source == "readout":
        writer.add("output", writer.nir.Output(np.array([spec.outputs])), source)
    error = max(errors.values(), default=0.0)
    metadata = _metadata(compiled, rule, error, "subtract-next" if as_lif else None, labels)
    graph = writer.nir.NIRGraph(nodes=writer.nodes, edges=writer.edges, metadata=metadata, type_check=False)
    return graph, chosen, error


def _metadata(
    compiled: Compiled, rule: Rule, error: float, reset: Reset | None, labels: tuple[str, ...]
) -> Mapping[str, Any]:
    spec = compiled.spec
    metadata: dict[str, Any] = {
        "hetsyn.dt": spec.step_s,
        "hetsyn.rule": rule,
        "hetsyn.form": compiled.form,
        "hetsyn.kernel_error": error,
        "hetsyn.delay_steps": DELAY_STEPS,
        "hetsyn.decision": spec.decision.rule,
        "hetsyn.skip_steps": spec.decision.skip_steps,
    }
    if reset is not None:
        metadata["hetsyn.reset"] = reset
    return metadata | ({"hetsyn.labels": "\n".join(labels)} if labels else {})


def _faithful(writer: Writer, spec: NetworkSpec, layer: LayerWeights, source: str) -> str:
    """A layer in parts; returns the node of its spikes, or ``output`` for a readout without spikes."""
    n = layer.neurons
    if layer.reset_decay is None:
        target = writer.add("output", writer.nir.Output(np.array([n])))
    else:
        target = writer.add(layer.name, writer.nir.Threshold(np.full(n, spec.neuron.threshold)))
    _currents(writer, layer, source, target)
    if layer.reset_decay is not None:
        decay = layer.reset_decay.double().numpy() * np.ones(n)
        writer.feedback(f"{layer.name}_reset", target, spec.neuron.threshold, decay)
        if spec.neuron.adaptive:
            fall = np.full(n, decay_of(spec.neuron.adaptation_tau_steps))
            writer.feedback(f"{layer.name}_adaptation", target, spec.neuron.adaptation_strength, fall)
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


def _path(path: SynapsePath, neurons: int) -> tuple[Float64Array, Float64Array, Float64Array | None]:
    """Weights, decay and drive of a path with one decay a neuron."""
    decay = path.decay.double().numpy()[:, 0] * np.ones(neurons)
    bias = None if path.bias is None else path.bias.double().numpy()[:, 0]
    return path.weight.double().numpy(), decay, bias


def _check_lif(spec: NetworkSpec) -> None:
    neuron = spec.neuron
    if not neuron.tied or neuron.adaptive:
        what = "a threshold that adapts" if neuron.adaptive else "currents and resets with decays of their own"
        raise NirError(f"the network is not LIF: its neurons have {what}; write it without --as lif")


def _lif(writer: Writer, spec: NetworkSpec, layer: LayerWeights, source: str) -> str:
    """A layer of LIF neurons; the readout, which does not spike, is LI."""
    assert isinstance(layer.synapses, ExactWeights), "tied decays have no bank"
    n = layer.neurons
    weight, decay, bias = _path(layer.synapses.input, n)
    if not ((decay > 0) & (decay < 1)).all():
        raise NirError(f"layer {layer.name!r} has decays of 0 or 1, which no LIF has: write it without --as lif")
    tau, gain, zero = writer.tau(decay), 1 / (1 - decay), np.zeros(n)
    if layer.synapses.recurrent is not None and layer.synapses.recurrent.bias is not None:
        more = layer.synapses.recurrent.bias.double().numpy()[:, 0]
        bias = more if bias is None else bias + more
    start = writer.add(f"{layer.name}_weights", writer.weights(weight, bias), source)
    if layer.reset_decay is None:
        return writer.add(layer.name, writer.nir.LI(tau, gain, zero), start)
    neurons = writer.nir.LIF(tau, gain, zero, np.full(n, spec.neuron.threshold), zero)
    if layer.synapses.recurrent is None:
        return writer.add(layer.name, neurons, start)
    nir = writer.nir
    inner = nir.NIRGraph(
        nodes={
            "input": nir.Input(np.array([n])),
            "lif": neurons,
            "w_rec": nir.Linear(layer.synapses.recurrent.weight.double().numpy()),
            "output": nir.Output(np.array([n])),
        },
        edges=[("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
        type_check=False,
    )
    return writer.add(layer.name, inner, start)


def _open(path: Path) -> tuple[Network, tuple[str, ...]]:
    """A network from disk, and its labels where they are known."""
    labels: tuple[str, ...] = ()
    file = path
    if path.is_dir():
        labels = Artifact.open(path).manifest.labels
        file = path / CHECKPOINT
        if not file.is_file():
            raise NirError(
                f"{path}: an artifact without {CHECKPOINT}, whose network is in its graph alone: give another"
            )
    try:
        saved = torch.load(file, weights_only=True)
        network = saved["network"] if isinstance(saved, dict) and "network" in saved else saved
        return Network.load(network), labels
    except OSError as error:
        raise NirError(f"{file}: cannot be read ({error.strerror}): give an artifact or a checkpoint") from error
    except (KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise NirError(
            f"{file}: neither an artifact nor a checkpoint nor a file of Network.save() ({reason}): give one of them"
        ) from error
