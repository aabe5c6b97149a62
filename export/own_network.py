"""A HetSyn network of one's own, as a value or as a file, to an artifact."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from export.evaluation import evaluation_of
from export.folder import ExportError, Provenance, check_labels, names_of, rejected_of
from export.write import FormReport, OnProgress, Source, write_artifact
from hetsyn_model.network import Network
from hetsyn_model.spec import ERROR_BOUND, SpecError
from hetsyn_model.state import FORMS, Form
from service.contract.manifest import MAX_TAIL_STEPS

SAVE = "torch.save(network.save(), FILE)"


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
) -> FormReport:
    """Export a network as an artifact that a server reads, verified in every implementation.

    Args:
        network: trained; it is not changed.
        out: folder NAME/VERSION, which does not exist yet; NAME is the model's name.
        labels: name of each output, in their order; a network of rule ``trace`` may have none.
        rejected_labels: labels for what is no class of yours, such as other words: a server answers null in their place
            when they are the likeliest.
        examples: spikes [stream, step, channel] of 0 and 1, or values, to verify the artifact with, with or without
            their classes, which give its accuracy: see :func:`export.evaluation.evaluation_of`. None: random ones.
        form: ``exact``: each synapse has its own decay; ``bank``: they share a few. Without it a bank that is next to
            the same network, else the form with the smaller state (:func:`export.default_form.default_form`).
        description: one line for people.
        input_description: of the channels, for people.
        tail_steps: steps without spikes that end a session.
        bank_size: decays of each bank; without it the smallest number that meets the error bound.
        error_bound: relative L2 error of the worst kernel.
        torchscript: whether the artifact gets the step as TorchScript, too, which no server needs.
        provenance: further entries of the manifest.
        on_progress: called with what begins: a stage, and a detail, which may be empty.

    Returns:
        What was measured.

    Raises:
        ExportError: the network, the labels or the examples do not fit; the message says what to do.
        BankError: no bank meets the error bound: the exact form alone needs none.
        ParityError: implementations disagree; nothing is written.
        FileExistsError: there is something at ``out``.
    """
    out = Path(out).resolve()
    if not 0 <= tail_steps <= MAX_TAIL_STEPS:
        raise ExportError(f"tail_steps is {tail_steps}: give 0 to {MAX_TAIL_STEPS}")
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
    """A network and its description; ``export_network`` has the arguments.

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
    """Check that every tensor is finite, and every decay one.

    Raises:
        ExportError: it is not so; names the tensor.
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
    """The network of a file of ``Network.save()``; None for a file of ``hetsyn train`` or ``python -m research``.

    Raises:
        ExportError: the file is something else; says what to save instead.
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
        except (ValueError, SpecError, KeyError, TypeError, AttributeError, StopIteration) as error:
            reason = str(error).partition("\n")[0][:200]
            raise ExportError(f"{path}: not a result of Network.save() ({reason}): save it again by {SAVE}") from error
    if isinstance(saved, Mapping) and saved and all(isinstance(value, torch.Tensor) for value in saved.values()):
        raise ExportError(
            f"{path}: tensors alone, without the network's description: load them into the Network, and save it by "
            f"{SAVE} (weights of the paper's reference code: hetsyn.from_reference)"
        )
    raise ExportError(f"{path}: a {type(saved).__name__}, not a network: save it by {SAVE}")
