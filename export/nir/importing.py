"""Imports a NIR file as an artifact: reads it, converts it to steps, judges it on a probe, and exports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from export.folder import artifact_path
from export.nir import NirError
from export.nir.as_network import network_of, run_network
from export.nir.cell import CountingCell, NirCell, run_cell
from export.nir.convention import STEP_S, Convention, convention, number_of
from export.nir.dynamics import Program, program_of
from export.nir.graph import IDENTITY, INPUT, INTEGRATORS, OUTPUT, SPIKING, Graph
from export.nir.probe import Fidelity, Run, measure
from export.nir.reading import from_nir, read_graph
from export.own_network import export_network
from export.step import export_step
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.spec import Rule as DecisionRule

InputKind = Literal["spikes", "values"]


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        folder: the artifact.
        convention: the convention of the steps.
        fidelity: the verdict, with what was measured.
        notes: what was read differently from how it is written, and what was assumed.
        runs_as: ``operator`` for a HetSyn network: the same to the bit in any batch and any chunks. Else ``cell``: the
            same within the manifest's tolerance.
    """

    folder: Path
    convention: Convention
    fidelity: Fidelity
    notes: tuple[str, ...]
    runs_as: Literal["operator", "cell"]


def import_nir(
    source: str | Path | Any,
    *,
    out: str | Path,
    dt: float | None = None,
    rule: str | None = None,
    reset: str | None = None,
    producer: str | None = None,
    spikes: str | None = None,
    labels: Sequence[str] | None = None,
    rejected_labels: Sequence[str] | None = None,
    decision: DecisionRule | None = None,
    skip_steps: int | None = None,
    step_s: float | None = None,
    description: str = "",
    input_kind: InputKind = "spikes",
    probe: Any = None,
) -> Imported:
    """Import a NIR graph into ``out``, a folder NAME/VERSION that does not exist yet.

    NIR stores no step, integration rule or reset. Give them, or the producer; files of :func:`export.export_nir` have
    them. The import is refused if one is missing and matters.

    Args:
        source: a NIR file, or a ``nir.NIRGraph``.
        out: the folder to write.
        dt: duration of a step, in the unit of the file's time constants (seconds, by NIR).
        rule: ``euler`` or ``exponential``.
        reset: ``zero``, ``subtract``, or a kind of it, ``subtract-at-once`` or ``subtract-next``
            (``export/nir/convention.py``).
        producer: ``snntorch``, ``norse``, ``spikingjelly`` or ``sinabs``: its defaults hold for what is not given.
        spikes: ``single``, or ``multiple``: as many in a step as a potential holds thresholds (Sinabs's default).
        labels: names of the outputs; None: the file's, else 0, 1, …
        rejected_labels: labels for which a server answers null; None: the file's.
        decision: rule of the decision; None: ``spike_count`` for an Output of spikes, else ``sum_softmax``. With
            several spikes in a step the cell itself counts, and the rule is ``last``.
        skip_steps: number of first steps that do not count.
        step_s: duration of a step in seconds, if the file's unit of time is not the second.
        description: one line for people.
        input_kind: what streams carry. A network of ``values`` takes spikes too, as ones.
        probe: [stream, steps, channels], streams for the verdict; None: seeded spikes.

    Raises:
        NirError: the file, a node or a loop cannot be imported; the message says what to do. Nothing is written.
        ExportError: labels or the folder do not fit.
        AlreadyExists: there is something at ``out``.
    """
    graph = read_graph(Path(source)) if isinstance(source, str | Path) else from_nir(source)
    chosen = convention(dt=dt, rule=rule, reset=reset, producer=producer, spikes=spikes, metadata=graph.metadata)
    program = program_of(graph, chosen)
    is_guess = step_s is None and (producer in STEP_S or (dt is None and producer is not None) or chosen.dt is None)
    step_s = step_s or STEP_S.get(producer or "") or chosen.dt or 1e-3
    assumed = f"the file does not say how long a step is, so {1000 * step_s:g} ms are assumed: give --step-s"
    skipped = int(number_of(graph.metadata, "skip_steps", 0) or 0) if skip_steps is None else skip_steps
    if skipped < 0:
        raise NirError(f"skip_steps is {skipped}: give 0 or more")
    rule_of = DecisionSpec(decision or _decision(graph), skipped)
    network = network_of(program, rule_of, step_s) if input_kind == "spikes" else None
    cell = NirCell(program).eval()
    run: Run = partial(run_cell, cell) if network is None else partial(run_network, program, network)
    fidelity = measure(program, run, None if probe is None else np.asarray(probe, np.float64))
    provenance = {**fidelity.provenance(), **_chosen(program.convention), "nir.producer": producer or ""}
    if graph.notes:
        provenance["nir.read_otherwise"] = "; ".join(graph.notes)
    folder = artifact_path(out)
    names = _labels(graph, program, labels)
    written = _text(graph.metadata.get("hetsyn.rejected_labels", "")).split("\n")
    # the given labels may differ from the file's
    rejected = [name for name in written if name in names] if rejected_labels is None else rejected_labels
    description = description or f"from NIR: {', '.join(_layers(graph, program))}"
    if network is not None:
        export_network(
            network,
            out=folder,
            labels=names,
            rejected_labels=rejected,
            form="exact",
            description=description,
            provenance=provenance,
        )
    else:
        is_counted = rule_of.counts_spikes and program.convention.multiple
        if is_counted and skipped:
            raise NirError("several spikes in a step are counted from the first step on: give skip_steps 0")
        module = CountingCell(cell) if is_counted else cell
        export_step(
            module,
            out=folder,
            example_input=torch.zeros(1, _channels(program)),
            initial_state=module.initial_state(),
            labels=names,
            rejected_labels=rejected,
            decision="last" if is_counted else rule_of.rule,
            skip_steps=rule_of.skip_steps,
            step_s=step_s,
            description=description,
            input_kind=input_kind,
            provenance=provenance,
        )
    notes = (*graph.notes, assumed) if is_guess else graph.notes
    return Imported(folder, program.convention, fidelity, notes, "cell" if network is None else "operator")


