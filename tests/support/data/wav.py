"""WAV files as the standard library writes them."""

from __future__ import annotations

import io
import wave


def wav(frames: bytes, rate_hz: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """A whole file; ``width`` is the bytes of a sample."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate_hz)
        writer.writeframes(frames)
    return file.getvalue()


def at_0_hz(file: bytes) -> bytes:
    """The file with a rate of 0 Hz, as a damaged header has it."""
    return file[:24] + bytes(4) + file[28:]
