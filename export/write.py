"""Write an artifact folder: all of it, verified, or nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from export.default_form import default_form, spike_mismatch
from export.encoder_graph import OPERATOR as ENCODER_OPERATOR
from export.encoders import ENCODER_FILE, EncoderParts, encoder_parts
from export.evaluation import Evaluation
from export.folder import (
    GOLDEN,
    arrays_file,
    assemble_manifest,
    check_absent,
    check_labels,
    check_name,
    write_folder,
)
from export.network_graph import OPERATOR, network_graph
from export.parity import Difference, ParityError, Streams, run_torch, started_layout, verify_encoder, verify_form
from export.served_kernels import kernel_provenance
from export.stream_start import quiet_provenance, stream_start
from export.torchscript import torchscript
from hetsyn_model.compiled import Compiled
from hetsyn_model.level_crossing import AnyEncoderSpec
from hetsyn_model.network import Network
from hetsyn_model.quiet import QuietStart
from hetsyn_model.spec import ERROR_BOUND
from hetsyn_model.state import FORMS, Form, state_bytes
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract import manifest as contract
from service.contract.graph_io import Float32Array
from service.contract.initial import ENCODER, array_name
from service.runtime.onnx import Graph, load_graph, operators_problem
from service.runtime.operators import library

CHECKPOINT, INITIAL_FILE = "network.pt", "initial.npz"
SEGMENT = 32  # streams that a verification holds in memory at once, in the exact form

OnProgress = Callable[[str, str], None]


@dataclass(frozen=True)
class Source:
    """A network and its description in the manifest.

    Attributes:
        network: what is exported; it is not changed.
        name: of the model.
        version: of the model.
        description: one line for people.
        labels: names of the outputs.
        input_description: meaning of the channels.
        encoder: of the audio or the values; None for a network that takes spikes, or values as they are.
        tail_steps: steps of silence that end a stream.
        provenance: further entries of the manifest.
        experiment: the run that made the network, for the checkpoint's copy; None without.
        config: of its training, for the same; None without.
        endpointing: how utterances are found in a stream; None where nobody has chosen it.
        quiet_steps: silence in whose state a stream begins.
        rejected_labels: labels that answer null when they are the likeliest.
        acceptance_threshold: least probability of a label that is named; None: any, unless a rejected one is likelier.
    """

    network: Network
    name: str
    version: str
    description: str
    labels: tuple[str, ...]
    input_description: str
    encoder: AnyEncoderSpec | None = None
    tail_steps: int = 0
    provenance: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    experiment: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    endpointing: contract.Endpointing | None = None
    quiet_steps: int = 0
    rejected_labels: tuple[str, ...] = ()
    acceptance_threshold: float | None = None


@dataclass(frozen=True)
class FormReport:
    """What ``hetsyn export`` prints.

    Attributes:
        form: ``exact`` or ``bank``.
        state_bytes: of one session.
        file_bytes: of the ONNX graph.
        bank_sizes: decays of each layer's bank; empty in an exact network.
        kernel_error: relative L2 error of the worst kernel.
        spike_mismatch: of a bank, hidden spikes that differ from those of the exact network, over those; else None.
        accuracy: on the evaluation's streams; None without labels.
        differences: of every implementation from torch.
    """

    form: Form
    state_bytes: int
    file_bytes: int
    bank_sizes: dict[str, int]
    kernel_error: float
    spike_mismatch: float | None
    accuracy: float | None
    differences: list[Difference]


@dataclass(frozen=True)
class _Verified:
    """One form, exported and verified.

    Attributes:
        graph: serialised ONNX.
        script: serialised TorchScript; None without.
        differences: of every implementation from torch.
        hidden: torch's hidden spikes, of every segment of the evaluation and every layer.
        confusion: streams by their class and by the one that torch finds, int64 [outputs, outputs]; None where the
            evaluation has no labels.
        golden: a few streams and their traces.
        initial: values that the state begins with, by tensor; empty where each tensor has one.
    """

    graph: bytes
    script: bytes | None
    differences: list[Difference]
    hidden: list[Float32Array]
    confusion: NDArray[np.int64] | None
    golden: dict[str, NDArray[np.generic]]
    initial: dict[str, Float32Array]


def write_artifact(
    source: Source,
    evaluation: Evaluation,
    out: Path,
    *,
    bank_size: int | None = None,
    error_bound: float = ERROR_BOUND,
    whole_range: bool = False,
    form: Form | None = None,
    audio: torch.Tensor | None = None,
    with_torchscript: bool = True,
    on_progress: OnProgress = lambda stage, detail: None,  # noqa: ARG005
) -> FormReport:
    """Export a network into ``out``, a folder NAME/VERSION that does not exist yet.

    Args:
        source: the network and its description.
        evaluation: verified in every implementation; its labels, if any, give the accuracy.
        out: the folder to write.
        bank_size: decays a layer; without it the smallest number that meets the error bound.
        error_bound: relative L2 error of the worst kernel.
        whole_range: whether the banks are those of all decays that training may reach, see
            :meth:`hetsyn_model.network.Network.fit_banks`.
        form: ``exact``: each synapse has its own decay; ``bank``: they share a few. None: a bank that is next to the
            same network, else the form with the smaller state (:func:`export.default_form.default_form`).
        audio: float32 [stream, whole steps], or values [stream, steps, channels], to verify the encoder with; noise
            and silence, or random values, where there is none.
        with_torchscript: whether the artifact gets the step as TorchScript, which no server needs.
        on_progress: called with what begins: one of a handful of stages, and a detail, which may be empty.

    Returns:
        What was measured.

    Raises:
        ParityError: implementations disagree, or a kernel is off by more than the bound. Nothing is written.
        BankError: no bank meets the bound.
        ExportError: the labels do not fit the outputs, the form cannot be served, or nothing is silence
            to the encoder.
        ArtifactPathError: a name or version that no server reads.
        FileExistsError: there is something at ``out``.
    """
    check_name(source.name, source.version)
    check_absent(out)
    check_labels(source.labels, source.network.spec.outputs, source.network.spec.decision.rule)
    network = copy.deepcopy(source.network).float().eval()
    errors = dict.fromkeys(network.spec.layer_names, 0.0)
    if form != "exact":
        on_progress("fit the bank", "")
        errors = network.fit_banks(size=bank_size, error_bound=error_bound, whole_range=whole_range)
        if bank_size is None and max(errors.values()) > error_bound:
            raise ParityError(f"kernel error {max(errors.values()):.2g} is above the bound {error_bound:.2g}")

    files: dict[str, bytes] = {}
    encoder = None if source.encoder is None else encoder_parts(source.encoder)
    start = stream_start(source.quiet_steps, encoder, network.spec.channels)
    evaluation = replace(evaluation, streams=replace(evaluation.streams, before=start.before))
    if encoder is not None:
        on_progress("verify the encoder", "")
        _verify_encoder(encoder, audio, start.quiet)
        files[ENCODER_FILE] = encoder.graph
    initial: dict[str, NDArray[Any]] = {array_name(ENCODER, name): array for name, array in start.arrays.items()}
    mismatch = None
    if form != "exact":
        on_progress("compare the bank with the exact network", "")
        mismatch = _spike_mismatch(network, evaluation)
    form = form or _chosen_form(network, errors, mismatch)
    compiled = network.compile(form)
    verified = _verified_form(compiled, evaluation, with_torchscript, on_progress)
    initial |= {array_name(form, name): array for name, array in verified.initial.items()}
    described = contract.NetworkDescription(
        form=form,
        file=f"{form}.onnx",
        torchscript=None if verified.script is None else f"{form}.pt",
        exactness=_exactness(compiled),
        state=tuple(
            contract.TensorDescription(name=t.name, shape=t.shape, dtype=t.dtype, initial=t.initial)
            for t in compiled.layout
        ),
        state_bytes=state_bytes(compiled.layout),
        bank_sizes={name: bank.size for name, bank in network.banks.items()} if form == "bank" else {},
        kernel_error=errors if form == "bank" else dict.fromkeys(errors, 0.0),
        accuracy=None if verified.confusion is None else float(verified.confusion.trace() / verified.confusion.sum()),
        spike_mismatch=mismatch if form == "bank" else None,
    )
    files[described.file] = verified.graph
    if described.torchscript is not None and verified.script is not None:
        files[described.torchscript] = verified.script
    golden = verified.golden
    if verified.confusion is not None:
        golden[f"{form}.confusion"] = verified.confusion
    files[GOLDEN] = arrays_file(golden)
    if initial:
        files[INITIAL_FILE] = arrays_file(initial)
    epoch = source.provenance.get("epoch")
    checkpoint = Checkpoint(
        network,
        source.encoder,
        source.tail_steps,
        epoch if isinstance(epoch, int) else None,
        source.experiment,
        source.labels,
        source.description,
        source.config,
        source.quiet_steps,
    )
    files[CHECKPOINT] = checkpoint.to_bytes()
    manifest = _manifest(source, None if encoder is None else encoder.description, described, files)
    on_progress(f"write {out}", "")
    write_folder(out, manifest, files)
    return _report(described, verified)


def _verify_encoder(encoder: EncoderParts, inputs: torch.Tensor | None, quiet: QuietStart | None) -> None:
    """The encoder's graph gives torch's spikes.

    Raises:
        ParityError: it does not.
    """
    for graph in graphs_by_runtime(encoder.graph).values():
        probe = encoder.probe if inputs is None else inputs
        verify_encoder(encoder.reference, graph, encoder.description.state, probe, quiet)


def _verified_form(
    compiled: Compiled, evaluation: Evaluation, with_torchscript: bool, on_progress: OnProgress
) -> _Verified:
    """One form's files, and how torch and the other implementations run the evaluation's streams.

    Raises:
        ParityError: implementations disagree.
    """
    stage = f"verify the {compiled.form} form"
    on_progress(stage, "graph")
    content, script = network_graph(compiled), torchscript(compiled) if with_torchscript else None
    graphs = graphs_by_runtime(content)
    differences: list[Difference] = []
    hidden: list[Float32Array] = []
    golden: dict[str, NDArray[np.generic]] = {}
    done, total, outputs = 0, len(evaluation.streams.steps), compiled.spec.outputs
    confusion = None if evaluation.labels is None else np.zeros((outputs, outputs), np.int64)
    for part, truth in _segments(evaluation):
        of = f"streams {done + 1} to {done + len(part.steps)} of {total}"
        done += len(part.steps)
        found = verify_form(compiled, graphs, script, part, partial(_on_run, on_progress, stage, of))
        differences = _worst(differences, found)
        traces = run_torch(compiled, part)
        hidden += traces.hidden
        if truth is not None and confusion is not None:
            np.add.at(confusion, (truth.numpy(), traces.probabilities.argmax(-1)), 1)
        if not golden:
            few = Streams(part.spikes[:4, : int(part.steps[:4].max())], part.steps[:4], part.before)
            golden = _golden(compiled, few)
    layout = started_layout(compiled, evaluation.streams)
    initial = {tensor.name: tensor.start.numpy() for tensor in layout if tensor.start is not None}
    return _Verified(content, script, differences, hidden, confusion, golden, initial)


def _on_run(on_progress: OnProgress, stage: str, of: str, implementation: str) -> None:
    on_progress(stage, f"{implementation}, {of}")


def _spike_mismatch(network: Network, evaluation: Evaluation) -> float | None:
    """Measure how far a network's bank is from the exact network, on the first streams."""
    streams, _ = _segments(evaluation)[0]
    exact, bank = (run_torch(network.compile(form), streams).hidden for form in FORMS)
    return spike_mismatch(exact, bank)


