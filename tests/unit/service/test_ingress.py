"""What all chunks pass, whatever their interface."""

from __future__ import annotations

import numpy as np

from service.ingress import grown_bytes
from service.wire.chunk import AudioChunk


def test_only_what_grows_more_than_most_counts_as_more_than_its_bytes() -> None:
    chunk = AudioChunk(np.zeros(100_000, np.float32), 8_000)
    assert grown_bytes(chunk, 100_000) == 0  # mu-law
    assert grown_bytes(chunk, 99_999) == 300_001
    assert grown_bytes(AudioChunk(np.zeros(100, np.float32), 8_000), 1) == 0
    assert grown_bytes(None, 0) == 0
