"""How often does a model hear one of its words in speech that has none, over ``WS /stream``, and how many does it miss?

Three streams go to a live server in chunks of 0.1 s, with the settings of the model's manifest. ``speech`` has the
recordings of ``--speech``, which must not have a word of the model in them, with pauses of 0.3 to 1.5 s. ``noise`` has
bursts of white and pink noise of 0.2 to 2 s with the same pauses. In ``mixed``, recordings of ``--words`` alternate
with short ones of ``--speech``. An answer is the end of an utterance that names a label. Each answer to the first two
streams is a false alarm. A word is hit if an utterance that meets it names it. Each figure is a curve over the lowest
probability that a client takes for an answer. The interval is Poisson's, 95%.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.digit_strings import NOISES, PAUSES_S, Audio, meet, missing, noise_of
from hetsyn_client import LiveStream
from hetsyn_model.training.data import DataError, read_wav
from tests.support.recordings import digit
from tests.support.server_process import ServerProcess, free_port

RATE_HZ = 8_000
CHUNK = RATE_HZ // 10
THRESHOLDS = tuple(round(0.1 * n, 1) for n in range(10))
BURSTS_S, BURSTS_DB = (0.2, 2.0), (-50.0, -20.0)
BURSTS_A_MINUTE = 40  # more than fit in, with the pauses
LONGEST_BETWEEN_S = 3.0  # speech between two words
QUICK_MINUTES, QUICK_WORDS = 1.0, 20
LEVEL = 0.95


class Stream(NamedTuple):
    """What is streamed.

    Attributes:
        samples: int16.
        words: the word and where it begins and ends, in seconds, of each word of the model.
    """

    samples: NDArray[np.int16]
    words: list[tuple[str, tuple[float, float]]]


class Heard(NamedTuple):
    """What a server answered.

    Attributes:
        utterances: in which something was heard, named or not.
        named: label, probability, begin and end in seconds of those that name a label.
    """

    utterances: int
    named: list[tuple[str, float, tuple[float, float]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--speech", type=Path, nargs="+", required=True, help="folders of wav without the model's words"
    )
    parser.add_argument(
        "--words", type=Path, required=True, help="folder of word_speaker_take.wav, or a digit's number"
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the models")
    parser.add_argument("--model", default="speech-digits")
    parser.add_argument("--minutes", type=float, default=10.0, help="at most, of each stream without words")
    parser.add_argument("--most-words", type=int, default=200)
    parser.add_argument("--noise", choices=NOISES, default="none", help="over all of speech and words")
    parser.add_argument("--snr-db", type=float, default=20.0, help="of this noise")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    minutes = QUICK_MINUTES if arguments.quick else arguments.minutes
    most = QUICK_WORDS if arguments.quick else arguments.most_words
    speech = [audio for folder in arguments.speech for _, audio in _recordings(folder)]
    words = [(digit(path), audio) for path, audio in _recordings(arguments.words)]
    rng = np.random.default_rng(0)
    streams = {
        "speech": _alone(speech, minutes, rng),
        "noise": _alone([_burst(rng) for _ in range(max(1, round(BURSTS_A_MINUTE * minutes)))], minutes, rng),
        "mixed": _mixed(words, speech, most, rng),
    }
    for name in ("speech", "mixed"):
        streams[name] = _noisy(streams[name], arguments.noise, arguments.snr_db, rng)
    with tempfile.TemporaryDirectory() as scratch:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "hetsyn", "serve", "--models", str(arguments.models), "--port", str(port)]
        command += ["--default-model", arguments.model]
        with ServerProcess(command, {}, lambda: missing(url), Path(scratch) / "server.log"):
            heard = {name: _hear(url, arguments.model, stream) for name, stream in streams.items()}
    results = {
        "model": arguments.model, "over_speech": arguments.noise, "snr_db": arguments.snr_db,
        **{name: alarms(heard[name], len(streams[name].samples) / RATE_HZ) for name in ("speech", "noise")},
        "mixed": hits(heard["mixed"], streams["mixed"].words),
    }  # fmt: skip
    _print(results)
    return results


def alarms(heard: Heard, duration_s: float) -> dict[str, Any]:
    """Answers to a stream that has no word, for each threshold, with how many an hour."""
    hours = duration_s / 3600
    curve = []
    for threshold in THRESHOLDS:
        count = sum(probability >= threshold for _, probability, _ in heard.named)
        low = float(stats.chi2.ppf((1 - LEVEL) / 2, 2 * count) / 2) if count else 0.0
        high = float(stats.chi2.ppf((1 + LEVEL) / 2, 2 * count + 2) / 2)
        curve.append(
            {
                "threshold": threshold,
                "alarms": count,
                "an_hour": count / hours,
                "low": low / hours,
                "high": high / hours,
            }
        )
    return {"duration_s": duration_s, "utterances": heard.utterances, "curve": curve}


def hits(heard: Heard, words: Sequence[tuple[str, tuple[float, float]]]) -> dict[str, Any]:
    """How many words are named, and how many are named wrongly only, for each threshold."""
    curve = []
    for threshold in THRESHOLDS:
        met = [
            {label for label, probability, at in heard.named if probability >= threshold and meet(at, span)}
            for _, span in words
        ]
        right = sum(word in labels for (word, _), labels in zip(words, met, strict=True))
        wrong = sum(bool(labels) and word not in labels for (word, _), labels in zip(words, met, strict=True))
        curve.append({"threshold": threshold, "hits": right, "wrong": wrong, "share": right / len(words)})
    return {"words": len(words), "utterances": heard.utterances, "curve": curve}


def _recordings(folder: Path) -> list[tuple[Path, Audio]]:
    try:
        found = [(path, read_wav(path, RATE_HZ).astype(np.float64)) for path in sorted(folder.rglob("*.wav"))]
    except DataError as error:
        raise SystemExit(str(error)) from error
    if not found:
        raise SystemExit(f"{folder}: has no wav files: give a folder of recordings")
    return found


def _alone(recordings: Sequence[Audio], minutes: float, rng: np.random.Generator) -> Stream:
    """Each recording once, in random order, until the time is up."""
    parts, left = [_pause(rng)], minutes * 60 * RATE_HZ
    for index in rng.permutation(len(recordings)).tolist():
        if sum(map(len, parts)) >= left:
            break
        parts += [recordings[index], _pause(rng)]
    return Stream(_pcm(np.concatenate(parts)), [])


def _mixed(words: Sequence[tuple[str, Audio]], speech: Sequence[Audio], most: int, rng: np.random.Generator) -> Stream:
    between = [audio for audio in speech if len(audio) <= LONGEST_BETWEEN_S * RATE_HZ]
    if not between:
        raise SystemExit(f"--speech: has no recording of {LONGEST_BETWEEN_S:g} s or less: give some")
    parts, at, spans = [_pause(rng)], 0, []
    for index in rng.permutation(len(words))[:most].tolist():
        word, audio = words[index]
        at = sum(map(len, parts))
        spans.append((word, (at / RATE_HZ, (at + len(audio)) / RATE_HZ)))
        parts += [audio, _pause(rng), between[rng.integers(len(between))], _pause(rng)]
    return Stream(_pcm(np.concatenate(parts)), spans)


def _burst(rng: np.random.Generator) -> Audio:
    level = 10 ** (rng.uniform(*BURSTS_DB) / 20)
    return level * noise_of(NOISES[rng.integers(1, len(NOISES))], round(rng.uniform(*BURSTS_S) * RATE_HZ), rng)


def _noisy(stream: Stream, kind: str, snr_db: float, rng: np.random.Generator) -> Stream:
    """The stream in noise below the mean power of its sound, pauses left out."""
    if kind == "none":
        return stream
    audio = stream.samples / 2**15
    power = np.square(audio[audio != 0]).mean()
    noise = noise_of(kind, len(audio), rng) * np.sqrt(power * 10 ** (-snr_db / 10))
    return stream._replace(samples=_pcm(audio + noise))


def _pause(rng: np.random.Generator) -> Audio:
    return np.zeros(round(rng.uniform(*PAUSES_S) * RATE_HZ))


def _pcm(audio: Audio) -> NDArray[np.int16]:
    return np.clip(np.round(audio * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def _hear(url: str, model: str, stream: Stream) -> Heard:
    frames = []
    with LiveStream(url, sample_rate_hz=RATE_HZ, model=model, endpointing=True, interim=False) as live:
        for first in range(0, len(stream.samples), CHUNK):
            frames += live.send(stream.samples[first : first + CHUNK])
        frames += [*live.wait(), live.end()]
    ends = [frame for frame in frames if frame["type"] == "UtteranceEnd" and frame["probabilities"] is not None]
    named = [
        (end["label"], max(end["probabilities"]), (end["start"], end["end"]))
        for end in ends
        if end["label"] is not None
    ]
    return Heard(len(ends), named)


def _print(results: dict[str, Any]) -> None:
    console, speech, noise, mixed = Console(), results["speech"], results["noise"], results["mixed"]
    table = Table(
        *("at least", "speech, alarms", "an hour", "95%", "noise, alarms", "an hour", "hits", "wrong"),
        title=f"{results['model']}, noise over speech: {results['over_speech']}",
    )
    for one, other, word in zip(speech["curve"], noise["curve"], mixed["curve"], strict=True):
        table.add_row(
            f"{one['threshold']:.1f}", str(one["alarms"]), f"{one['an_hour']:.0f}",
            f"{one['low']:.0f} to {one['high']:.0f}", str(other["alarms"]), f"{other['an_hour']:.0f}",
            f"{word['share']:.1%}", f"{word['wrong'] / mixed['words']:.1%}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"speech: {speech['duration_s'] / 60:.1f} min, {speech['utterances']} utterances; noise: "
        f"{noise['duration_s'] / 60:.1f} min, {noise['utterances']}; mixed: {mixed['words']} words",
        highlight=False,
    )
