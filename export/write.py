"""Verifies an export and writes its artifact folder, all of it or nothing.

Its callers are ``own_network.py``, ``step.py`` (a torch cell), ``onnx_import.py`` and ``nir/importing.py``.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from export.evaluation import Evaluation
from export.folder import (
    GOLDEN,
    ExportError,
    Provenance,
    arrays_file,
    check_labels,
    write_folder,
)
from export.graphs.torchscript import ScriptError, traced
from export.parity import (
    TOLERANCE,
    Difference,
    Evidence,
    Exported,
    ParityError,
    Reference,
    Streams,
    Traces,
    check_evidence,
    check_same_bits,
    gather_evidence,
    graphs_by_runtime,
    script_difference,
)
from export.step_checks import first_line
from hetsyn_model.state import state_bytes
from service.contract import manifest as contract

SEGMENT = 32  # streams in memory at once during a verification
GOLDEN_STREAMS = 4

OnProgress = Callable[[str, str], None]


@dataclass(frozen=True)
class Description:
    """The manifest's entries on a model for people and servers.

    Attributes:
        labels: names of the outputs.
        step_s: duration of a step in seconds.
        description: one line for people.
        input_description: meaning of the channels.
        tail_steps: steps of silence that end a stream.
        encoder: encoder of audio or values; None for a network that takes its input unchanged.
        hidden: neurons of each hidden layer with spikes among the graph's outputs.
        rejected_labels: labels for which a server answers null.
        acceptance_threshold: least probability of a label that a server names; None: any, unless a rejected one is
            likelier.
        endpointing: settings that find utterances in a stream; None without.
        provenance: further entries.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    step_s: float
    description: str = ""
    input_description: str = ""
    tail_steps: int = 0
    encoder: contract.EncoderDescription | None = None
    hidden: tuple[int, ...] = ()
    rejected_labels: tuple[str, ...] = ()
    acceptance_threshold: float | None = None
    endpointing: contract.Endpointing | None = None
    provenance: Provenance = field(default_factory=dict)


@dataclass(frozen=True)
class Promise:
    """The manifest's entries on the numbers (``service.contract.manifest.NetworkDescription``)."""

    form: contract.FormName
    exactness: contract.Exactness
    tolerance: float = 0.0
    bank_sizes: Mapping[str, int] = field(default_factory=dict)
    kernel_error: Mapping[str, float] = field(default_factory=dict)
    spike_mismatch: float | None = None


@dataclass(frozen=True)
class Report:
    """The result of an export.

    Attributes:
        folder: the artifact.
        form: ``exact`` or ``bank``.
        tolerance: the manifest's.
        bank_sizes: decays of each layer's bank; empty without banks.
        kernel_error: relative L2 error of the worst kernel.
        spike_mismatch: share of the exact network's hidden spikes that differ in the bank; None without a bank.
        accuracy: on the evaluation's streams; None without labels.
        differences: differences of every implementation from the reference.
        company: the largest difference between a graph's runs alone, in a batch, and in chunks.
        one_at_a_time: the graph takes one stream only, so a batch is a loop.
    """

    folder: Path
    form: contract.FormName
    state_bytes: int
    file_bytes: int
    tolerance: float
    bank_sizes: Mapping[str, int]
    kernel_error: float
    spike_mismatch: float | None
    accuracy: float | None
    differences: tuple[Difference, ...]
    company: float
    one_at_a_time: bool = False


def write(
    out: Path,
    made: Exported,
    described: Description,
    promise: Promise,
    evaluation: Evaluation,
    reference: Reference,
    *,
    same_bits: bool,
    scripts: Sequence[nn.Module] = (),
    files: Mapping[str, bytes] | None = None,
    on_progress: OnProgress = lambda stage, detail: None,  # noqa: ARG005
) -> Report:
    """Verify an export and write the artifact.

    Args:
        out: folder NAME/VERSION.
        evaluation: streams to verify; their labels, if any, give the accuracy.
        same_bits: every implementation must give the reference's bits; else keep the promised tolerance.
        scripts: the step in torch; the first that traces and agrees with the reference is taken.
        files: further files, by name.
        on_progress: called with the stage that begins and a detail.

    Raises:
        ExportError: the parts do not fit together.
        ParityError: an implementation differs by more than is promised. Nothing is written.
    """
    stage = "verify the network"
    on_progress(stage, "graph")
    check_labels(described.labels, made.outputs, made.decision.rule)
    graphs, evidence, golden = graphs_by_runtime(made.graph), Evidence(), dict[str, NDArray[np.generic]]()
    script = _Script(scripts, made, 0.0 if same_bits else max(promise.tolerance, TOLERANCE))
    confusion = None if evaluation.labels is None else np.zeros((made.outputs, made.outputs), np.int64)
    for part, truth_labels, of in _segments(evaluation):
        truth = reference(part)
        found = gather_evidence(made, graphs, part, truth, lambda name, of=of: on_progress(stage, f"{name}, {of}"))  # type: ignore[misc]
        evidence = evidence.with_more(found)
        on_progress(stage, f"TorchScript, {of}")
        script.follow(part, truth)
        golden = golden or _golden(made, promise.form, part, truth)
        if truth_labels is not None and confusion is not None:
            np.add.at(confusion, (truth_labels.numpy(), truth.probabilities.argmax(-1)), 1)
    if same_bits:
        check_same_bits(evidence)
        if script.problem is not None:
            raise ParityError(script.problem)
    else:
        check_evidence(evidence, promise.tolerance)
    every = dict(files or {}) | {f"{promise.form}.onnx": made.graph}
    if script.content is not None:
        every[f"{promise.form}.pt"] = script.content
    if confusion is not None:
        golden[f"{promise.form}.confusion"] = confusion
    every[GOLDEN] = arrays_file(golden)
    accuracy = None if confusion is None else float(confusion.trace() / confusion.sum())
    provenance = dict(described.provenance) | ({} if same_bits else _measured(evidence))
    manifest = _manifest(made, described, promise, accuracy, every, provenance)
    on_progress(f"write {out}", "")
    write_folder(out, manifest, every)
    return Report(
        out,
        promise.form,
        manifest.network.state_bytes,
        len(made.graph),
        promise.tolerance,
        promise.bank_sizes,
        max(promise.kernel_error.values(), default=0.0),
        promise.spike_mismatch,
        accuracy,
        (*evidence.differences, *script.differences),
        evidence.company,
    )


