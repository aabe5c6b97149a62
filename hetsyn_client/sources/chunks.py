"""Cuts sources into chunks for ``Session.stream``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.sources.bodies import Body, float_body, sound_body


class Chunk(NamedTuple):
    """A chunk of a source.

    Attributes:
        body: the body to send.
        until_s: end of the chunk in the source, in seconds.
        is_last: it is the source's last chunk.
    """

    body: Body
    until_s: float
    is_last: bool = False


def array_chunks(samples: NDArray[Any], sample_rate_hz: int, chunk_s: float = 0.1) -> Iterator[Chunk]:
    """Cut sound in memory into chunks. An empty array is one empty chunk.

    Args:
        samples: 16-bit integers, [n]; or floats from -1 to 1, [n] or [n, channels]. The server averages channels.

    Raises:
        InputError: the samples have another type or shape.
    """
    frames = np.asarray(samples)
    if frames.dtype.kind == "f" and frames.ndim == 1:
        frames = frames[:, None]
    if not (frames.dtype == np.int16 and frames.ndim == 1) and not (frames.dtype.kind == "f" and frames.ndim == 2):
        raise InputError(
            f"the samples have type {frames.dtype} and shape {list(frames.shape)}: give int16 [n], or floats [n] or "
            "[n, channels] from -1 to 1"
        )
    length = max(1, round(chunk_s * sample_rate_hz))
    begins = range(0, max(1, len(frames)), length)
    for begin in begins:
        piece = frames[begin : begin + length]
        body = sound_body(piece, sample_rate_hz) if piece.ndim == 1 else float_body(piece, sample_rate_hz)
        yield Chunk(body, (begin + len(piece)) / sample_rate_hz, begin == begins[-1])
