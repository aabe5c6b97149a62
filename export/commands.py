"""``hetsyn export``: a checkpoint, or a seeded example, becomes an artifact folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.run import RunSpec, open_task
from experiments.task import MissingData, first_streams
from export.parity import ParityError
from export.write import ArtifactPathError, Evaluation, FormReport, Source, padded, seeded_streams, write_artifact
from hetsyn_model.bank import BankError
from hetsyn_model.encoder import Encoder
from hetsyn_model.network import ERROR_BOUND, Network
from hetsyn_model.run_folder import RunError
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec
from hetsyn_model.state import state_bytes
from hetsyn_model.training.augment import encode_batch
from hetsyn_model.training.checkpoint import Checkpoint, CheckpointFileError
from hetsyn_model.training.data import DataError, read_folder, split_takes
from hetsyn_model.training.speech import LABELS, VALIDATION_EVERY, WORDS
from service.errors import HetsynError

export = typer.Typer(help="Export a trained network as an artifact that the server reads.")
console = Console()

SHD_SIZE = "shd-size"
VERIFIED_STREAMS = 256  # of an experiment's test data, fewer where the exact form would move more than so many bytes
VERIFIED_BYTES = 4_000_000_000  # of state, over all steps of all streams; every implementation does it anew


@export.command("export")
def export_checkpoint(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help=f"best.pt of a training run or an experiment; or {SHD_SIZE!r}, the paper's SHD network with random "
            "weights."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Artifact folder NAME/VERSION; must not exist.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of recordings. Its validation takes verify the artifact and give its accuracy. For an "
            "experiment: the same --data as in its run."
        ),
    ] = None,
    bank_size: Annotated[
        int | None, typer.Option(min=1, help="Number of decays in each layer's bank, instead of an error bound.")
    ] = None,
    error_bound: Annotated[
        float | None,
        typer.Option(
            min=1e-7,
            max=1.0,
            help=f"Largest relative L2 error of a kernel. Default: {ERROR_BOUND:g}; a network of an experiment keeps "
            "the bank of its training.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help=f"Seed of the {SHD_SIZE} weights.")] = 0,
) -> None:
    """Verify and write an artifact. If the implementations disagree, nothing is written."""
    out = out.resolve()  # its last two names are the model's name and version
    try:
        if checkpoint == SHD_SIZE:
            source, evaluation, audio = _shd_size(out, seed)
        else:
            saved = Checkpoint.load(Path(checkpoint))
            if saved.experiment is None:
                source, evaluation, audio = _speech(checkpoint, saved, out, data)
            else:
                run = RunSpec.from_dict(saved.experiment)
                source, evaluation, audio = _experiment(saved, run, out, data)
                if bank_size is None and error_bound is None:
                    bank_size = run.training.bank_size
        bound = ERROR_BOUND if error_bound is None else error_bound
        reports = write_artifact(source, evaluation, out, bank_size=bank_size, error_bound=bound, audio=audio)
    except (
        ArtifactPathError,
        BankError,
        CheckpointFileError,
        ParityError,
        DataError,
        HetsynError,
        MissingData,
        RunError,
        FileExistsError,
    ) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(2) from error
    _print(out, reports, len(evaluation.streams.steps))


def _experiment(
    saved: Checkpoint, run: RunSpec, out: Path, data: Path | None
) -> tuple[Source, Evaluation, torch.Tensor | None]:
    """A run of ``hetsyn experiment``, verified on its test data."""
    task = open_task(run, data)
    kind = "recurrent" if run.recurrent else "feedforward"
    source = Source(
        saved.network,
        out.parent.name,
        out.name,
        f"{task.description} ({run.model}, {kind})",
        task.labels,
        task.input_description,
        saved.encoder,
        saved.tail_steps,
        {
            "experiment": run.experiment,
            "condition": run.condition,
            "neuron_model": run.model,
            "recurrent": run.recurrent,
            "seed": run.seed,
            "epoch": saved.epoch,
        },
        saved.experiment,
    )
    test = task.test()
    moved = state_bytes(saved.network.compile("exact").layout) * max(int(batch.steps.max()) for batch in test)
    batches = first_streams(test, min(VERIFIED_STREAMS, max(24, VERIFIED_BYTES // moved)))
    spikes = [
        torch.from_numpy(stream[:steps])
        for batch in batches
        for stream, steps in zip(batch.dense(), batch.steps.tolist(), strict=True)
    ]
    labels = None if task.figure == "mse" else torch.cat([batch.target for batch in batches])
    return source, Evaluation(padded(spikes), labels), None


def _speech(
    checkpoint: str, saved: Checkpoint, out: Path, data: Path | None
) -> tuple[Source, Evaluation, torch.Tensor | None]:
    network, spec = saved.network, saved.encoder
    if spec is None:
        raise DataError(f"{checkpoint}: a network that takes spikes, not a speech network")
    source = Source(
        network,
        out.parent.name,
        out.name,
        "Ten spoken English digits, 8 kHz audio",
        WORDS,
        "Crossings of log Mel band levels: direction (up, down), band, level",
        spec,
        saved.tail_steps,
        {"epoch": saved.epoch},
    )
    if data is None:
        return source, Evaluation(seeded_streams(spec.channels, 0.03, streams=8, steps=60)), None
    _, recordings = split_takes(read_folder(data, LABELS, spec.sample_rate_hz), VALIDATION_EVERY)
    encoder = Encoder(spec)
    encoded = encode_batch(encoder, recordings, saved.tail_steps)
    dense = encoded.events.dense()
    streams = padded([stream[:steps] for stream, steps in zip(dense, encoded.steps.tolist(), strict=True)])
    hop = spec.step_samples
    longest = max(-(-recording.audio.size // hop) for recording in recordings[:16])
    audio = torch.zeros(min(16, len(recordings)), longest * hop)
    for row, recording in zip(audio, recordings, strict=False):
        row[: recording.audio.size] = torch.from_numpy(recording.audio)
    return source, Evaluation(streams, encoded.target), audio


def _shd_size(out: Path, seed: int) -> tuple[Source, Evaluation, None]:
    """The paper's network for SHD, untrained: for benchmarks and spike input."""
    spec = NetworkSpec(
        channels=700,
        hidden=(128, 64),
        outputs=20,
        step_s=4e-3,
        neuron=NeuronSpec(tau_init_steps=(5, 20)),
        decision=DecisionSpec("sum_softmax", skip_steps=11),
    )
    network = Network(spec, seed=seed)
    with torch.no_grad():
        for layer in network.layers:
            layer.get_parameter("w_in").mul_(2.0)  # at 4.5% of channels a step, 2-5% of hidden neurons fire
    source = Source(
        network,
        out.parent.name,
        out.name,
        "The SHD network of the paper with seeded weights: untrained, for benchmarks",
        tuple(f"class-{index}" for index in range(20)),
        "SHD's 700 cochlea channels, 4 ms steps",
        provenance={"seed": seed, "trained": False},
    )
    return source, Evaluation(seeded_streams(700, 0.045, streams=16, steps=250, seed=seed)), None


def _print(out: Path, reports: list[FormReport], streams: int) -> None:
    table = Table(
        "form",
        "state bytes a session",
        "file bytes",
        "decays a layer",
        "kernel error",
        "spikes that differ",
        "accuracy",
        title=f"{out}, {streams} streams",
    )
    for report in reports:
        table.add_row(
            report.form,
            f"{report.state_bytes:,}",
            f"{report.file_bytes:,}",
            " ".join(str(size) for size in report.bank_sizes.values()) or "-",
            f"{report.kernel_error:.1e}",
            f"{report.spike_mismatch:.2%}",
            "-" if report.accuracy is None else f"{report.accuracy:.1%}",
        )
    console.print(table)
    console.print(f"state: exact / bank = {reports[0].state_bytes / reports[1].state_bytes:.1f}")
    agreement = Table("implementation against torch", "labels", "spikes", "readout", "probabilities")
    for report in reports:
        for item in report.differences:
            agreement.add_row(
                item.implementation,
                str(item.labels),
                str(item.spikes),
                f"{item.readout:.1e}",
                f"{item.probabilities:.1e}",
            )
    console.print(agreement)