class _Script:
    """TorchScript of a step, while it agrees with the reference.

    Args:
        modules: modules to trace; the first that agrees is taken.
        allowed: allowed difference; 0: the reference's bits.
    """

    def __init__(self, modules: Sequence[nn.Module], made: Exported, allowed: float) -> None:
        self._modules, self._made, self._allowed = list(modules), made, allowed
        self.content: bytes | None = None
        self.differences: tuple[Difference, ...] = ()
        self.problem: str | None = None

    def follow(self, streams: Streams, truth: Traces) -> None:
        """Run and compare further streams."""
        while self.content is not None or self._modules:
            try:
                if self.content is None:
                    self.content = traced(self._modules.pop(0), self._made.layout, self._made.channels)
                found = script_difference(self.content, self._made, streams, truth, self._allowed)
            except Exception as error:  # whatever a foreign step raises
                reason = first_line(error)
                reason = reason if isinstance(error, ScriptError) else f"the step cannot be traced ({reason})"
                self.problem = self.problem or reason
                self.content, self.differences = None, ()
                continue
            self.problem, self._modules = None, []
            self.differences = (self.differences[0].with_more(found),) if self.differences else (found,)
            return


def _segments(evaluation: Evaluation) -> Iterator[tuple[Streams, torch.Tensor | None, str]]:
    """Yield the streams in parts, with their labels and a name."""
    streams, labels, total = evaluation.streams, evaluation.labels, len(evaluation.streams.steps)
    for start in range(0, total, SEGMENT):
        chosen = slice(start, start + SEGMENT)
        of = f"streams {start + 1} to {min(start + SEGMENT, total)} of {total}"
        yield streams.of(chosen), None if labels is None else labels[chosen], of


def _golden(made: Exported, form: str, streams: Streams, truth: Traces) -> dict[str, NDArray[np.generic]]:
    """Make the golden streams: a few streams and their outputs, for a server's test of itself."""
    few, kind = streams.of(slice(GOLDEN_STREAMS)), made.input_kind
    count, longest = few.spikes.shape[:2]
    return {
        kind: few.spikes.numpy().astype(np.uint8 if kind == "spikes" else np.float32),
        "steps": few.steps.numpy(),
        f"{form}.readout": truth.readout[:count, :longest],
        f"{form}.probabilities": truth.probabilities[:count],
    }


def _measured(evidence: Evidence) -> dict[str, float]:
    from_step = max(difference.largest for difference in evidence.differences)
    return {"difference_from_step": from_step, "difference_in_company": evidence.company}


def _manifest(
    made: Exported,
    described: Description,
    promise: Promise,
    accuracy: float | None,
    files: Mapping[str, bytes],
    provenance: Provenance,
) -> contract.Manifest:
    """Make the manifest of these files, with the versions that made them.

    Raises:
        ExportError: the parts do not fit together.
    """
    made_with: dict[str, str | int | float | bool | None] = {
        "hetsyn": version_of("hetsyn"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    script = f"{promise.form}.pt"
    try:
        network = contract.NetworkDescription(
            form=promise.form,
            file=f"{promise.form}.onnx",
            torchscript=script if script in files else None,
            tolerance=promise.tolerance,
            exactness=promise.exactness,
            state=tuple(
                contract.TensorDescription(name=t.name, shape=t.shape, dtype=t.dtype, initial=t.initial)
                for t in made.layout
            ),
            state_bytes=state_bytes(made.layout),
            bank_sizes=dict(promise.bank_sizes),
            kernel_error=dict(promise.kernel_error),
            accuracy=accuracy,
            spike_mismatch=promise.spike_mismatch,
        )
        return contract.Manifest(
            format_version=contract.FORMAT_VERSION,
            name=described.name,
            version=described.version,
            description=described.description,
            labels=described.labels,
            rejected_labels=described.rejected_labels,
            acceptance_threshold=described.acceptance_threshold,
            input=contract.InputDescription(
                kind=made.input_kind,
                channels=made.channels,
                step_s=described.step_s,
                description=described.input_description,
            ),
            encoder=described.encoder,
            hidden=described.hidden,
            outputs=made.outputs,
            decision=contract.Decision(
                rule=made.decision.rule, skip_steps=made.decision.skip_steps, tail_steps=described.tail_steps
            ),
            endpointing=described.endpointing,
            network=network,
            files={
                file: contract.FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
                for file, content in files.items()
            },
            provenance=made_with | dict(provenance) | made_with,  # in this order, with this writer's own
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ExportError(f"{'.'.join(map(str, first['loc'])) or 'the model'}: {first['msg']}") from error
