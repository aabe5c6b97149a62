"""A recording in chunks, as from a microphone; the last chunk may be shorter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.wire.sound import decode_wav


def cut(path: Path, chunk_s: float) -> tuple[str, tuple[bytes, ...]]:
    """Cut a recording into chunks. Their content type, and their bodies.

    Raises:
        InputError: not a WAV file of 16-bit PCM.
    """
    samples, rate_hz = decode_wav(path.read_bytes())
    pcm = np.round(samples * 32_768.0).clip(-32_768, 32_767).astype("<i2")
    length = max(1, round(chunk_s * rate_hz))
    chunks = tuple(pcm[begin : begin + length].tobytes() for begin in range(0, len(pcm), length))
    return f"audio/pcm;encoding=pcm_s16le;rate={rate_hz}", chunks
