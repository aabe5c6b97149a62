"""Clients of a server: ``StreamingClient``, ``AsyncStreamingClient``, ``LiveStream``, ``AsyncLiveStream``,
``LiveStreams``, and the commands ``hetsyn stream`` and ``hetsyn bench``.

It imports nothing of ``service``, so that it works beside a folder of the user's own with that name. It needs numpy,
httpx and websockets. The clients for asyncio need aiohttp, which is imported when they are used. Files other than WAV
need soundfile.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hetsyn_client.async_client import AsyncSession, AsyncStreamingClient
    from hetsyn_client.async_live import AsyncLiveStream
    from hetsyn_client.client import Session, StreamingClient
    from hetsyn_client.errors import HetsynError, InputError, NotFound, ServiceProblem, ServiceUnreachable, SessionLost
    from hetsyn_client.live import LiveStream
    from hetsyn_client.many import LiveStreams
    from hetsyn_client.protocol.calls import ChunkOptions, SessionOptions
    from hetsyn_client.protocol.live_steps import LiveOptions
    from hetsyn_client.results import Reply, SpeechStarted, Spikes, Timing, UtteranceEnd
    from hetsyn_client.sources.chunks import Chunk, array_chunks
    from hetsyn_client.sources.files import recording_chunks

# The server takes errors and formats from here: a name brings httpx, websockets or aiohttp when it is used.
_MODULES = {
    "async_client": ("AsyncSession", "AsyncStreamingClient"),
    "async_live": ("AsyncLiveStream",),
    "client": ("Session", "StreamingClient"),
    "errors": ("HetsynError", "InputError", "NotFound", "ServiceProblem", "ServiceUnreachable", "SessionLost"),
    "live": ("LiveStream",),
    "many": ("LiveStreams",),
    "protocol.calls": ("ChunkOptions", "SessionOptions"),
    "protocol.live_steps": ("LiveOptions",),
    "results": ("Reply", "SpeechStarted", "Spikes", "Timing", "UtteranceEnd"),
    "sources.chunks": ("Chunk", "array_chunks"),
    "sources.files": ("recording_chunks",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AsyncLiveStream",
    "AsyncSession",
    "AsyncStreamingClient",
    "Chunk",
    "ChunkOptions",
    "HetsynError",
    "InputError",
    "LiveOptions",
    "LiveStream",
    "LiveStreams",
    "NotFound",
    "Reply",
    "ServiceProblem",
    "ServiceUnreachable",
    "Session",
    "SessionLost",
    "SessionOptions",
    "SpeechStarted",
    "Spikes",
    "StreamingClient",
    "Timing",
    "UtteranceEnd",
    "array_chunks",
    "recording_chunks",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"hetsyn_client.{_MODULE_OF[name]}"), name)