def _channels(program: Program) -> int:
    return prod(program.shapes[program.graph.of_kind(INPUT)[0].name])


def _labels(graph: Graph, program: Program, labels: Sequence[str] | None) -> tuple[str, ...]:
    outputs = prod(program.shapes[graph.of_kind(OUTPUT)[0].name])
    if labels is None:
        written = _text(graph.metadata.get("hetsyn.labels", ""))
        labels = written.split("\n") if written else [str(index) for index in range(outputs)]
    if len(labels) != outputs:
        raise NirError(f"{len(labels)} labels for {outputs} outputs: give --labels with one name an output")
    return tuple(labels)


def _decision(graph: Graph) -> DecisionRule:
    written = _text(graph.metadata.get("hetsyn.decision", ""))
    if written in get_args(DecisionRule):
        return written  # type: ignore[return-value]
    return "spike_count" if _gives_spikes(graph, graph.of_kind(OUTPUT)[0].name) else "sum_softmax"


def _gives_spikes(graph: Graph, name: str) -> bool:
    if graph.nodes[name].kind in (OUTPUT, IDENTITY, "Delay", "Flatten"):
        return all(_gives_spikes(graph, source) for source in graph.sources(name))
    return graph.nodes[name].kind in SPIKING


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _chosen(chosen: Convention) -> dict[str, str | float | None]:
    return {"nir.dt": chosen.dt, "nir.rule": chosen.rule, "nir.reset": chosen.reset}


def _layers(graph: Graph, program: Program) -> list[str]:
    """Describe the neurons of each layer."""
    spiking = [name for name in program.order.names if graph.nodes[name].kind in (*SPIKING, *INTEGRATORS)]
    return [f"{prod(program.shapes[name])} {graph.nodes[name].kind}" for name in spiking[:8]]
