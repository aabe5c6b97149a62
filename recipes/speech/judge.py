"""Judge a network on people whom it has never heard: clean, in noise, over a telephone, louder, fainter, late."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from hetsyn_model.training.encoding.augment import TELEPHONE_HZ
from recipes.speech.networks import Model, readout
from recipes.speech.pool import RATE_HZ, Clip
from recipes.speech.training import encoded, probabilities
from recipes.speech.vocabulary import SILENCE, Vocabulary

Audio = NDArray[np.float32]
Change = Callable[[Audio, np.random.Generator], Audio]
FloatArray = NDArray[np.float64]

SERVED: Final = 3  # power of a step's number in the decision that is served
POWERS: Final = (0, SERVED)  # 0: all steps count alike
REFUSED: Final = 0.06  # of the validation people's words, at the operating point


def _noise(decibels: float) -> Change:
    """Add white noise, ``decibels`` below the mean power of the loud frames."""

    def change(audio: Audio, rng: np.random.Generator) -> Audio:
        frames = np.add.reduceat(audio.astype(np.float64) ** 2, np.arange(0, audio.size, 80)) / 80
        power = frames[frames >= frames.max() * 1e-3].mean()
        noise = rng.normal(0.0, np.sqrt(power * 10 ** (-decibels / 10)), audio.size)
        return np.clip(audio + noise, -1.0, 1.0).astype(np.float32)

    return change


def _gain(decibels: float) -> Change:
    def change(audio: Audio, rng: np.random.Generator) -> Audio:  # noqa: ARG001
        return np.asarray(np.clip(audio * np.float32(10 ** (decibels / 20)), -1.0, 1.0), np.float32)

    return change


def _quiet(duration_s: float) -> Change:
    def change(audio: Audio, rng: np.random.Generator) -> Audio:  # noqa: ARG001
        return np.concatenate([np.zeros(round(duration_s * RATE_HZ), np.float32), audio])

    return change


def _telephone(audio: Audio, rng: np.random.Generator) -> Audio:  # noqa: ARG001
    spectrum = np.fft.rfft(audio.astype(np.float64))
    hz = np.fft.rfftfreq(audio.size, 1 / RATE_HZ)
    spectrum[(hz < TELEPHONE_HZ[0]) | (hz > TELEPHONE_HZ[1])] = 0.0
    return np.fft.irfft(spectrum, audio.size).astype(np.float32)


CONDITIONS: Final[dict[str, Change]] = {
    "clean": lambda audio, _: audio,
    "noise, 20 dB": _noise(20),
    "noise, 10 dB": _noise(10),
    "noise, 5 dB": _noise(5),
    "telephone": _telephone,
    "gain -20 dB": _gain(-20),
    "gain +10 dB": _gain(10),
    "gain +20 dB": _gain(20),
    "0.2 s of quiet before": _quiet(0.2),
    "0.5 s of quiet before": _quiet(0.5),
}


@dataclass(frozen=True)
class Heard:
    """The answers of a network to recordings.

    Attributes:
        clips: recordings that the network heard, shorter ones first.
        probabilities: float64 [recordings, outputs] for each decision. The key is the power n: step t counts t^n times.
    """

    clips: Sequence[Clip]
    probabilities: Mapping[int, FloatArray]


def hear(model: Model, clips: Sequence[Clip], outputs: Sequence[int], condition: str = "clean") -> Heard:
    """Run a network on recordings after a change of ``CONDITIONS``. Every network gets the same noise.

    Args:
        outputs: those that compete; the words of the model come first.
        condition: name of the change.
    """
    change = CONDITIONS[condition]
    changed = [replace(one, audio=change(one.audio, _rng(one, condition))) for one in clips]
    heard: list[Clip] = []
    found: dict[int, list[torch.Tensor]] = {power: [] for power in POWERS}
    model.eval()
    with torch.no_grad():
        for part, batch in encoded(changed):
            heard += part
            logits = readout(model, batch)[..., list(outputs)]
            for power in POWERS:
                found[power].append(probabilities(logits, batch.steps, power))
    return Heard(heard, {power: torch.cat(found[power]).numpy() for power in POWERS})


def _rng(clip: Clip, condition: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{condition} {clip.word} {clip.speaker} {clip.take}".encode()))


def best_of(heard: Heard, vocabulary: Vocabulary, power: int) -> FloatArray:
    """Return the probability of the likeliest word, [recordings].

    Six measures were tried on the people who choose; a threshold on this one refused most of what is no word.
    """
    return np.asarray(heard.probabilities[power][:, : len(vocabulary.named)].max(1), np.float64)


def threshold(heard: Heard, vocabulary: Vocabulary, power: int) -> float:
    """Find the threshold on the likeliest word's probability that refuses ``REFUSED`` of the model's own words."""
    own = [index for index, one in enumerate(heard.clips) if one.word in vocabulary.named]
    return float(np.quantile(best_of(heard, vocabulary, power)[own], REFUSED))


def closed(heard: Heard, vocabulary: Vocabulary, power: int) -> NDArray[np.bool_]:
    """Compare the likeliest word with the one that was said, [recordings]. Refused recordings count, too."""
    best = heard.probabilities[power][:, : len(vocabulary.named)].argmax(1)
    return np.array([vocabulary.named[index] == one.word for index, one in zip(best, heard.clips, strict=True)], bool)


def counts(right: Iterable[bool]) -> dict[str, int]:
    """Count the answers, and the right ones among them."""
    each = list(right)
    return {"right": sum(map(bool, each)), "of": len(each)}


def rate(counted: Mapping[str, int]) -> float:
    """Divide the right answers of :func:`counts` by all."""
    return counted["right"] / max(1, counted["of"])


def figures(heard: Heard, vocabulary: Vocabulary, least: float, power: int, *, is_detailed: bool) -> dict[str, Any]:
    """Count right, refused and wrongly named recordings.

    Args:
        heard: answers to words of the model and to other words.
        vocabulary: classes of the network.
        least: threshold on the likeliest word's probability; a recording below it is refused.
        power: key of ``heard.probabilities``.
        is_detailed: whether to count by word, too.
    """
    right, named = closed(heard, vocabulary, power), best_of(heard, vocabulary, power) >= least
    words = np.array([one.word for one in heard.clips], object)
    own = np.isin(words, vocabulary.named)
    found: dict[str, Any] = {
        "closed": counts(right[own]),
        "right and named": counts((right & named)[own]),
        "refused": counts((~named)[own]),
        "others named": counts(named[~own]),
    }
    if is_detailed:
        found["by word"] = {word: counts(right[words == word]) for word in vocabulary.named if word in words}
        found["named by word"] = {word or SILENCE: counts(named[words == word]) for word in sorted({*words[~own]})}
    return found
