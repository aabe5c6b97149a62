"""Writes a HetSyn network as a NIR file. ``export/nir/layers.py`` says which nodes it is made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.folder import AlreadyExists, ExportError, rejected_of
from export.nir import NirError
from export.nir.convention import Reset, Rule
from export.nir.layers import in_parts, whole
from export.nir.reading import nir_library
from export.nir.writer import Writer
from export.own_network import load_network
from hetsyn_model.compiled import Compiled
from hetsyn_model.network import Network
from hetsyn_model.state import Form
from hetsyn_model.training.checkpoint import Checkpoint, CheckpointFileError
from service.contract.artifact import Artifact
from service.contract.manifest import MANIFEST

DELAY_STEPS = 1  # delay of every loop
# NIR's type by HetSyn's name
RESETS: Mapping[str, Reset] = {
    "subtract": "subtract-next",
    "subtract_at_once": "subtract-at-once",
    "zero": "zero",
}
CHECKPOINT = "network.pt"  # file in an artifact


@dataclass(frozen=True)
class Written:
    """The result of an export.

    Attributes:
        path: the file.
        kernel_error: error of its worst kernel; 0 in the exact form.
        nodes: number of nodes.
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
    rejected_labels: tuple[str, ...] = (),
) -> Written:
    """Write a network as a NIR file.

    Args:
        source: a network; or an artifact folder, a checkpoint, or a file of ``Network.save()``.
        out: the file to write.
        as_lif: write LIF neurons, for importers that run no Threshold. The network must be one of LIF neurons.
        form: the form to write. None: ``exact`` if each neuron has one decay a path, else ``bank``.
        rule: rule of the file's time constants; the importer must use the same.
        labels: names of the outputs, for HetSyn's importer; empty: an artifact's own.
        rejected_labels: labels for which a server answers null; empty: an artifact's own.

    Raises:
        NirError: NIR cannot hold the network so, or the file cannot be written; the message says what to do.
        AlreadyExists: there is something at ``out``.
    """
    network, found, rejected = (source, (), ()) if isinstance(source, Network) else _open(Path(source))
    labels = labels or found
    rejected_labels = rejected_labels or tuple(name for name in rejected if name in labels)
    path = Path(out)
    if path.exists():
        raise AlreadyExists(f"{path} exists: files are never overwritten, choose another name")
    graph, chosen, error = to_nir(
        network, as_lif=as_lif, form=form, rule=rule, labels=labels, rejected_labels=rejected_labels
    )
    scratch = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            nir_library().write(scratch, graph)
            scratch.rename(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as problem:
        raise NirError(
            f"{path} cannot be written ({problem.strerror or problem}): write where there is room and you may"
        ) from problem
    return Written(path, chosen, error, len(graph.nodes), "lif" if as_lif else "faithful")


def to_nir(
    network: Network,
    *,
    as_lif: bool = False,
    form: Form | None = None,
    rule: Rule = "exponential",
    labels: tuple[str, ...] = (),
    rejected_labels: tuple[str, ...] = (),
) -> tuple[Any, Form, float]:
    """Convert a network to a ``nir.NIRGraph``. Arguments as :func:`export_nir`. Returns graph, form and kernel error.

    Raises:
        NirError: NIR cannot hold the network so; the message says what to do.
    """
    spec = network.spec
    if spec.neuron.own_name is not None:
        raise NirError(
            f"NIR has no neurons with {spec.neuron.own_name}: export the network as an artifact (hetsyn export), or "
            "train it without"
        )
    per_synapse = spec.neuron.per_synapse
    if spec.input_path.is_delayed or spec.recurrent_path.is_delayed:
        raise NirError("delays of spikes are not written to NIR: export the network as an artifact (hetsyn export)")
    if per_synapse and form == "exact":
        raise NirError(
            "each synapse has a decay of its own, for which NIR has no node: use the bank form (--form bank)"
        )
    chosen: Form = form or ("bank" if per_synapse and not as_lif else "exact")
    if chosen == "bank" and not network.banks:
        network = copy.deepcopy(network)  # the caller's network stays without banks
        network.fit_banks()
    compiled = network.compile(chosen).detach()
    errors = network.kernel_errors() if chosen == "bank" else {}
    writer = Writer(nir_library(), spec.step_s, rule)
    source = writer.add("input", writer.nir.Input(np.array([spec.channels])))
    for layer in compiled.layers:
        source = (whole if as_lif else in_parts)(writer, spec, layer, source)
    writer.add("output", writer.nir.Output(np.array([spec.outputs])), source)
    error = max(errors.values(), default=0.0)
    try:
        rejected = rejected_of(labels, rejected_labels)
    except ExportError as problem:
        raise NirError(str(problem)) from problem
    metadata = _metadata(compiled, rule, error, {"labels": labels, "rejected_labels": rejected})
    graph = writer.nir.NIRGraph(nodes=writer.nodes, edges=writer.edges, metadata=metadata, type_check=False)
    return graph, chosen, error


def _metadata(compiled: Compiled, rule: Rule, error: float, names: Mapping[str, tuple[str, ...]]) -> Mapping[str, Any]:
    spec = compiled.spec
    metadata: dict[str, Any] = {
        "hetsyn.dt": spec.step_s,
        "hetsyn.rule": rule,
        "hetsyn.reset": RESETS[spec.neuron.reset],
        "hetsyn.form": compiled.form,
        "hetsyn.kernel_error": error,
        "hetsyn.delay_steps": DELAY_STEPS,
        "hetsyn.decision": spec.decision.rule,
        "hetsyn.skip_steps": spec.decision.skip_steps,
    }
    return metadata | {f"hetsyn.{kind}": "\n".join(each) for kind, each in names.items() if each}


def _open(path: Path) -> tuple[Network, tuple[str, ...], tuple[str, ...]]:
    """Load a network, and its labels and rejected labels if they are known."""
    labels: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    file = path
    if path.is_dir():
        if versions := sorted(found.parent for found in path.glob(f"*/{MANIFEST}")):
            raise NirError(f"{path}: the folder of a model: name a version of it, such as {versions[-1]}")
        artifact = Artifact.open(path)
        labels, rejected = artifact.manifest.labels, artifact.manifest.rejected_labels
        file = artifact.folder / CHECKPOINT
        if not file.is_file():
            raise NirError(
                f"{artifact.folder}: an artifact without {CHECKPOINT}, whose network is in its graph alone: "
                "give another"
            )
    try:
        return load_network(file) or Checkpoint.load(file).network, labels, rejected
    except (ExportError, CheckpointFileError) as error:
        raise NirError(str(error)) from error
