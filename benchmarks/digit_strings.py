"""Strings of spoken digits over ``WS /stream``: how many words are wrong, and when does the endpointer notice?

Each string has 20 recordings of one speaker, with pauses of 0.3 to 1.5 s between them and noise over all. The model has
not heard the speaker: it comes from a run of ``hetsyn train DATA --config speech-digits --leave-one-out``, and a server
streams it in chunks of 20 ms, with the settings of the model's manifest. Word errors are substitutions, deletions and
insertions of the best alignment. A false start is an utterance with a label that meets no word. The noise is white, or
pink (as in rooms); its level is below the mean power of the string's words.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hetsyn_client import LiveStream
from tests.support.server_process import ServerProcess, free_port

RATE_HZ = 8_000
WORDS, PAUSES_S = 20, (0.3, 1.5)
CHUNK = RATE_HZ // 50
MARGIN_S = 0.05  # by which an utterance has to meet a word
NOISES = ("none", "pink", "white")
PRINTED = (50, 95)

Audio = NDArray[np.float64]


@dataclass(frozen=True)
class String:
    """A string of words.

    Attributes:
        samples: int16.
        words: labels, in order.
        spans_s: where each begins and ends.
    """

    samples: NDArray[np.int16]
    words: list[str]
    spans_s: list[tuple[float, float]]


@dataclass(frozen=True)
class Heard:
    """What a server heard.

    Attributes:
        words: labels of the utterances.
        spans_s: where each begins and ends.
        started_s: where speech began, of each start; and how much had been sent when it was told.
        ended_s: how much had been sent when the end of each utterance was told.
    """

    words: list[str]
    spans_s: list[tuple[float, float]]
    started_s: list[tuple[float, float]]
    ended_s: list[float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of digit_speaker_take.wav")
    parser.add_argument("--runs", type=Path, required=True, help="folder of hetsyn train --leave-one-out")
    parser.add_argument("--strings", type=int, default=10, help="of each speaker")
    parser.add_argument("--snr-db", type=float, default=20.0, help="of the noise")
    parser.add_argument("--noise", choices=[*NOISES, "all"], default="all")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    count = 2 if arguments.quick else arguments.strings
    runs = sorted(arguments.runs.glob("without-*/best.pt"))
    if not runs:
        raise SystemExit(f"{arguments.runs} has no without-SPEAKER/best.pt: give --runs a folder of --leave-one-out")
    noises = NOISES if arguments.noise == "all" else (arguments.noise,)
    results: dict[str, Any] = {
        "strings": count, "words_of_each": WORDS, "pauses_s": PAUSES_S, "snr_db": arguments.snr_db, "noises": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models"
        for best in runs:
            _export(best, models / best.parent.name / "1")
        port = free_port()
        command = [sys.executable, "-m", "hetsyn", "serve", "--models", str(models), "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        with ServerProcess(command, {}, lambda: missing(url), Path(scratch) / "server.log"):
            for noise in noises:
                speakers = {}
                for best in runs:
                    speaker = best.parent.name.removeprefix("without-")
                    strings = [string_of(arguments.data, speaker, n, noise, arguments.snr_db) for n in range(count)]
                    heard = [hear(url, best.parent.name, string) for string in strings]
                    speakers[speaker] = judged(strings, heard)
                found = {**speakers, "all": _together(list(speakers.values()))}
                results["noises"][noise] = {speaker: _summary(counts) for speaker, counts in found.items()}
    _print(results)
    return results


def string_of(data: Path, speaker: str, seed: int, noise: str, snr_db: float) -> String:
    """A string of a speaker; the same for the same arguments."""
    rng = np.random.default_rng([seed, *speaker.encode()])
    takes: dict[str, list[Path]] = {}
    for path in sorted(data.glob(f"*_{speaker}_*.wav")):
        takes.setdefault(path.name.partition("_")[0], []).append(path)
    if not takes:
        raise SystemExit(f"{data} has no recordings of {speaker}: give --data a folder of digit_{speaker}_take.wav")
    digits = sorted(takes)
    parts, words, spans, at = [_pause(rng)], [], [], 0.0
    for _ in range(WORDS):
        at = sum(map(len, parts)) / RATE_HZ
        digit = digits[rng.integers(len(digits))]
        audio = _read(takes[digit][rng.integers(len(takes[digit]))])
        parts += [audio, _pause(rng)]
        words.append(digit)
        spans.append((at, at + len(audio) / RATE_HZ))
    audio = np.concatenate(parts)
    if noise != "none":
        power = np.concatenate(parts[1::2]).var()
        audio = audio + noise_of(noise, len(audio), rng) * np.sqrt(power * 10 ** (-snr_db / 10))
    return String(np.clip(np.round(audio * 2**15), -(2**15), 2**15 - 1).astype(np.int16), words, spans)


def hear(url: str, model: str, string: String) -> Heard:
    """Stream a string, and collect what the server hears."""
    labels: list[str] = []
    heard = Heard([], [], [], [])
    waiting: list[dict[str, Any]] = []
    with LiveStream(url, sample_rate_hz=RATE_HZ, model=model) as stream:
        frames = [
            frame
            for first in range(0, len(string.samples), CHUNK)
            for frame in stream.send(string.samples[first : first + CHUNK])
        ] + stream.wait()
        last = {"type": "Result", "seq": len(string.samples) // CHUNK}
        frames += [stream.end(), last]
        labels = stream.begin["labels"]
    for frame in frames:
        if frame["type"] != "Result":
            waiting.append(frame)
            continue
        sent_s = (frame["seq"] + 1) * CHUNK / RATE_HZ
        for event in waiting:
            if event["type"] == "SpeechStarted":
                heard.started_s.append((event["at"], sent_s))
            elif event["label"] is not None:
                heard.words.append(str(labels.index(event["label"])))
                heard.spans_s.append((event["start"], event["end"]))
                heard.ended_s.append(sent_s)
        waiting = []
    return heard


def judged(strings: Sequence[String], heard: Sequence[Heard]) -> dict[str, Any]:
    """Counts over the strings of one speaker."""
    counts = {"words": 0, "substitutions": 0, "deletions": 0, "insertions": 0, "missed": 0, "false_starts": 0}
    start_s: list[float] = []
    end_s: list[float] = []
    for string, found in zip(strings, heard, strict=True):
        counts["words"] += len(string.words)
        for name, number in zip(
            ("substitutions", "deletions", "insertions"), errors(string.words, found.words), strict=True
        ):
            counts[name] += number
        meets = [[meet(span, word) for word in string.spans_s] for span in found.spans_s]
        counts["missed"] += sum(not any(row[n] for row in meets) for n in range(len(string.words)))
        counts["false_starts"] += sum(not any(row) for row in meets)
        for n, (begin_s, finish_s) in enumerate(string.spans_s):
            alone = [k for k, row in enumerate(meets) if row[n] and sum(row) == 1]
            if len(alone) == 1:
                end_s.append(found.ended_s[alone[0]] - finish_s)
            told = [sent_s for at_s, sent_s in found.started_s if begin_s - MARGIN_S <= at_s < finish_s]
            start_s += [told[0] - begin_s] if told else []
    return counts | {"start_latency_s": start_s, "end_latency_s": end_s}


def errors(words: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of the best alignment."""
    rows: list[list[tuple[int, int, int, int]]] = [[(n, 0, 0, n) for n in range(len(heard) + 1)]]
    for i, word in enumerate(words, 1):
        row = [(i, 0, i, 0)]
        for j, other in enumerate(heard, 1):
            wrong = word != other
            cost, s, d, n = rows[-1][j - 1]
            ways = [(cost + wrong, s + wrong, d, n)]
            cost, s, d, n = rows[-1][j]
            ways.append((cost + 1, s, d + 1, n))
            cost, s, d, n = row[-1]
            ways.append((cost + 1, s, d, n + 1))
            row.append(min(ways))
        rows.append(row)
    _, substitutions, deletions, insertions = rows[-1][-1]
    return substitutions, deletions, insertions


def meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] - MARGIN_S and one[1] > other[0] + MARGIN_S


def _together(speakers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: sum((speaker[key] for speaker in speakers), start=[] if isinstance(value, list) else 0)
        for key, value in speakers[0].items()
    }


def _summary(counts: dict[str, Any]) -> dict[str, Any]:
    """Counts with the percentiles of latencies in place of all of them."""
    return {
        key: {f"p{share}": float(np.percentile(value, share)) for share in PRINTED if value}
        if isinstance(value, list)
        else value
        for key, value in counts.items()
    }


def _pause(rng: np.random.Generator) -> Audio:
    return np.zeros(round(rng.uniform(*PAUSES_S) * RATE_HZ))


def _read(path: Path) -> Audio:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getsampwidth(), file.getnchannels()) != (RATE_HZ, 2, 1):
            raise SystemExit(f"{path} is not 16-bit mono at {RATE_HZ} Hz: give --data such recordings")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15


def noise_of(kind: str, count: int, rng: np.random.Generator) -> Audio:
    """White or pink noise of variance 1."""
    white = rng.normal(size=count)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white) / np.sqrt(np.arange(count // 2 + 1) + 1.0)
    pink = np.fft.irfft(spectrum, count)
    return np.asarray(pink / pink.std())


def _export(checkpoint: Path, out: Path) -> None:
    command = [sys.executable, "-m", "hetsyn", "export", str(checkpoint), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkpoint} cannot be exported: {done.stderr.strip() or done.stdout.strip()}")


def missing(url: str) -> str | None:
    try:
        status = httpx.get(f"{url}/health/ready").status_code
    except httpx.HTTPError as error:
        return str(error)
    return None if status == 200 else f"/health/ready answers {status}"


def word_error_rate(counts: dict[str, Any]) -> float:
    wrong = counts["substitutions"] + counts["deletions"] + counts["insertions"]
    return float(wrong / counts["words"])


def _print(results: dict[str, Any]) -> None:
    console = Console()
    for noise, found in results["noises"].items():
        level = "" if noise == "none" else f" at {results['snr_db']:g} dB"
        table = Table(title=f"Strings of digits, noise: {noise}{level}")
        columns = ("left out", "words", "wrong", "sub", "del", "ins", "missed", "false", "start, ms", "end, ms")
        for n, column in enumerate(columns):
            table.add_column(column, justify="right" if n else "left")
        for speaker, counts in found.items():
            latencies = [
                ", ".join(f"{1000 * latency_s:.0f}" for latency_s in counts[key].values())
                for key in ("start_latency_s", "end_latency_s")
            ]
            table.add_row(
                speaker, str(counts["words"]), f"{word_error_rate(counts):.1%}",
                *(str(counts[key]) for key in ("substitutions", "deletions", "insertions", "missed", "false_starts")),
                *latencies,
            )  # fmt: skip
        console.print(table)
    shares = " and ".join(f"{share}%" for share in PRINTED)
    console.print(f"false: starts that meet no word; start, end: told after, for {shares} of the words")
