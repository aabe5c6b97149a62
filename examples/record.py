"""Write each word that is spoken into a file of its own, to train on. A server finds them, and need not know them.

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
SHORTEST_S, LONGEST_S = 0.45, 3.0  # of an utterance; 0.3 s of it is silence, so a click has 0.35 s


def frames(stream: LiveStream, incoming: BinaryIO, kept: bytearray) -> Iterator[dict[str, Any]]:
    """Stream what comes up to its end, keep it, and yield the answers."""
    while content := incoming.read(PIECE_BYTES):
        samples = content[: len(content) // 2 * 2]
        kept += samples
        yield from stream.send_bytes(samples)
    last = stream.end()
    yield from [*stream.wait(), last]


def utterances(stream: LiveStream, incoming: BinaryIO, kept: bytearray) -> Iterator[dict[str, Any]]:
    """Yield the end of each utterance once, whatever the model takes it for; not those of silence."""
    begun, ended = set[int](), set[int]()
    for frame in frames(stream, incoming, kept):
        if frame["type"] == "SpeechStarted":
            begun.add(frame["utterance"])
        elif frame["type"] == "UtteranceEnd" and frame["utterance"] not in ended:
            ended.add(frame["utterance"])
            if frame["utterance"] in begun or frame["probabilities"] is not None:
                yield frame


def reason(utterance: dict[str, Any]) -> str:
    """Say why an utterance is not kept; empty if it is."""
    duration_s = utterance["end"] - utterance["start"]
    if utterance["probabilities"] is None:
        return "steady noise"
    if duration_s < SHORTEST_S:
        return "too short"
    return "too long: say one word, then pause" if duration_s > LONGEST_S else ""


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
        for utterance in utterances(stream, sys.stdin.buffer, kept):
            duration_s = utterance["end"] - utterance["start"]
            if why := reason(utterance):
                print(f"   -  {duration_s:5.2f} s  not kept, {why}", flush=True)
                continue
            begin, end = (2 * round(utterance[name] * chosen.rate) for name in ("start", "end"))
            samples = bytes(kept[begin:end])
            path = write(chosen.folder, samples, chosen.rate)
            recorded += 1
            peak = max(1, int(np.abs(np.frombuffer(samples, "<i2").astype(int)).max(initial=1)))
            loudness = "too loud" if peak >= FULL_SCALE - 1 else f"{20 * np.log10(peak / FULL_SCALE):.0f} dB"
            print(f"{recorded:4}  {duration_s:5.2f} s  {loudness:>8}  {path}", flush=True)
            if recorded == chosen.count:
                break
    print(f"{chosen.folder}: {recorded} new recordings")
    if not recorded:
        sys.exit("record: nothing was recorded: is the microphone on, and is its rate that of --rate?")


if __name__ == "__main__":
    try:
        main()
    except HetsynError as error:
        sys.exit(f"record: {error}")
