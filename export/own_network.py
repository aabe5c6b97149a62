"""Exports a HetSyn network, a value or a file, as an artifact."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from export.encoders import ENCODER_FILE, encoder_parts, verify_encoder
from export.evaluation import Evaluation, evaluation_of
from export.folder import (
    ExportError,
    Provenance,
    artifact_path,
    check_absent,
    check_labels,
    check_name,
    names_of,
    rejected_of,
)
from export.graphs.network_graph import network_graph
from export.graphs.torchscript import NetworkScript
from export.parity import ParityError, exported_network, graphs_by_runtime, run_torch
from export.write import Description, OnProgress, Promise, Report, write
from hetsyn_model.compiled import Compiled
from hetsyn_model.encoders.level_crossing import AnyEncoderSpec
from hetsyn_model.network import Network
from hetsyn_model.spec import ERROR_BOUND
from hetsyn_model.state import FORMS, Form, state_bytes
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract import manifest as contract
from service.contract.graph_io import Float32Array
from service.contract.manifest import MAX_TAIL_STEPS, FormName

CHECKPOINT = "network.pt"
COMPARED_STREAMS = 32  # streams to compare the spikes of a bank and of the exact network on
SAME_SPIKES = 1e-3  # share of spikes that may differ in a bank without kernel error
MOST_LARGER = 1.5  # limit of that bank's state, relative to the exact form's
SAVE = "torch.save(network.save(), FILE)"


@dataclass(frozen=True)
class Source:
    """A network and its description in the manifest.

    Attributes:
        network: not changed.
        description: one line for people.
        labels: names of the outputs.
        input_description: meaning of the channels.
        encoder: encoder of audio or values; None for a network that takes spikes, or values unchanged.
        tail_steps: steps of silence that end a stream.
        provenance: further entries of the manifest.
        experiment: the run that made the network, for the checkpoint's copy; None without.
        config: the training's configuration, likewise; None without.
        endpointing: settings that find utterances in a stream; None without.
        rejected_labels: labels for which a server answers null.
        acceptance_threshold: least probability of a label that a server names; None: any, unless a rejected one is
            likelier.
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
    rejected_labels: tuple[str, ...] = ()
    acceptance_threshold: float | None = None


def write_artifact(
    source: Source,
    evaluation: Evaluation,
    out: Path,
    *,
    bank_size: int | Sequence[int] | None = None,
    error_bound: float = ERROR_BOUND,
    whole_range: bool = False,
    form: Form | None = None,
    audio: torch.Tensor | None = None,
    with_torchscript: bool = True,
    on_progress: OnProgress = lambda stage, detail: None,  # noqa: ARG005
) -> Report:
    """Export a network into ``out``, a folder NAME/VERSION that does not exist yet.

    Args:
        source: the network and its description.
        evaluation: streams to verify every implementation on; their labels, if any, give the accuracy.
        out: the folder to write.
        bank_size: decays a layer, or one number a layer; None: the smallest that meets the error bound.
        error_bound: relative L2 error of the worst kernel.
        whole_range: fit the banks to all decays that training may reach
            (:meth:`hetsyn_model.network.Network.fit_banks`).
        form: ``exact``: each synapse has its own decay; ``bank``: they share a few; None: :func:`default_form`.
        audio: float32 [stream, whole steps], or values [stream, steps, channels], to verify the encoder with; None:
            noise and silence, or random values.
        with_torchscript: add the step as TorchScript, which no server needs.
        on_progress: called with the stage that begins and a detail, which may be empty.

    Raises:
        ParityError: implementations disagree, or a kernel's error is above the bound. Nothing is written.
        BankError: no bank meets the bound.
        ExportError: the labels do not fit the outputs, the form cannot be served, or the encoder knows no silence.
        ArtifactPathError: no server reads this name or version.
        AlreadyExists: there is something at ``out``.
    """
    check_name(source.name, source.version)
    check_absent(out)
    spec = source.network.spec
    check_labels(source.labels, spec.outputs, spec.decision.rule)
    network = copy.deepcopy(source.network).float().eval()
    errors = dict.fromkeys(network.spec.layer_names, 0.0)
    if form != "exact":
        on_progress("fit the bank", "")
        errors = network.fit_banks(size=bank_size, error_bound=error_bound, whole_range=whole_range)
        if bank_size is None and max(errors.values()) > error_bound:
            raise ParityError(f"kernel error {max(errors.values()):.2g} is above the bound {error_bound:.2g}")

    files: dict[str, bytes] = {}
    encoder = None if source.encoder is None else encoder_parts(source.encoder)
    if encoder is not None:
        on_progress("verify the encoder", "")
        for graph in graphs_by_runtime(encoder.graph).values():
            probe = encoder.probe if audio is None else audio
            verify_encoder(encoder.reference, graph, encoder.description.state, probe)
        files[ENCODER_FILE] = encoder.graph
    mismatch = None
    if form != "exact":
        on_progress("compare the bank with the exact network", "")
        streams = evaluation.streams.of(slice(COMPARED_STREAMS))
        exact, bank = (run_torch(network.compile(each), streams).hidden for each in FORMS)
        mismatch = spike_mismatch(exact, bank)
    form = form or _chosen_form(network, errors, mismatch)
    compiled = network.compile(form)
    files[CHECKPOINT] = _checkpoint(source, network).to_bytes()
    return write(
        out,
        exported_network(compiled, network_graph(compiled)),
        Description(
            source.name,
            source.version,
            source.labels,
            spec.step_s,
            source.description,
            source.input_description,
            source.tail_steps,
            None if encoder is None else encoder.description,
            spec.hidden,
            source.rejected_labels,
            source.acceptance_threshold,
            source.endpointing,
            _decay_provenance(source.network) | source.provenance,
        ),
        Promise(
            form,
            _exactness(compiled),
            bank_sizes={name: bank.size for name, bank in network.banks.items()} if form == "bank" else {},
            kernel_error=errors if form == "bank" else dict.fromkeys(errors, 0.0),
            spike_mismatch=mismatch if form == "bank" else None,
        ),
        evaluation,
        partial(run_torch, compiled),
        same_bits=True,
        scripts=[NetworkScript(compiled)] if with_torchscript else [],
        files=files,
        on_progress=on_progress,
    )


