"""``hetsyn train``: networks from data, and the synthesised voices that help. Each imports torch when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from hetsyn_model.training.data import Recording
    from hetsyn_model.training.history import History
    from hetsyn_model.training.voices.corpus import CorpusReport

train = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train a network, or make voices to train on.",
)
console = Console()


class _Bars:
    """Progress bars of a run: epochs, and the batches of the epoch."""

    def __init__(self, bars: Progress, title: str, run: Path, epochs: int) -> None:
        self._bars, self._title, self._run = bars, title, run
        self._epochs: TaskID = bars.add_task(title, total=epochs)
        self._batches: TaskID = bars.add_task("  batches")

    def on_update(self, index: int, count: int, loss: float) -> None:
        self._bars.update(self._batches, completed=index + 1, total=count, description=f"  loss {loss:.3f}")

    def on_epoch(self, history: History) -> None:
        from hetsyn_model.training.plot import plot_curves

        epoch, measures = len(history.update), history.measures
        self._bars.update(self._epochs, completed=epoch)
        self._bars.console.print(
            f"{self._title} epoch {epoch}: loss {history.loss[-1]:.3f}, training {measures['train_accuracy'][-1]:.1%}, "
            f"validation {history.validation[-1]:.1%} (chosen: {history.chosen + 1}), "
            f"{measures['firing_rate'][-1]:.1%} of neurons a step, {history.seconds[-1]:.0f} s"
        )
        plot_curves(history, self._run / "curves.png", self._title)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def _run(
    out: Path,
    title: str,
    recordings: list[Recording],
    voices: list[Recording],
    epochs: int | None,
    seed: int,
    teachers: list[Path],
) -> None:
    from hetsyn_model.training import speech
    from hetsyn_model.training.loop import Callbacks

    with _bars() as bars:
        shown = _Bars(bars, title, out, epochs or speech.TRAIN.epochs)
        callbacks = Callbacks(shown.on_update, shown.on_epoch)
        speech.train_digits(out, recordings, voices, epochs=epochs, seed=seed, teachers=teachers, callbacks=callbacks)


@train.command("speech-digits")
def speech_digits(
    data: Annotated[Path, typer.Option(help="Folder of recorded speech.")],
    voices: Annotated[
        Path | None, typer.Option(help="Folder of synthesised speech, from `hetsyn train voices`.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints, metrics and curves. An unfinished run continues.")
    ] = Path("runs/speech-digits"),
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Train without this speaker, and test on this speaker. Repeat it for more runs."),
    ] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Leave out each speaker of the data, one run each.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs, instead of the task's own.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and augmentation.")] = 0,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a run of the same command with another seed. The network also learns from the "
            "probabilities of that run's network. May be repeated."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Train a network on ten spoken digits, or test it on speakers that are left out.

    Recordings are named digit_speaker_take.wav.
    """
    import torch

    from hetsyn_model.run_folder import RunError
    from hetsyn_model.spec import SpecError
    from hetsyn_model.training import speech
    from hetsyn_model.training.checkpoint import CheckpointFileError
    from hetsyn_model.training.data import DataError, read_folder

    torch.set_num_threads(threads)
    try:
        recordings = read_folder(data, speech.LABELS, speech.ENCODER.sample_rate_hz)
        extra = read_folder(voices, speech.LABELS, speech.ENCODER.sample_rate_hz) if voices else []
        speakers = sorted({recording.speaker for recording in recordings})
        left_out = speakers if leave_one_out else leave_out or []
        unknown = sorted(set(left_out) - set(speakers))
        if unknown:
            raise DataError(f"speaker {unknown[0]!r} is not in {data}: it has {', '.join(speakers)}")
        if not left_out:
            _run(out, "speech-digits", recordings, extra, epochs, seed, [run / "best.pt" for run in teacher or []])
            console.print(
                f"network: {out / 'best.pt'}   export it: hetsyn export {out / 'best.pt'} --out models/NAME/VERSION"
            )
            return
        for speaker in left_out:
            run = out / f"without-{speaker}"
            # teachers too are trained without the speaker
            teachers = [folder / run.name / "best.pt" for folder in teacher or []]
            # a finished run trains no further, but is refused if it was made with another configuration
            known = [r for r in recordings if r.speaker != speaker]
            _run(run, f"without {speaker}", known, extra, epochs, seed, teachers)
            if speech.read_figure(run) is None:
                speech.judge_speaker(run, [r for r in recordings if r.speaker == speaker], speaker)
        _report(out, left_out)
    except (DataError, RunError, SpecError, CheckpointFileError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(2) from error


def _report(out: Path, speakers: list[str]) -> None:
    from hetsyn_model.training import speech

    figures = [figure for speaker in speakers if (figure := speech.read_figure(out / f"without-{speaker}")) is not None]
    table = Table("speaker left out", "recordings", "accuracy, bank", "accuracy, exact", "epoch")
    for figure in figures:
        table.add_row(
            figure.speaker, str(figure.recordings), f"{figure.bank:.1%}", f"{figure.exact:.1%}", str(figure.epoch + 1)
        )
    mean = {form: sum(getattr(figure, form) for figure in figures) / len(figures) for form in ("bank", "exact")}
    table.add_row("mean", "", f"{mean['bank']:.1%}", f"{mean['exact']:.1%}", "", style="bold")
    console.print(table)
    (out / "leave-one-out.json").write_text(
        json.dumps({"mean": mean, "speakers": [vars(figure) for figure in figures]}, indent=1) + "\n"
    )


@train.command("voices")
def make_voices(
    out: Annotated[Path, typer.Option(help="Folder for the wav files; existing files are kept.")],
    seed: Annotated[int, typer.Option(help="Seed of pitch, tempo and punctuation.")] = 0,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Make only the voices that are never used for training.")
    ] = False,
) -> None:
    """Synthesise spoken digits for training, with every speech engine on this machine."""
    from hetsyn_model.training.voices import synthesise

    try:
        with _bars() as bars:
            task = bars.add_task("recordings")
            report = synthesise(
                out,
                seed=seed,
                held_out=held_out,
                on_progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
    except RuntimeError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(2) from error
    _corpus(report, "")


@train.command("shd-voices")
def make_shd_voices(
    out: Annotated[
        Path, typer.Option(help="Folder for shd_train.h5, shd_test.h5 and the wav files; existing wav files are kept.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of pitch, tempo and punctuation.")] = 0,
) -> None:
    """Synthesise German and English digits in the form of the Spiking Heidelberg Digits."""
    from hetsyn_model.training.data import DataError
    from hetsyn_model.training.voices.digits import speak
    from hetsyn_model.training.voices.shd import write_files

    try:
        with _bars() as bars:
            tasks = {language: bars.add_task(f"recordings, {language}", total=None) for language in ("en", "de")}
            reports = speak(
                out,
                seed=seed,
                on_progress=lambda language, done, total: bars.update(tasks[language], completed=done, total=total),
            )
        made = write_files(out, out)
    except (RuntimeError, DataError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(2) from error
    for language, report in reports.items():
        _corpus(report, f"{language}: ")
    for name, count in made.recordings.items():
        console.print(f"{out / name}: {count} recordings of {made.speakers[name]} speakers")
    console.print(f"{made.spikes:.0f} spikes a recording")


def _corpus(report: CorpusReport, what: str) -> None:
    title = f"{what}{report.total} recordings, {len(report.files_by_speaker)} voices"
    table = Table("engine", "recordings", title=title)
    for engine, count in report.files_by_engine.items():
        table.add_row(engine, str(count))
    for engine, package in report.missing.items():
        table.add_row(engine, f"not installed: {escape(package)}")
    console.print(table)
