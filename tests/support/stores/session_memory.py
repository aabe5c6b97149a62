"""A process that opens sessions as a stranger could, and prints how much memory they took: ``KIND COUNT``.

It has a process of its own, because only a fresh one gives its resident memory a meaning.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np

from service.errors import Overloaded
from service.models.catalog import ModelCatalog
from service.wire.chunk import AudioChunk, spike_chunk
from service.wire.schema import InferRequest
from tests.support.clients.infer_request import infer_request
from tests.support.paths import MODELS
from tests.support.product import make_server
from tests.support.servers.apply_chunk import apply_chunk

CLIENT = "192.0.2.1"
WARM_UP_BYTES = 6 * 1024 * 1024  # the first sessions take memory that loading the models has left free

Kind = Callable[[str], InferRequest]


def _sound(samples: int, rate_hz: int) -> AudioChunk:
    return AudioChunk(np.ones(samples, np.float32), rate_hz)


KINDS: dict[str, Kind] = {
    "step": lambda name: infer_request(name, 0, chunk=spike_chunk(1, [], [])),
    "sample": lambda name: infer_request(name, 0, chunk=_sound(1, 8_000)),
    "sound that waits": lambda name: infer_request(name, 0, chunk=_sound(22_000, 191_975)),
    "trace": lambda name: infer_request(name, 0, chunk=spike_chunk(20_000, [], []), model="pattern-generation"),
    "ended": lambda name: infer_request(name, 0, chunk=spike_chunk(1, [], []), end=True),
}


def resident_bytes() -> int:
    """Resident memory of this process, without the files that it has mapped."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


async def measure(kinds: list[str], count: int, max_session_bytes: int) -> dict[str, int]:
    """Open ``count`` sessions, of the kinds in turn.

    Returns:
        Bytes of resident memory that they took, bytes that the server counts for them, and how many were refused.
    """
    server = make_server(ModelCatalog(MODELS), max_session_bytes=max_session_bytes, client_share=0.999)
    sessions = server.registry.sessions
    permit = server.admission.permit(CLIENT)
    empty = resident_bytes()
    for n, kind in enumerate(cycle(kinds)):
        if resident_bytes() - empty > WARM_UP_BYTES:
            break
        await apply_chunk(server.registry, KINDS[kind](f"warm-{n}"), permit)
    resident, counted, refused = resident_bytes(), sessions.bytes, 0
    for n, kind in zip(range(count), cycle(kinds), strict=False):
        try:
            await apply_chunk(server.registry, KINDS[kind](f"s{n}"), permit)
        except Overloaded:
            refused += 1
    found = {"resident": resident_bytes() - resident, "counted": sessions.bytes - counted, "refused": refused}
    await server.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])))))
