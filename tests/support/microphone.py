"""What a microphone would give: the shipped recordings, one after the other with pauses, as samples of 16 bits.

As a program, it writes them to standard output in real time, as arecord does:

    python -m tests.support.microphone three seven zero | hetsyn stream - --rate 8000
"""

from __future__ import annotations

import sys
import time
import wave

from tests.support.paths import RECORDINGS

RATE_HZ = 8_000
PAUSE_S = 0.6
PERIOD_S = 0.1


def spoken(*words: str) -> bytes:
    """Words with pauses around them, mono, at ``RATE_HZ``."""
    pause = bytes(2 * round(PAUSE_S * RATE_HZ))
    parts = [pause]
    for word in words:
        with wave.open(str(RECORDINGS / f"{word}.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2)
            parts += [file.readframes(file.getnframes()), pause]
    return b"".join(parts)


def main() -> None:
    content, period_bytes = spoken(*sys.argv[1:]), 2 * round(PERIOD_S * RATE_HZ)
    began_s = time.monotonic()
    for number, begin in enumerate(range(0, len(content), period_bytes)):
        time.sleep(max(0.0, began_s + (number + 1) * PERIOD_S - time.monotonic()))
        sys.stdout.buffer.write(content[begin : begin + period_bytes])
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
