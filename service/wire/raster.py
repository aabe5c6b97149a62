"""What a reply has beside the classification, for clients that ask for it: spikes, and the time by part."""

from __future__ import annotations

from pydantic_core import to_json
from typing_extensions import TypedDict  # pydantic does not take that of Python 3.11

from service.observe.watch import Watch
from service.wire.schema import Envelope


class LayerSpikes(TypedDict):
    """The spikes of a layer with ``size`` units: spike i is on unit ``units[i]``, in step ``times[i]``, in order."""

    name: str
    size: int
    times: list[int]
    units: list[int]


class Spikes(TypedDict):
    """The spikes of ``steps`` steps. ``times`` count from ``first_step`` of the session."""

    first_step: int
    steps: int
    layers: list[LayerSpikes]


class Timing(TypedDict):
    """Milliseconds of a chunk in the server: waited, computed, stored."""

    queue_ms: float
    engine_ms: float
    store_ms: float


def extended(reply: bytes, envelope: Envelope, spikes: Spikes | None = None, watch: Watch | None = None) -> bytes:
    """A reply as JSON, with what its client asks for beside it; null of a chunk that was applied before.

    Args:
        reply: as it is kept.
        envelope: of the request.
        spikes: of the chunk.
        watch: of the chunk.
    """
    more: dict[str, Spikes | Timing | None] = {}
    if envelope.spikes:
        more["spikes"] = spikes
    if envelope.timing:
        more["timing"] = None if watch is None else _timing(watch)
    return reply[:-1] + b"," + to_json(more)[1:] if more else reply


def _timing(watch: Watch) -> Timing:
    return {
        "queue_ms": _milliseconds(watch.queue_s),
        "engine_ms": _milliseconds(watch.engine_s),
        "store_ms": _milliseconds(watch.store_s),
    }


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