def _chosen_form(network: Network, errors: Mapping[str, float], mismatch: float | None) -> Form:
    return default_form({form: state_bytes(network.compile(form).layout) for form in FORMS}, errors, mismatch)


def _exactness(compiled: Compiled) -> contract.Exactness:
    spec = compiled.spec
    if spec.input_path.is_delayed or spec.recurrent_path.is_delayed or spec.neuron.own is not None:
        return "B"
    return contract.usual_exactness(0.0, spec.input_kind, has_bank=compiled.form == "bank")


def _checkpoint(source: Source, network: Network) -> Checkpoint:
    """Make a checkpoint from which the network can be exported again."""
    epoch = source.provenance.get("epoch")
    return Checkpoint(
        network,
        source.encoder,
        source.tail_steps,
        epoch if isinstance(epoch, int) else None,
        source.experiment,
        source.labels,
        source.description,
        source.config,
    )


def default_form(
    state: Mapping[FormName, int], kernel_error: Mapping[str, float], spike_mismatch: float | None
) -> FormName:
    """Choose the form of an artifact.

    Args:
        state: bytes of each form.
        kernel_error: error of each layer's bank.
        spike_mismatch: the bank's, on the verification's streams.

    Returns:
        The form with the smaller state. But the bank, although its state is up to half as large again, if it is nearly
        exact: no kernel has an error, and rounding the weights to 16 bits changes at most 0.1% of the spikes. Its step
        is then faster (`python -m benchmarks engine --families`).
    """
    is_close = spike_mismatch is not None and spike_mismatch <= SAME_SPIKES and not any(kernel_error.values())
    if is_close and state["bank"] <= MOST_LARGER * state["exact"]:
        return "bank"
    return min(state, key=lambda form: (state[form], form == "bank"))


def spike_mismatch(reference: Sequence[Float32Array], other: Sequence[Float32Array]) -> float | None:
    """Compute the hidden spikes that differ as a share of the reference's; None if it has none."""
    spikes = sum(float(a.sum()) for a in reference)
    different = sum(float((a != b).sum()) for a, b in zip(reference, other, strict=True))
    return different / spikes if spikes else None


def _decay_provenance(network: Network) -> dict[str, str | int | float | bool | None]:
    """Make the manifest's entry with the share of learned decays at an end of their range."""
    share = network.share_at_bounds()
    return {} if share is None else {"decays_at_bounds": round(share, 4)}


