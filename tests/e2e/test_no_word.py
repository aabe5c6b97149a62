"""The default model behind a real server, where other things are said too: digits are named, nothing else is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream
from recipes.speech.vocabulary import DIGITS
from tests.support.data.microphone import RATE_HZ, spoken
from tests.support.tools import NO_ESPEAK

pytestmark = pytest.mark.process

OTHER_WORDS = ["banana", "computer", "garden", "house", "morning", "music"]
OTHER_WORDS += ["stop", "table", "tomorrow", "water", "window", "yes"]
VOICES = ("en-us", "en-gb", "en-us+f2")


def bursts(count: int) -> list[bytes]:
    """White and brown noise of half a second, as loud as speech."""
    rng = np.random.default_rng(5)
    white = [rng.normal(size=RATE_HZ // 2) for _ in range(count)]
    noises = [noise if n % 2 else np.cumsum(noise) for n, noise in enumerate(white)]
    scaled = [3_000 * (noise - noise.mean()) / noise.std() for noise in noises]
    return [noise.clip(-32768, 32767).astype("<i2").tobytes() for noise in scaled]


def test_noise_between_digits_is_answered_with_null(url: str) -> None:
    """Each burst is an utterance of its own, or none; what is named are the digits, in their order."""
    sound = b"".join(spoken(digit) + noise for digit, noise in zip(DIGITS, bursts(len(DIGITS)), strict=True))
    frames = []
    with LiveStream(url, sample_rate_hz=RATE_HZ) as stream:
        for chunk in np.array_split(np.frombuffer(sound + spoken(), "<i2"), 200):
            frames += stream.send(chunk)
        frames += stream.wait()
        stream.end()
    labels = [frame["label"] for frame in frames if frame["type"] == "UtteranceEnd"]
    assert [label for label in labels if label is not None] == list(DIGITS)
    assert labels.count(None) >= len(DIGITS) // 2


def test_other_words_are_answered_with_null(url: str) -> None:
    """Most other words by synthesised voices get null, and most digits their name."""
    if shutil.which("espeak-ng") is None:
        pytest.skip(NO_ESPEAK)

    def answers(words: Sequence[str]) -> list[str | None]:
        return [answer(voice, word) for voice in VOICES for word in words]

    def answer(voice: str, word: str) -> str | None:
        sound = subprocess.run(["espeak-ng", "-v", voice, "--stdout", word], capture_output=True, check=True).stdout
        headers = {"Content-Type": "audio/wav"}
        reply = httpx.post(f"{url}/infer", params={"end": True}, content=sound, headers=headers).json()
        label: str | None = reply["label"]
        return label

    unnamed, digits = answers(OTHER_WORDS), answers(DIGITS)
    assert unnamed.count(None) >= len(unnamed) / 2, unnamed
    right = [label == digit for label, digit in zip(digits, DIGITS * len(VOICES), strict=True)]
    assert sum(right) >= 0.8 * len(right), digits
