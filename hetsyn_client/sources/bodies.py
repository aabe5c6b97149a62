"""Packs chunks as bodies of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import Integers, pack_events
from hetsyn_client.values import MEDIA_TYPE as VALUES_TYPE
from hetsyn_client.values import pack_values

Encoding = Literal["pcm_s16le", "pcm_s24le", "pcm_f32le", "mulaw", "alaw", "events", "values"]
"""What a binary frame of ``WS /stream`` has."""
Matrix = Sequence[Sequence[float]] | NDArray[Any]


class Body(NamedTuple):
    """The body of a request."""

    content: bytes
    content_type: str

    @property
    def emptied(self) -> Body:
        """Make an empty chunk of the same kind, which ends a session."""
        return self._replace(content=b"")


def encoding_of(content_type: str) -> dict[str, str]:
    """Convert a content type of ``/infer`` to parameters of ``/stream``."""
    kind, *parts = content_type.split(";")
    given = dict(part.split("=", 1) for part in parts)
    if kind == EVENTS_TYPE:
        return {"encoding": "events"}
    if kind == VALUES_TYPE:
        return {"encoding": "values", **given}
    return {{"rate": "sample_rate"}.get(name, name): value for name, value in given.items()}


def sound_body(samples: NDArray[np.int16], sample_rate_hz: int) -> Body:
    """Pack 16-bit samples [n], one channel; errors as ``packed_samples``."""
    content = packed_samples(np.asarray(samples), "pcm_s16le", 1)
    return Body(content, f"audio/pcm;encoding=pcm_s16le;rate={sample_rate_hz}")


def _check_whole(samples: NDArray[Any], bits: int) -> None:
    """Check that samples are whole numbers of at most ``bits`` bits: others would be truncated to noise.

    Raises:
        InputError: they are not.
    """
    if samples.dtype.kind not in "iu":
        raise InputError(f"the samples have type {samples.dtype}: give {bits}-bit integers")
    largest = 2 ** (bits - 1) - 1
    is_wider = 8 * samples.dtype.itemsize > bits or samples.dtype.kind == "u"
    if is_wider and len(samples) and not (samples.min() >= -largest - 1 and samples.max() <= largest):
        raise InputError(f"a sample has more than {bits} bits: scale them to {bits}-bit integers, at most {largest}")


def packed_samples(samples: NDArray[Any], encoding: str, channels: int) -> bytes:
    """Pack samples for a stream.

    Args:
        samples: [n], or [n, channels]: whole numbers of 16 or 24 bits, or floats from -1 to 1.
        encoding: ``pcm_s16le``, ``pcm_s24le`` or ``pcm_f32le``.

    Raises:
        InputError: samples of another kind or shape.
    """
    shape = (len(samples),) if samples.ndim == 1 and channels == 1 else (len(samples), channels)
    if samples.shape != shape:
        wanted = "one channel, [n]" if channels == 1 else f"[n, {channels}], one column a channel"
        raise InputError(f"the samples have shape {list(samples.shape)}: give {wanted}")
    if encoding == "pcm_f32le":
        if samples.dtype.kind != "f":
            raise InputError("the samples are whole numbers: divide them by their full scale, or send them as such")
        return np.ascontiguousarray(samples, "<f4").tobytes()
    if samples.dtype.kind == "f":
        bits, largest = (16, 32767) if encoding == "pcm_s16le" else (24, 8388607)
        raise InputError(f"the samples are floats: scale them to {bits}-bit integers, at most {largest}")
    _check_whole(samples, 16 if encoding == "pcm_s16le" else 24)
    if encoding == "pcm_s16le":
        return samples.astype("<i2").tobytes()
    return np.ascontiguousarray(samples, "<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def float_body(frames: NDArray[np.float32], sample_rate_hz: int) -> Body:
    """Pack samples from -1 to 1, float32 [n, channels]. The server averages the channels."""
    channels = frames.shape[1]
    content_type = f"audio/pcm;encoding=pcm_f32le;rate={sample_rate_hz};channels={channels}"
    return Body(packed_samples(frames, "pcm_f32le", channels), content_type)


def events_body(steps: int, times: Sequence[int] | Integers, units: Sequence[int] | Integers) -> Body:
    """Pack the spikes of ``steps`` steps; arguments and errors as of ``pack_events``."""
    return Body(pack_events(steps, times, units), EVENTS_TYPE)


def values_body(values: Matrix) -> Body:
    """Pack rows of values [steps, channels]; errors as ``pack_values``."""
    return Body(*pack_values(values))