def export_network(
    network: Network,
    *,
    out: str | Path,
    labels: Sequence[str],
    rejected_labels: Sequence[str] = (),
    examples: object = None,
    form: Form | None = None,
    description: str = "",
    input_description: str = "",
    tail_steps: int = 0,
    bank_size: int | None = None,
    error_bound: float = ERROR_BOUND,
    torchscript: bool = True,
    provenance: Provenance | None = None,
    on_progress: OnProgress = lambda stage, detail: None,  # noqa: ARG005
) -> Report:
    """Export a network as an artifact that a server reads, verified in every implementation.

    Args:
        network: a trained network; it is not changed.
        out: folder NAME/VERSION, which does not exist yet; NAME is the model's name.
        labels: name of each output, in their order; a network of rule ``trace`` may have none.
        rejected_labels: labels for which a server answers null, for input of no other class.
        examples: spikes [stream, step, channel] of 0 and 1, or values, to verify the artifact on. Their classes, if
            any, give the accuracy (:func:`export.evaluation.evaluation_of`). None: random ones.
        form: ``exact``: each synapse has its own decay; ``bank``: they share a few; None: :func:`default_form`.
        description: one line for people.
        input_description: what the channels are, for people.
        tail_steps: steps without spikes that end a session.
        bank_size: decays of each bank; None: the smallest number that meets the error bound.
        error_bound: relative L2 error of the worst kernel.
        torchscript: add the step as TorchScript, which no server needs.
        provenance: further entries of the manifest.
        on_progress: called with the stage that begins and a detail, which may be empty.

    Raises:
        ExportError: the network, the labels or the examples do not fit; the message says what to do.
        BankError: no bank meets the error bound; the exact form needs none.
        ParityError: implementations disagree; nothing is written.
        AlreadyExists: there is something at ``out``.
    """
    out = artifact_path(out)
    if not 0 <= tail_steps <= MAX_TAIL_STEPS:
        raise ExportError(f"tail_steps is {tail_steps}: give 0 to {MAX_TAIL_STEPS}")
    if form == "exact" and bank_size is not None:
        raise ExportError("the exact form has no bank: leave out bank_size")
    source = replace(
        source_of(network, out, labels, description, input_description, rejected_labels),
        tail_steps=tail_steps,
        provenance=dict(provenance or {}),
    )
    return write_artifact(
        source,
        evaluation_of(examples, network.spec.channels, network.spec.outputs, network.spec.input_kind),
        out,
        bank_size=bank_size,
        error_bound=error_bound,
        form=form_of(form),
        with_torchscript=torchscript,
        on_progress=on_progress,
    )


def source_of(
    network: Network,
    out: Path,
    labels: Sequence[str],
    description: str = "",
    input_description: str = "",
    rejected_labels: Sequence[str] = (),
) -> Source:
    """Describe a network. Arguments as ``export_network``.

    Raises:
        ExportError: the network or the labels do not fit.
    """
    if not isinstance(network, Network):
        raise ExportError(
            f"a {type(network).__name__} is no hetsyn Network: export_step takes any torch module with a step"
        )
    names = names_of(labels)
    check_labels(names, network.spec.outputs, network.spec.decision.rule)
    check_values(network)
    rejected = rejected_of(names, rejected_labels)
    return Source(network, out.parent.name, out.name, description, names, input_description, rejected_labels=rejected)


def form_of(form: str | None) -> Form | None:
    """Check a form that a caller names.

    Raises:
        ExportError: it is neither exact nor bank.
    """
    for known in (None, *FORMS):
        if form == known:
            return known
    raise ExportError(f"form {form!r}: give exact or bank, or leave it out; an artifact has one form")


def check_values(network: Network) -> None:
    """Check that every tensor is finite, and every decay in its range.

    Raises:
        ExportError: one is not; the message names the tensor.
    """
    for name, layer in network.named_layers().items():
        for tensor, values in layer.state_dict().items():
            if not bool(torch.isfinite(values).all()):
                raise ExportError(
                    f"{name}.{tensor} has values that are not finite: the training diverged, so take an earlier state"
                )
            if tensor in ("r_in", "r_rec", "kappa") and not bool(((values >= 0) & (values <= 1)).all()):
                raise ExportError(
                    f"{name}.{tensor} has decays outside [0, 1]: call network.clamp_decays_() after every update"
                )


def load_network(path: Path) -> Network | None:
    """Load the network of a file of ``Network.save()``; None for a file of ``hetsyn train`` or ``python -m research``.

    Raises:
        ExportError: the file is something else; the message says what to save.
    """
    if path.is_dir():
        raise ExportError(f"{path} is a folder: give a file, such as the best.pt in the folder of a run")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error):
            raise ExportError(
                f"{path}: a whole object, which would run code to be read: save a hetsyn Network by {SAVE}, and take "
                "any other torch module through export.export_step in Python"
            ) from error
        raise ExportError(f"{path}: not a file of torch.save: save the network by {SAVE}") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ExportError(f"{path}: not a file of torch.save: save the network by {SAVE}") from error
    if isinstance(saved, Mapping) and {"network", "tail_steps"} <= set(saved):
        return None
    if isinstance(saved, Mapping) and {"spec", "banks", "tensors"} <= set(saved):
        try:
            return Network.load(saved)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            reason = str(error).partition("\n")[0][:200]
            raise ExportError(f"{path}: not a result of Network.save() ({reason}): save it again by {SAVE}") from error
    if isinstance(saved, Mapping) and saved and all(isinstance(value, torch.Tensor) for value in saved.values()):
        raise ExportError(
            f"{path}: tensors alone, without the network's description: load them into the Network, and save it by "
            f"{SAVE} (weights of the paper's reference code: hetsyn.from_reference)"
        )
    raise ExportError(f"{path}: a {type(saved).__name__}, not a network: save it by {SAVE}")
