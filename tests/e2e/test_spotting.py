"""The shipped network of digits among other speech, behind a real server: digits are named, nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetsyn_client import LiveStream, StreamingClient
from hetsyn_model.training.data import read_wav
from tests.support.paths import ROOT

pytestmark = pytest.mark.long

MODEL, RATE_HZ = "digit-spotting", 8_000
RECORDINGS = sorted((ROOT / "docs/recordings").glob("*.wav"))
PAUSE = np.zeros(RATE_HZ // 2, np.int16)


def pcm(path: Path) -> np.ndarray:
    return np.round(read_wav(path, RATE_HZ) * 32767).astype(np.int16)


def bursts(count: int) -> list[np.ndarray]:
    """White and brown noise of half a second, as loud as speech."""
    rng = np.random.default_rng(5)
    white = [rng.normal(size=RATE_HZ // 2) for _ in range(count)]
    noises = [noise if n % 2 else np.cumsum(noise) for n, noise in enumerate(white)]
    return [(3_000 * (noise - noise.mean()) / noise.std()).clip(-32768, 32767).astype(np.int16) for noise in noises]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_digit_is_named(url: str, path: Path) -> None:
    with StreamingClient(url) as client:
        assert client.infer_chunk(pcm(path), RATE_HZ, model=MODEL, end=True)["label"] == path.stem


def test_noise_between_digits_is_answered_with_null(url: str) -> None:
    """Each burst is an utterance of its own, or none; what is named are the digits, in their order."""
    said, parts = [], [PAUSE]
    for path, noise in zip(RECORDINGS, bursts(len(RECORDINGS)), strict=True):
        said.append(path.stem)
        parts += [pcm(path), PAUSE, noise, PAUSE]
    frames = []
    with LiveStream(url, model=MODEL, sample_rate_hz=RATE_HZ) as stream:
        for chunk in np.array_split(np.concatenate(parts), 200):
            frames += stream.send(chunk)
        frames += stream.wait()
        stream.end()
    labels = [frame["label"] for frame in frames if frame["type"] == "UtteranceEnd"]
    assert [label for label in labels if label is not None] == said
    assert labels.count(None) >= len(RECORDINGS) // 2
