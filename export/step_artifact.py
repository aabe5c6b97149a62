"""A step becomes an artifact folder: verified, described and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from export.folder import ExportError, arrays_file, assemble_manifest, check_absent, check_labels, check_name
from export.folder import write_folder as write
from export.step_graph import InputKind, StepGraph, chunk_graph, step_layout
from export.step_parity import (
    TOLERANCE,
    Reference,
    StepDifference,
    StepEvidence,
    Trace,
    check_evidence,
    gather_evidence,
)
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import state_bytes
from service.contract import manifest as contract
from service.contract.graph_io import Float32Array
from service.runtime.onnx import load_graph

GRAPH_FILE, SCRIPT_FILE, GOLDEN_FILE = "exact.onnx", "exact.pt", "golden.npz"
GOLDEN_STREAMS = 4


@dataclass(frozen=True)
class StepDescription:
    """What the manifest says of a step.

    Attributes:
        labels: names of the outputs.
        decision: how scores come about.
        step_s: duration of a step in seconds.
        description: one line for people.
        input_kind: what the network takes.
        input_description: of the channels.
        tail_steps: steps of silence that end a stream.
        tolerance: see ``service.contract.manifest.NetworkDescription``.
        encoder: of audio whose samples are the values; None without.
        rejected_labels: labels that answer null when they are the likeliest.
        provenance: further entries.
    """

    labels: tuple[str, ...]
    decision: DecisionSpec
    step_s: float
    description: str = ""
    input_kind: InputKind = "values"
    input_description: str = ""
    tail_steps: int = 0
    tolerance: float = TOLERANCE
    encoder: contract.EncoderDescription | None = None
    rejected_labels: tuple[str, ...] = ()
    provenance: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """What came of an export.

    Attributes:
        folder: the artifact.
        state_bytes: of one session.
        file_bytes: of the ONNX graph.
        tolerance: that the manifest states.
        differences: of every implementation from the step by itself.
        company: the largest difference between the graph's runs alone, in a batch, and in chunks.
        without_torchscript: why the artifact has none; None if it has.
        one_at_a_time: the step takes one stream only, so a batch is a loop.
    """

    folder: Path
    state_bytes: int
    file_bytes: int
    tolerance: float
    differences: list[StepDifference]
    company: float
    without_torchscript: str | None
    one_at_a_time: bool


# makes TorchScript, and how far its traces are from these of the streams
MakeScript = Callable[[Sequence[Float32Array], Sequence[Trace]], tuple[bytes, StepDifference]]


class ScriptError(ValueError):
    """A step that TorchScript cannot hold; the message says why."""


def check_request(out: Path, description: StepDescription) -> None:
    """Check what can be checked before anything runs.

    Raises:
        ExportError: a name, a duration or a tolerance that no manifest can have.
        FileExistsError: there is something at ``out``.
    """
    check_name(out.parent.name, out.name)
    check_absent(out)
    if not 0 < description.step_s < float("inf"):
        raise ExportError(f"step_s is {description.step_s:g}: give the duration of a step in seconds, above 0")
    if not 0 <= description.tolerance <= 1:
        raise ExportError(f"tolerance is {description.tolerance:g}: give 0 to 1, for example {TOLERANCE:g}")


def write_step(
    out: Path,
    step: StepGraph,
    description: StepDescription,
    streams: Sequence[Float32Array],
    reference: Reference,
    make_script: MakeScript | None = None,
) -> StepReport:
    """Verify a step in its chunk graph and write the artifact.

    Args:
        out: folder NAME/VERSION.
        step: the step as ONNX.
        description: of the model.
        streams: [steps, channels] each, that verify it.
        reference: the step by itself.
        make_script: its TorchScript; None for a step that has none.

    Raises:
        ExportError: labels do not fit.
        ParityError: the graph differs from the step by more than the tolerance. Nothing is written.
        FileExistsError: there is something at ``out``.
    """
    decision, kind = description.decision, description.input_kind
    check_labels(description.labels, step.outputs, decision.rule)
    content = chunk_graph(step, decision, kind)
    evidence = gather_evidence(load_graph(content), step, decision, kind, streams, reference)
    check_evidence(evidence, description.tolerance)
    files = {GRAPH_FILE: content, GOLDEN_FILE: arrays_file(_golden(kind, streams, evidence.truth))}
    differences, problem = list(evidence.differences), None if make_script else "the model came as ONNX"
    if make_script is not None:
        try:
            files[SCRIPT_FILE], difference = make_script(streams, evidence.truth)
            differences.append(difference)
        except ScriptError as error:
            problem = str(error)
    try:
        manifest = _manifest(out, step, description, files, evidence)
    except ValidationError as error:
        first = error.errors()[0]
        raise ExportError(f"{'.'.join(map(str, first['loc'])) or 'the model'}: {first['msg']}") from error
    write(out, manifest, files)
    return StepReport(
        out,
        manifest.network.state_bytes,
        len(content),
        description.tolerance,
        differences,
        evidence.company,
        problem,
        step.one_at_a_time,
    )


def _manifest(
    out: Path, step: StepGraph, description: StepDescription, files: Mapping[str, bytes], evidence: StepEvidence
) -> contract.Manifest:
    decision = description.decision
    layout = step_layout(step, decision)
    network = contract.NetworkDescription(
        form="exact",
        file=GRAPH_FILE,
        torchscript=SCRIPT_FILE if SCRIPT_FILE in files else None,
        tolerance=description.tolerance,
        exactness=contract.usual_exactness(description.tolerance, description.input_kind, has_bank=False),
        state=tuple(
            contract.TensorDescription(name=t.name, shape=t.shape, dtype=t.dtype, initial=t.initial) for t in layout
        ),
        state_bytes=state_bytes(layout),
        bank_sizes={},
        kernel_error={},
    )
    return assemble_manifest(
        name=out.parent.name,
        version=out.name,
        description=description.description,
        labels=description.labels,
        rejected_labels=description.rejected_labels,
        input=contract.InputDescription(
            kind=description.input_kind,
            channels=step.channels,
            step_s=description.step_s,
            description=description.input_description,
        ),
        encoder=description.encoder,
        hidden=(),
        outputs=step.outputs,
        decision=contract.Decision(
            rule=decision.rule, skip_steps=decision.skip_steps, tail_steps=description.tail_steps
        ),
        network=network,
        files=files,
        provenance={**description.provenance, **_measured(evidence)},
    )


def _measured(evidence: StepEvidence) -> dict[str, float]:
    from_step = max(difference.largest for difference in evidence.differences)
    return {"difference_from_step": from_step, "difference_in_company": evidence.company}


def _golden(kind: InputKind, streams: Sequence[Float32Array], truth: Sequence[Trace]) -> dict[str, np.ndarray]:
    chosen = list(zip(streams, truth, strict=True))[:GOLDEN_STREAMS]
    lengths = [len(values) for values, _ in chosen]
    inputs = np.zeros((len(chosen), max(lengths), streams[0].shape[1]), np.float32)
    readout = np.zeros((len(chosen), max(lengths), len(truth[0].scores)), np.float32)
    for index, (values, trace) in enumerate(chosen):
        inputs[index, : len(values)], readout[index, : len(values)] = values, trace.readout
    return {
        kind: inputs.astype(np.uint8) if kind == "spikes" else inputs,
        "steps": np.array(lengths, np.int64),
        "exact.readout": readout,
        "exact.probabilities": np.stack([trace.probabilities for _, trace in chosen]),
    }
