"""A speaker in place of a microphone: says one of the shipped words again and again, each time a little differently.

    python examples/speak.py seven | python examples/record.py words/seven --rate 8000

It writes what ``arecord -f S16_LE -c 1 -r 8000`` writes: 16-bit samples, at the speed of speech or faster.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RECORDINGS = Path(__file__).resolve().parent.parent / "docs/recordings"
RATE_HZ = 8_000
PIECE = 800  # samples
NOISE = 20.0  # standard deviation, of 32,768


def takes(word: NDArray[np.float32], count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int16]]:
    """Vary a word's speed, pitch and loudness, and put pauses of a quiet room around it.

    Yields:
        A pause and the word, ``count`` times, and a last pause.
    """
    for _ in range(count):
        spoken = soxr.resample(word, RATE_HZ, RATE_HZ * rng.uniform(0.87, 1.15))
        yield _pause(rng)
        yield _samples(spoken * 10 ** (rng.uniform(-12, 0) / 20) * 32_767, rng)
    yield _pause(rng)


def _pause(rng: np.random.Generator) -> NDArray[np.int16]:
    return _samples(np.zeros(round(rng.uniform(0.5, 0.9) * RATE_HZ)), rng)


def _samples(sound: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.int16]:
    return np.clip(sound + rng.normal(0, NOISE, len(sound)), -32_768, 32_767).astype("<i2")


def main() -> None:
    """Speak until the listener has heard enough."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("word", choices=sorted(path.stem for path in RECORDINGS.glob("*.wav")))
    parser.add_argument("--takes", type=int, default=25, help="how often (default: %(default)s)")
    parser.add_argument("--speed", type=float, default=4.0, help="times the speed of speech (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the variation (default: %(default)s)")
    chosen = parser.parse_args()
    word, rate_hz = soundfile.read(RECORDINGS / f"{chosen.word}.wav", dtype="float32")
    assert rate_hz == RATE_HZ
    sound = np.concatenate(list(takes(word, chosen.takes, np.random.default_rng(chosen.seed))))
    began_s = time.monotonic()
    try:
        for begin in range(0, len(sound), PIECE):
            sys.stdout.buffer.write(sound[begin : begin + PIECE].tobytes())
            sys.stdout.buffer.flush()
            time.sleep(max(0.0, began_s + (begin + PIECE) / RATE_HZ / chosen.speed - time.monotonic()))
    except BrokenPipeError:  # the listener has heard enough; nothing is left to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
