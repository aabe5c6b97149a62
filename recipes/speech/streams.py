"""Long streams through a model, as it is served: strings of digits, and sound in which there is no word.

``hetsyn run`` hears them: it has the server's engine and endpointing, with the settings of the model's manifest.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import soundfile
from numpy.typing import NDArray

from hetsyn_model.training.datasets.data import DataError, read_wav
from recipes.speech.pool import RATE_HZ, Clip

Audio = NDArray[np.float32]
Noise = Literal["none", "pink", "white"]

NOISES: Final[tuple[Noise, ...]] = get_args(Noise)
WORDS: Final = 20  # of a string
STRINGS: Final = 50  # each of another person
SNR_DB: Final = 20.0  # of the noise
PAUSES_S: Final = (0.3, 1.5)
MARGIN_S: Final = 0.05  # around a word, and by which an utterance has to meet it
POWER: Final = 10**-2.6  # mean of the words of a string
FEWEST_TAKES: Final = 3  # of a person whose digits make strings
BURSTS_S, BURSTS_DB = (0.2, 2.0), (-50.0, -20.0)
BURSTS: Final = 450  # with the pauses, 15 minutes
PROMPTS: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
# prompts that have a digit or sound like one, and those that are no speech
DIGITS_IN: Final = re.compile(
    r"(beep|.*2tone|tt-monkeys|conf-(admin|user)menu|conf-only|conf-otherinparty|confbridge-(only-one|join|leave)|"
    r"demo-(instruct|enterkey|echotest)|dir-|basic|one-mom|priv-callee|screen-callee|for\.|spy-(h323|iax2)|vm-|"
    r"queue-(youare|quantity)|(digits|silence|dictate|followme)/|letters/(ascii|o\.)|phonetic/9)"
)


@dataclass(frozen=True)
class Stream:
    """Sound to stream.

    Attributes:
        audio: float32 [samples].
        words: that are said, in their order.
        spans_s: beginning and end of each word.
    """

    audio: Audio
    words: tuple[str, ...] = ()
    spans_s: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Heard:
    """What a model heard in a stream.

    Attributes:
        model: its name and version.
        words: that it named, in their order.
        spans_s: beginning and end of each named utterance.
        unnamed: utterances that it answered with null.
    """

    model: str
    words: tuple[str, ...]
    spans_s: tuple[tuple[float, float], ...]
    unnamed: int


def hear(model: Path, stream: Stream) -> Heard:
    """Stream a recording into a model.

    Args:
        model: as ``hetsyn run`` takes it: a folder, or a name in ``models``.
        stream: at 8 kHz.

    Raises:
        DataError: the model cannot hear it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.wav"
        soundfile.write(path, stream.audio, RATE_HZ, "PCM_16")
        command = [sys.executable, "-m", "hetsyn", "run", str(model), str(path), "--utterances", "--json"]
        # chunks of any length give the same answers; long ones cost less
        done = subprocess.run([*command, "--chunk-ms", "1000"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(done.stderr.strip() or done.stdout.strip())
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    begin = next(frame for frame in frames if frame["type"] == "Begin")
    ends = [frame for frame in frames if frame["type"] == "UtteranceEnd" and frame["probabilities"] is not None]
    named = [end for end in ends if end["label"] is not None]
    return Heard(
        f"{begin['model']}-{begin['version']}",
        tuple(end["label"] for end in named),
        tuple((end["start"], end["end"]) for end in named),
        len(ends) - len(named),
    )


def string_of(clips: Sequence[Clip], rng: np.random.Generator) -> Stream:
    """Draw a string of words with pauses; the words have one mean power in every string."""
    parts, words, spans, said = [_pause(rng)], [], [], []
    margin = round(MARGIN_S * RATE_HZ)
    for index in rng.integers(0, len(clips), WORDS):
        one = clips[int(index)]
        start = max(0, one.active[0] - margin)
        at = sum(map(len, parts)) - start
        words.append(one.word)
        spans.append(((at + one.active[0]) / RATE_HZ, (at + one.active[1]) / RATE_HZ))
        said.append(one.spoken)
        parts += [one.audio[start : one.active[1] + margin], _pause(rng)]
    scale = np.sqrt(POWER / np.square(np.concatenate(said)).mean())
    return Stream(np.concatenate(parts) * np.float32(scale), tuple(words), tuple(spans))


def strings(clips: Iterable[Clip]) -> Stream:
    """Join strings, each of another person; the same in every call.

    Raises:
        DataError: too few people say several digits.
    """
    by: dict[str, list[Clip]] = {}
    for one in clips:
        by.setdefault(one.speaker, []).append(one)
    people = sorted(speaker for speaker, own in by.items() if len(own) >= FEWEST_TAKES)
    if len(people) < STRINGS:
        raise DataError(f"only {len(people)} people say {FEWEST_TAKES} digits or more: {STRINGS} are needed")
    rng, at_s = np.random.default_rng(0), 0.0
    parts: list[Audio] = []
    words: list[str] = []
    spans: list[tuple[float, float]] = []
    for speaker in rng.permutation(np.array(people)).tolist()[:STRINGS]:
        string = string_of(by[speaker], rng)
        parts.append(string.audio)
        words += string.words
        spans += [(begin_s + at_s, end_s + at_s) for begin_s, end_s in string.spans_s]
        at_s += string.audio.size / RATE_HZ
    return Stream(np.concatenate(parts), tuple(words), tuple(spans))


def noisy(stream: Stream, noise: Noise) -> Stream:
    """Add noise over all of a stream of strings, below the mean power of the words."""
    audio = stream.audio
    if noise != "none":
        level = np.float32(np.sqrt(POWER * 10 ** (-SNR_DB / 10)))
        audio = audio + level * noise_of(noise, audio.size, np.random.default_rng(1))
    return replace(stream, audio=np.clip(audio, -1.0, 1.0))


def without_words() -> Stream:
    """Join Debian's prompts that have no digit, in random order with pauses.

    Raises:
        DataError: there are none.
    """
    paths = [path for path in sorted(PROMPTS.rglob("*.wav")) if not DIGITS_IN.match(str(path.relative_to(PROMPTS)))]
    if not paths:
        raise DataError(f"{PROMPTS}: has no wav files: apt-get install asterisk-core-sounds-en-wav")
    rng = np.random.default_rng(0)
    return _joined([read_wav(paths[int(index)], RATE_HZ) for index in rng.permutation(len(paths))], rng)


def bursts() -> Stream:
    """Make bursts of white and of pink noise with pauses."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(BURSTS):
        level = 10 ** (rng.uniform(*BURSTS_DB) / 20)
        noise = noise_of(NOISES[rng.integers(1, len(NOISES))], round(rng.uniform(*BURSTS_S) * RATE_HZ), rng)
        made.append(np.clip(level * noise, -1.0, 1.0))
    return _joined(made, rng)


def _joined(recordings: Iterable[Audio], rng: np.random.Generator) -> Stream:
    parts = [_pause(rng)]
    for audio in recordings:
        parts += [audio, _pause(rng)]
    return Stream(np.concatenate(parts))


def _pause(rng: np.random.Generator) -> Audio:
    return np.zeros(round(rng.uniform(*PAUSES_S) * RATE_HZ), np.float32)


def noise_of(kind: Noise, count: int, rng: np.random.Generator) -> Audio:
    """Make white or pink noise of variance 1."""
    white = rng.normal(size=count)
    if kind == "white":
        return white.astype(np.float32)
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(count // 2 + 1) + 1.0), count)
    return np.asarray(pink / pink.std(), np.float32)


def judged(said: Stream, heard: Heard) -> dict[str, Any]:
    """Count word errors, and false starts: named utterances that meet no word."""
    substitutions, deletions, insertions = errors(said.words, heard.words)
    return {
        "words": len(said.words),
        "word_errors": (substitutions + deletions + insertions) / len(said.words),
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
        "false_starts": sum(not any(meet(span, word) for word in said.spans_s) for span in heard.spans_s),
    }


def errors(words: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """Return substitutions, deletions and insertions of the best alignment."""
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
    return rows[-1][-1][1:]


def meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] - MARGIN_S and one[1] > other[0] + MARGIN_S


def alarms(stream: Stream, heard: Heard) -> dict[str, Any]:
    """Count the words that a model named where there is none, with an hour's mean and its 95% interval."""
    count, hours = len(heard.words), len(stream.audio) / RATE_HZ / 3600
    low, high = poisson(count)
    return {
        "hours": hours,
        "utterances": count + heard.unnamed,
        "alarms": count,
        "an_hour": count / hours,
        "low": low / hours,
        "high": high / hours,
    }


def poisson(count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95% interval of a Poisson mean (Byar's approximation)."""
    more = count + 1
    low = count * (1 - 1 / (9 * count) - z / (3 * sqrt(count))) ** 3 if count else 0.0
    return low, more * (1 - 1 / (9 * more) + z / (3 * sqrt(more))) ** 3