def _chosen_form(network: Network, errors: Mapping[str, float], mismatch: float | None) -> Form:
    return default_form({form: state_bytes(network.compile(form).layout) for form in FORMS}, errors, mismatch)


def _exactness(compiled: Compiled) -> contract.Exactness:
    spec = compiled.spec
    if spec.input_path.is_delayed or spec.recurrent_path.is_delayed or spec.neuron.own is not None:
        return "B"
    return contract.usual_exactness(0.0, spec.input_kind, has_bank=compiled.form == "bank")


def _report(described: contract.NetworkDescription, verified: _Verified) -> FormReport:
    return FormReport(
        described.form,
        described.state_bytes,
        len(verified.graph),
        described.bank_sizes,
        max(described.kernel_error.values()),
        described.spike_mismatch,
        described.accuracy,
        verified.differences,
    )


def graphs_by_runtime(content: bytes) -> dict[str, Graph]:
    """A graph by what runs it: our operators, where it calls one and they can be used, and plain ONNX."""
    plain = {"plain ONNX": load_graph(content, use_operators=False)}
    called = {node.op_type for node in onnx.load_from_string(content).graph.node}
    if not called & {OPERATOR, ENCODER_OPERATOR} or library() is None or operators_problem():
        return plain
    return {"operator": load_graph(content)} | plain


