"""The exact form as an ONNX graph of one step, the way that a model server's user would export it.

    spikes [batch, channels], state.NAME -> probabilities [batch, outputs], next.NAME

It is what the peers run, once a step: each synapse's current is decayed, driven and added up in float32. (The
artifact's exact graph adds up in float64, so that every implementation gives the same bits, and loops over a chunk's
steps itself.) All state begins at zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from export.evaluation import Evaluation, seeded_streams
from export.graphs.build import GraphBuilder
from export.own_network import CHECKPOINT, Source, write_artifact
from hetsyn_model.compiled import LayerWeights
from hetsyn_model.network import Network
from hetsyn_model.state import DECISION_SCORE_LOW
from hetsyn_model.synapses.synapse import ExactWeights
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.artifact import Artifact


def write_step_graph(artifact: Path, out: Path) -> None:
    """Write the step graph of the checkpoint in an artifact folder."""
    out.write_bytes(step_graph(Checkpoint.load(artifact / CHECKPOINT).network))


def step_graph(network: Network) -> bytes:
    """Make the step graph of a network.

    Raises:
        ValueError: a network of another kind than the paper's for SHD: one decay a synapse, no bias, a sum of softmax.
    """
    spec = network.spec
    if spec.neuron.decays != "synapse" or spec.neuron.adaptive or spec.bias or spec.decision.rule != "sum_softmax":
        raise ValueError("the peers run networks with a decay a synapse, no adaptation, no bias, and a sum of softmax")
    graph = GraphBuilder("step")
    x = graph.input("spikes", "float32", ["batch", spec.channels])
    compiled = network.compile("exact")
    layout = [tensor for tensor in compiled.layout if tensor.name != DECISION_SCORE_LOW]  # the peers run short streams
    before = {t.name: graph.input(f"state.{t.name}", t.dtype, ["batch", *t.shape]) for t in layout}
    after: dict[str, str] = {}
    potential = ""
    threshold = graph.constant(spec.neuron.threshold, "float32")
    for layer in compiled.layers:
        potential = _currents(graph, layer, x, before, after)
        if layer.kappa is None:
            continue
        decayed = graph.node("Mul", graph.constant(_array(layer.kappa)), before[f"{layer.name}.reset_current"])
        reset = graph.node("Add", decayed, graph.node("Mul", threshold, before[f"{layer.name}.spikes"]))
        potential = graph.node("Sub", potential, reset)
        x = graph.cast(graph.node("Greater", potential, threshold), "float32")
        after |= {f"{layer.name}.reset_current": reset, f"{layer.name}.spikes": x}

    # the decision: a mean of softmax over the steps that count, uniform before the first
    step = graph.node("Add", before["decision.step"], graph.constant(1, "int64"))
    counted = graph.unsqueeze(graph.node("Sub", step, graph.constant(spec.decision.skip_steps, "int64")), 1)
    counts = graph.node("Greater", counted, graph.constant(0, "int64"))
    gain = graph.node("Where", counts, graph.node("Softmax", potential, axis=-1), graph.constant(0.0, "float32"))
    score = graph.node("Add", before["decision.score"], gain)
    share = graph.node("Div", score, graph.cast(graph.node("Max", counted, graph.constant(1, "int64")), "float32"))
    uniform = graph.constant(1.0 / spec.outputs, "float32")
    after |= {"decision.score": score, "decision.step": step}

    for tensor in layout:
        graph.output(f"next.{tensor.name}", tensor.dtype, ["batch", *tensor.shape], after[tensor.name])
    probabilities = graph.node("Where", counts, share, uniform)
    graph.output("probabilities", "float32", ["batch", spec.outputs], probabilities)
    return graph.model()


def _currents(graph: GraphBuilder, layer: LayerWeights, x: str, before: dict[str, str], after: dict[str, str]) -> str:
    """Add the layer's currents of this step to ``after``. Returns their sum a neuron, [batch, neurons]."""
    synapses = layer.synapses
    assert isinstance(synapses, ExactWeights)
    paths = [(f"{layer.name}.input_current", x, synapses.input)]
    if synapses.recurrent is not None:
        paths.append((f"{layer.name}.recurrent_current", before[f"{layer.name}.spikes"], synapses.recurrent))
    sums = []
    for name, arriving, path in paths:
        drive = graph.node("Mul", graph.constant(_array(path.weight)), graph.unsqueeze(arriving, 1))
        after[name] = graph.node("Add", graph.node("Mul", graph.constant(_array(path.decay)), before[name]), drive)
        sums.append(graph.node("ReduceSum", after[name], graph.constant([-1], "int64"), keepdims=0))
    return sums[0] if len(sums) == 1 else str(graph.node("Add", *sums))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().numpy()


def write_exact(model: Path, out: Path) -> None:
    """Export the exact network of an artifact into ``out``, a folder NAME/VERSION."""
    saved, manifest = Checkpoint.load(model / CHECKPOINT), Artifact.describe(model).manifest
    source = Source(saved.network, out.parent.name, out.name, manifest.description, manifest.labels, "")
    streams = seeded_streams(manifest.input.channels, 0.045, streams=4, steps=50)
    write_artifact(source, Evaluation(streams), out, form="exact", with_torchscript=False)
