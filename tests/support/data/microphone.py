"""What a microphone would give: the shipped recordings, one after the other with pauses, as samples of 16 bits."""

from __future__ import annotations

import wave

from tests.support.paths import RECORDINGS

RATE_HZ = 8_000
PAUSE_S = 0.6


def spoken(*words: str) -> bytes:
    """Words with pauses around them, mono, at ``RATE_HZ``."""
    pause = bytes(2 * round(PAUSE_S * RATE_HZ))
    parts = [pause]
    for word in words:
        with wave.open(str(RECORDINGS / f"{word}.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2)
            parts += [file.readframes(file.getnframes()), pause]
    return b"".join(parts)