def _segments(evaluation: Evaluation) -> list[tuple[Streams, torch.Tensor | None]]:
    streams, labels = evaluation.streams, evaluation.labels
    parts = []
    for start in range(0, len(streams.steps), SEGMENT):
        chosen = slice(start, start + SEGMENT)
        steps = streams.steps[chosen]
        parts.append(
            (
                Streams(streams.spikes[chosen, : int(steps.max())], steps, streams.before),
                None if labels is None else labels[chosen],
            )
        )
    return parts


def _worst(before: list[Difference], now: list[Difference]) -> list[Difference]:
    if not before:
        return now
    return [
        replace(
            a,
            labels=a.labels + b.labels,
            spikes=a.spikes + b.spikes,
            readout=max(a.readout, b.readout),
            probabilities=max(a.probabilities, b.probabilities),
        )
        for a, b in zip(before, now, strict=True)
    ]


def _golden(compiled: Compiled, streams: Streams) -> dict[str, NDArray[np.generic]]:
    """A few streams and their traces in one form; a reader can check itself against them."""
    traces, kind = run_torch(compiled, streams), compiled.spec.input_kind
    return {
        kind: streams.spikes.numpy().astype(np.uint8 if kind == "spikes" else np.float32),
        "steps": streams.steps.numpy(),
        f"{compiled.form}.readout": traces.readout,
        f"{compiled.form}.probabilities": traces.probabilities,
    }


def _manifest(
    source: Source,
    encoder: contract.EncoderDescription | None,
    network: contract.NetworkDescription,
    files: dict[str, bytes],
) -> contract.Manifest:
    spec = source.network.spec
    return assemble_manifest(
        name=source.name,
        version=source.version,
        description=source.description,
        labels=source.labels,
        input=contract.InputDescription(
            kind=spec.input_kind, channels=spec.channels, step_s=spec.step_s, description=source.input_description
        ),
        encoder=encoder,
        hidden=spec.hidden,
        outputs=spec.outputs,
        decision=contract.Decision(
            rule=spec.decision.rule, skip_steps=spec.decision.skip_steps, tail_steps=source.tail_steps
        ),
        endpointing=source.endpointing,
        network=network,
        files=files,
        provenance=kernel_provenance(source.network)
        | source.provenance
        | quiet_provenance(source.quiet_steps, spec.step_s),
        initial_file=INITIAL_FILE if INITIAL_FILE in files else None,
        rejected_labels=source.rejected_labels,
        acceptance_threshold=source.acceptance_threshold,
    )
