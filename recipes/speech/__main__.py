"""``python -m recipes.speech COMMAND``: how the shipped speech models are made and judged."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from hetsyn_model.training.datasets.data import DataError
from recipes.speech import experiments, streams
from recipes.speech.people import HELD_OUT_WORDS, RESULTS
from recipes.speech.plan import PLAN
from recipes.speech.pool import gather_speech, of_people, read_pool
from recipes.speech.training import SERVABLE, keep_served, run
from recipes.speech.vocabulary import DIGITS, percent
from recipes.speech.voices import others
from recipes.speech.voices.corpus import digits, installed, synthesise

FINISHED = "finished.json"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipes.speech", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("voices", "synthesise digits, with every speech engine on this machine"),
        ("others", "synthesise words that are none of the model's"),
        ("speech", "gather other speech in many languages from two games of Debian"),
        ("list", "list the runs of the plan"),
        ("train", "train runs of the plan, one after the other; a run that was stopped goes on"),
        ("validate", "judge runs on the people who choose"),
        ("test", "judge runs on the people who test; look once"),
        ("digit-strings", "stream strings of digits of the people who test, with and without noise: word errors"),
        ("false-alarms", "stream speech and noise without a digit: how many are named in an hour?"),
        ("report", "write the page of all kept results"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--data", type=Path, default=Path("data"), help="with people/ studio/ voices/ …")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="a folder a run")
        if name == "voices":
            command.add_argument("--out", type=Path, help="by default voices of --data. Existing files are kept")
        if name in ("digit-strings", "false-alarms"):
            command.add_argument("model", type=Path, metavar="MODEL", help="of the digits: a folder, or its name")
        if name in ("train", "validate", "test", "list"):
            command.add_argument("names", nargs="*", metavar="NAME", help="of the plan; a regular expression")
    return parser


def main() -> None:
    try:
        _run(make_parser().parse_args())
    except DataError as error:
        sys.exit(str(error))


def _run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)  # so that a run gives the same bits on every machine
    data = arguments.data
    match arguments.command:
        case "voices":
            out = arguments.out or data / "voices"
            print(f"{synthesise(out, digits(installed()))} recordings in {out}")
        case "others":
            words = others.words(HELD_OUT_WORDS)
            count = synthesise(data / "others", others.takes(words, installed()))
            print(f"{count} recordings of {len(words)} words in {data / 'others'}")
        case "speech":
            print(f"{gather_speech(data / 'speech')} recordings in {data / 'speech'}")
        case "list":
            print("\n".join(_chosen(arguments.names or [".*"])))
        case "train":
            for name in _chosen(arguments.names):
                _train(name, arguments.runs, data)
        case "validate" | "test":
            for name in _chosen(arguments.names):
                experiments.judge(name, arguments.runs, data, arguments.command)
        case "digit-strings":
            digit_strings(arguments.model, data)
        case "false-alarms":
            false_alarms(arguments.model)
        case "report":
            from recipes.speech.report import PAGE, report  # the other commands do without scipy

            PAGE.write_text(report())
            print(PAGE)


def digit_strings(model: Path, data: Path) -> None:
    """Judge a model on strings of digits, print the word errors and keep them."""
    clips = [one for one in of_people(data / "people", "test") if one.word in DIGITS]
    found: dict[str, Any] = {"snr_db": streams.SNR_DB}
    said = streams.strings(clips)
    for noise in streams.NOISES:
        heard = streams.hear(model, streams.noisy(said, noise))
        found[noise] = counts = streams.judged(said, heard)
        print(
            f"{noise:5} {counts['words']} words, {percent(counts['word_errors'])} wrong: "
            f"{counts['substitutions']} substitutions, {counts['deletions']} deletions, "
            f"{counts['insertions']} insertions; {counts['false_starts']} false starts",
            flush=True,
        )
    _keep(f"streams/digit-strings-{heard.model}", found)


def false_alarms(model: Path) -> None:
    """Judge a model on sound without a digit, print the false alarms and keep them."""
    found = {}
    for name, stream in (("speech", streams.without_words()), ("noise", streams.bursts())):
        heard = streams.hear(model, stream)
        found[name] = counts = streams.alarms(stream, heard)
        print(
            f"{name:6} {counts['hours'] * 60:.1f} minutes, {counts['utterances']} utterances, "
            f"{counts['alarms']} named: {counts['an_hour']:.0f} an hour ({counts['low']:.0f} to {counts['high']:.0f})",
            flush=True,
        )
    _keep(f"streams/false-alarms-{heard.model}", found)


def _keep(name: str, found: dict[str, Any]) -> None:
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _chosen(patterns: list[str]) -> list[str]:
    chosen = [name for pattern in patterns for name in PLAN if re.fullmatch(pattern, name)]
    if not chosen:
        sys.exit(f"no run of the plan is named {' '.join(patterns) or '(nothing)'}: see python -m recipes.speech list")
    return chosen


def _train(name: str, runs: Path, data: Path) -> None:
    out, recipe = runs / name, PLAN[name]
    is_served = recipe.shape.kind not in SERVABLE or (out / "served").exists()
    if (out / FINISHED).exists() and is_served:
        return
    recipe = replace(recipe, teachers=tuple(str(runs / teacher) for teacher in recipe.teachers))
    pool, validation = read_pool(data, recipe.draws, recipe.leave_out)
    history = run(out, recipe, pool, validation)  # of a finished run, what it kept
    if recipe.shape.kind in SERVABLE:
        keep_served(out, validation)
    (out / FINISHED).write_text(json.dumps(asdict(history)) + "\n")
    print(f"{name}: epoch {history.chosen}, validation loss {history.validation_loss[history.chosen]:.3f}", flush=True)


if __name__ == "__main__":
    main()
