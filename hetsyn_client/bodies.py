"""Chunks as bodies of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import Integers, pack_events
from hetsyn_client.values import pack_values

Matrix = Sequence[Sequence[float]] | NDArray[Any]


class Body(NamedTuple):
    """The body of a request.

    Attributes:
        content: of the chunk.
        content_type: of the content.
    """

    content: bytes
    content_type: str

    @property
    def emptied(self) -> Body:
        """A chunk of the same kind without input, which ends a session."""
        return self._replace(content=b"")


def sound_body(samples: NDArray[np.int16], sample_rate_hz: int) -> Body:
    """16-bit samples [n], one channel, in network byte order (RFC 2586).

    Raises:
        InputError: samples that are not whole numbers.
    """
    if np.asarray(samples).dtype.kind == "f":
        raise InputError("the samples are floats: scale them to 16-bit integers, at most 32767")
    return Body(np.asarray(samples).astype(">i2").tobytes(), f"audio/L16;rate={sample_rate_hz}")


def events_body(steps: int, times: Sequence[int] | Integers, units: Sequence[int] | Integers) -> Body:
    """The spikes of ``steps`` steps, as ``hetsyn_client.events.pack_events`` takes them.

    Raises:
        InputError: as there.
    """
    return Body(pack_events(steps, times, units), EVENTS_TYPE)


def values_body(values: Matrix) -> Body:
    """Rows of values [steps, channels].

    Raises:
        InputError: as ``hetsyn_client.values.pack_values``.
    """
    return Body(*pack_values(values))
