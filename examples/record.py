"""Write each word that is spoken into a file of its own, to train on. It needs a server: its model finds the words.

    arecord -q -t raw -f S16_LE -c 1 -r 16000 | python examples/record.py words/yes --rate 16000 --count 20

Standard input is 16-bit samples of one channel. The name of the folder is the word.
"""

from __future__ import annotations

import argparse
import os
import sys
import wave
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hetsyn_client import HetsynError, LiveStream

PIECE_BYTES = 1_600
FULL_SCALE = 2**15


def frames(stream: LiveStream, incoming: BinaryIO, kept: bytearray) -> Iterator[dict[str, Any]]:
    """Stream what comes up to its end, keep it, and yield the answers."""
    while content := incoming.read(PIECE_BYTES):
        samples = content[: len(content) // 2 * 2]
        kept += samples
        yield from stream.send_bytes(samples)
    last = stream.end()
    yield from [*stream.wait(), last]


def words(stream: LiveStream, incoming: BinaryIO, kept: bytearray) -> Iterator[dict[str, Any]]:
    """Yield the end of each word that is heard, once."""
    ended = set[int]()
    for frame in frames(stream, incoming, kept):
        if frame["type"] == "UtteranceEnd" and frame["label"] is not None and frame["utterance"] not in ended:
            ended.add(frame["utterance"])
            yield frame


def write(folder: Path, samples: bytes, rate_hz: int) -> Path:
    """Write a recording under the first number that is free above all others."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(path.stem) for path in folder.glob("*.wav") if path.stem.isdecimal()]
    path = folder / f"{max(taken, default=0) + 1:03}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples)
    return path


def main() -> None:
    """Record until the input ends, there are enough words, or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder for the recordings; it is made")
    parser.add_argument("--rate", type=int, default=16_000, help="samples a second (default: %(default)s)")
    parser.add_argument("--count", type=int, default=0, help="stop after this number of words (default: never)")
    parser.add_argument("--url", default=os.environ.get("HETSYN_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--model", help="one that finds words (default: the server's default model)")
    chosen = parser.parse_args()
    kept, recorded = bytearray(), 0
    live = LiveStream(
        chosen.url, model=chosen.model, sample_rate_hz=chosen.rate, endpointing=True, key=os.environ.get("HETSYN_KEY")
    )
    with suppress(KeyboardInterrupt), live as stream:
        for word in words(stream, sys.stdin.buffer, kept):
            begin, end = (2 * round(word[name] * chosen.rate) for name in ("start", "end"))
            samples = bytes(kept[begin:end])
            path = write(chosen.folder, samples, chosen.rate)
            recorded += 1
            peak = max(1, int(np.abs(np.frombuffer(samples, "<i2").astype(int)).max(initial=1)))
            loudness = "too loud" if peak >= FULL_SCALE - 1 else f"{20 * np.log10(peak / FULL_SCALE):.0f} dB"
            print(f"{recorded:4}  {word['end'] - word['start']:5.2f} s  {loudness:>8}  {path}", flush=True)
            if recorded == chosen.count:
                break
    print(f"{chosen.folder}: {recorded} new recordings")


if __name__ == "__main__":
    try:
        main()
    except HetsynError as error:
        sys.exit(f"record: {error}")
