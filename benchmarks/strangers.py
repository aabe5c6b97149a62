"""How well does a speech network hear speakers that it has never heard: clean, in noise and over a telephone?

Each network comes from a run of ``hetsyn train DATA --config speech-digits --leave-one-out`` and hears the recordings
of the speaker that it was trained without, in the bank form of an export. White noise is added to a recording, at a
level below the mean power of the word; the silence that ends a session follows without it. The telephone passes 300 to
3,400 Hz and nothing else. The interval is Student's, 95%, over the speakers. To choose a setting, look at the
validation loss: the mean of -log p over validation takes of the speakers that a network was trained on.

Networks that also have classes for what is no word (``[others]``) are judged on the words, too: a word that they take
for none of them is an error, and counted as missed.

With several ``--runs`` or ``--quiet-s``, each speaker also gets the runs that hear the four others best: a choice by
others than those who judge it. It is not wholly nested, because the networks that the others judge were trained on
that speaker.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.plots import pyplot, save
from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.quiet import quiet_steps
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import load_config
from hetsyn_model.training.data import Recording
from hetsyn_model.training.examples import Examples
from hetsyn_model.training.front import AudioFront
from hetsyn_model.training.labelled import classify
from hetsyn_model.training.prepared import prepare
from hetsyn_model.training.readers import read

TELEPHONE_HZ = (300.0, 3_400.0)
NOISE_DB = (20, 10, 5)
QUICK_TAKES = 5
PREFIX = "without-"
MENTIONED_PERCENT = 3  # of a confusion that the plot writes out

Audio = NDArray[np.float32]
Change = Callable[[Audio, int, np.random.Generator], Audio]  # of samples at a rate


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder of digit_speaker_take.wav")
    command.add_argument(
        "--runs",
        type=_runs,
        required=True,
        action="append",
        metavar="[NAME=]DIR",
        help="of `hetsyn train DATA --leave-one-out`; several are compared",
    )
    command.add_argument(
        "--quiet-s",
        type=float,
        nargs="+",
        help="a stream begins after so much silence; several are compared; default: as trained",
    )
    command.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), help="default: all")
    command.add_argument("--plot", type=Path, help="where a PNG of the first runs' confusions goes")


def _runs(given: str) -> tuple[str, Path]:
    name, separator, folder = given.partition("=")
    path = Path(folder if separator and not Path(given).exists() else given)
    return (name if path != Path(given) else path.resolve().name, path)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    named = dict(arguments.runs)
    if len(named) < len(arguments.runs):
        raise SystemExit("--runs: two have one name: write NAME=DIR")
    starts: Sequence[float | None] = arguments.quiet_s or [None]
    if len(set(starts)) < len(starts):
        raise SystemExit("--quiet-s: a number is there twice: give each once")
    if arguments.plot is not None:
        pyplot()  # before anything is judged
    examples = read(arguments.data, load_config("speech-digits"))
    networks = {name: _networks(folder, examples) for name, folder in named.items()}
    results: dict[str, Any] = {"runs": {}}
    for name in named:
        for quiet_s in starts:
            key = name if len(starts) == 1 else f"{name}, {quiet_s:g} s of quiet"
            results["runs"][key] = _judge(networks[name], examples, arguments, quiet_s)
    if len(results["runs"]) > 1:
        results["chosen"] = chosen_by_others({name: found["speakers"] for name, found in results["runs"].items()})
        if not results["chosen"]:
            print("nothing is chosen by the others: give runs of the same speakers, two or more", file=sys.stderr)
    _print(results)
    if arguments.plot is not None:
        _plot(next(iter(results["runs"].values())), arguments.plot)
    return results


def _networks(runs: Path, examples: Examples) -> dict[str, Checkpoint]:
    """The networks of a leave-one-out run, by the speaker left out."""
    paths = sorted(runs.glob(f"{PREFIX}*/best.pt"))
    if not paths:
        raise SystemExit(f"{runs}: has no {PREFIX}SPEAKER/best.pt: give the --out of --leave-one-out")
    found = {path.parent.name.removeprefix(PREFIX): Checkpoint.load(path) for path in paths}
    for speaker, saved in found.items():
        if speaker not in {item.group for item in examples.items}:
            raise SystemExit(f"the data have no recordings of {speaker}: give --data with those of {runs}")
        if not isinstance(saved.encoder, EncoderSpec):
            raise SystemExit(f"{runs}: has no networks of sound: give runs of a speech configuration")
    words = _words(examples)
    heard = {saved.labels or words for saved in found.values()}
    if any(labels[: len(words)] != words for labels in heard):
        raise SystemExit(f"{runs}: its networks know other words than the data: give --data with those of {runs}")
    if len(heard) > 1 or any(saved.network.spec.outputs != len(saved.labels or words) for saved in found.values()):
        raise SystemExit(f"{runs}: its networks have different classes: give runs of one configuration")
    return found


def _words(examples: Examples) -> tuple[str, ...]:
    """The classes of the data, as networks name them."""
    names = load_config("speech-digits").names
    return tuple(names.get(label, label) for label in examples.labels)


def chosen_by_others(accuracies: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """For each speaker, the runs with the best mean over the other speakers in the first condition.

    Args:
        accuracies: by runs, speaker and condition.

    Returns:
        The name of the runs and their accuracy on the speaker, by speaker; none where a run lacks a speaker.
    """
    first, *more = accuracies.values()
    if any(set(each) != set(first) for each in more) or len(first) < 2:
        return {}
    condition = next(iter(next(iter(first.values()))))
    chosen = {}
    for speaker in first:
        best = max(
            accuracies,
            key=lambda name: sum(each[condition] for other, each in accuracies[name].items() if other != speaker),
        )
        chosen[speaker] = {"runs": best, condition: accuracies[best][speaker][condition]}
    return chosen


def _judge(
    networks: Mapping[str, Checkpoint], examples: Examples, arguments: argparse.Namespace, quiet_s: float | None
) -> dict[str, Any]:
    """All networks of a leave-one-out run on the speakers that they have not heard, after so much silence."""
    config = load_config("speech-digits")
    chosen = arguments.conditions or list(CONDITIONS)
    speakers: dict[str, dict[str, float]] = {}
    losses: dict[str, float] = {}
    words = _words(examples)
    heard = next(iter(networks.values())).labels or words
    confusion = {name: np.zeros((len(words), len(heard)), np.int64) for name in chosen}
    for speaker, saved in networks.items():
        items = [item for item in examples.items if isinstance(item, Recording) and item.group == speaker]
        if arguments.quick:
            items = [item for item in items if item.take < QUICK_TAKES]
        assert isinstance(saved.encoder, EncoderSpec)
        steps = saved.quiet_steps
        if quiet_s is not None:
            steps = quiet_steps(quiet_s, saved.encoder.step_s)
        front = AudioFront(saved.encoder, config.augmentation.audio, steps)
        saved.network.fit_banks()  # as an export does
        known = prepare(examples, config, leave_out=[speaker]).data.validation
        losses[speaker] = _loss(saved, front, known)
        truth = np.array([item.label for item in items])
        speakers[speaker] = {}
        for name in chosen:
            changed = _changed(items, CONDITIONS[name], saved.encoder.sample_rate_hz)
            labels, _ = classify(saved.network, front, changed, saved.tail_steps)
            np.add.at(confusion[name], (truth, labels.numpy()), 1)
            speakers[speaker][name] = float((labels.numpy() == truth).mean())
    return {
        "speakers": speakers,
        "conditions": {
            name: _summary([each[name] for each in speakers.values()])
            | {"missed": float(confusion[name][:, len(words) :].sum() / confusion[name].sum())}
            for name in chosen
        },
        "validation_loss": losses,
        "labels": list(words),
        "heard": list(heard),
        "confusion": {name: matrix.tolist() for name, matrix in confusion.items()},
    }


def _loss(saved: Checkpoint, front: AudioFront, items: Sequence[Recording]) -> float:
    """Mean of -log p of the right class."""
    _, probabilities = classify(saved.network, front, items, saved.tail_steps)
    truth = torch.tensor([item.label for item in items])
    return float(-probabilities[range(len(items)), truth].clamp_min(1e-6).log().mean())


def _changed(items: Sequence[Recording], change: Change, rate_hz: int) -> list[Recording]:
    """The recordings as a condition has them; the same noise for every network."""
    rng = np.random.default_rng(0)
    return [replace(item, audio=change(item.audio, rate_hz, rng)) for item in items]


def _summary(accuracies: Sequence[float]) -> dict[str, float]:
    if len(accuracies) < 2:
        return {"mean": accuracies[0], "worst": accuracies[0]}
    mean = float(np.mean(accuracies))
    half = float(stats.sem(accuracies) * stats.t.ppf(0.975, len(accuracies) - 1))
    return {"mean": mean, "worst": min(accuracies), "low": mean - half, "high": min(1.0, mean + half)}


def _clean(audio: Audio, rate_hz: int, rng: np.random.Generator) -> Audio:  # noqa: ARG001
    return audio


def _noise(decibels: int) -> Change:
    """White noise below the mean power of the word."""

    def change(audio: Audio, rate_hz: int, rng: np.random.Generator) -> Audio:  # noqa: ARG001
        power = float(np.square(audio.astype(np.float64)).mean())
        noise = rng.normal(0.0, np.sqrt(power * 10 ** (-decibels / 10)), audio.size)
        return np.clip(audio + noise, -1.0, 1.0).astype(np.float32)

    return change


def telephone(audio: Audio, rate_hz: int, rng: np.random.Generator) -> Audio:  # noqa: ARG001
    """The band of a telephone line."""
    spectrum = np.fft.rfft(audio.astype(np.float64))
    hz = np.fft.rfftfreq(audio.size, 1 / rate_hz)
    spectrum[(hz < TELEPHONE_HZ[0]) | (hz > TELEPHONE_HZ[1])] = 0.0
    return np.fft.irfft(spectrum, audio.size).astype(np.float32)


CONDITIONS: dict[str, Change] = {
    "clean": _clean,
    **{f"noise, {decibels} dB": _noise(decibels) for decibels in NOISE_DB},
    "telephone": telephone,
}


def _print(results: dict[str, Any]) -> None:
    console = Console()
    for name, found in results["runs"].items():
        _print_runs(console, name, found)
    if results.get("chosen"):
        condition = next(key for key in next(iter(results["chosen"].values())) if key != "runs")
        table = Table("left out", "runs that hear the others best", condition, title="chosen by the others")
        for speaker, each in results["chosen"].items():
            table.add_row(speaker, each["runs"], f"{each[condition]:.1%}")
        mean = np.mean([each[condition] for each in results["chosen"].values()])
        table.add_row("mean", "", f"{mean:.1%}", style="bold")
        console.print(table)


def _print_runs(console: Console, title: str, results: dict[str, Any]) -> None:
    speakers, conditions = results["speakers"], results["conditions"]
    losses = results["validation_loss"]
    table = Table("left out", *conditions, "validation loss", title=title)
    for speaker, accuracies in speakers.items():
        table.add_row(speaker, *(f"{accuracies[name]:.1%}" for name in conditions), f"{losses[speaker]:.3f}")
    means = [f"{each['mean']:.1%}" for each in conditions.values()]
    table.add_row("mean", *means, f"{np.mean(list(losses.values())):.3f}", style="bold")
    intervals = [f"{each['low']:.1%} to {each['high']:.1%}" if "low" in each else "-" for each in conditions.values()]
    table.add_row("95%", *intervals)
    console.print(table)
    said, heard = results["labels"], results["heard"]
    for name, rows in results["confusion"].items():
        matrix = np.array(rows)
        np.fill_diagonal(matrix, 0)
        worst = np.argsort(-matrix, axis=None)[:5]
        errors = [(said[index // len(heard)], heard[index % len(heard)], matrix.flat[index]) for index in worst]
        text = ", ".join(f"{truth} as {answer} ({count})" for truth, answer, count in errors if count)
        missed = f"; missed: {conditions[name]['missed']:.1%}" if len(heard) > len(said) else ""
        console.print(f"{name}: {text or 'no errors'}{missed}", highlight=False)


def _plot(results: dict[str, Any], path: Path) -> None:
    """The confusions of every condition, in percent of what was said."""
    plt = pyplot()
    figure, panels = plt.subplots(
        1, len(results["confusion"]), figsize=(3.1 * len(results["confusion"]), 3.4), layout="constrained"
    )
    said, heard = results["labels"], results["heard"]
    for axes, (name, rows) in zip(np.atleast_1d(panels), results["confusion"].items(), strict=True):
        counts = np.array(rows, np.float64)
        percent = 100 * counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        axes.imshow(percent, cmap="Greys", vmin=0, vmax=100)
        for row, column in np.argwhere(percent >= MENTIONED_PERCENT):
            colour = "white" if percent[row, column] > 50 else "black"
            axes.text(column, row, f"{percent[row, column]:.0f}", ha="center", va="center", fontsize=6, color=colour)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(heard)), heard, rotation=90, fontsize=7)
        axes.set_yticks(range(len(said)), said, fontsize=7)
        axes.set_xlabel("heard", fontsize=8)
    np.atleast_1d(panels)[0].set_ylabel("said", fontsize=8)
    save(figure, path)
