"""A recording of a word, sent in numbered chunks and sent again until it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from tests.support.clients.json_input import Json
from tests.support.data.recordings import cut
from tests.support.paths import RECORDINGS

CHUNK_SAMPLES = 500
TIMEOUT_S = 120.0


def pieces() -> list[bytes]:
    """The chunks of "seven": little-endian int16 at 8 kHz."""
    return list(cut(RECORDINGS / "seven.wav", CHUNK_SAMPLES / 8000)[1])


def send(url: str, session: str, seq: int, chunks: list[bytes]) -> httpx.Response:
    return httpx.post(
        f"{url}/infer",
        params={"session": session, "seq": seq, "end": seq == len(chunks) - 1},
        content=chunks[seq],
        headers={"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=8000"},
        timeout=60,
    )


def persist(act: Callable[[], httpx.Response]) -> Json:
    """The reply, however often the chunk has to be sent; only what says "later" is sent again."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline_s, "no answer"
        try:
            response = act()
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        if response.status_code != 503:
            assert response.status_code == 200, response.text
            reply: Json = response.json()
            return reply
        time.sleep(0.02)


def stream(url: str, session: str, chunks: list[bytes], numbers: range | None = None) -> list[Json]:
    """The replies to the chunks of these numbers, or to all."""

    def reply(number: int) -> Json:
        return persist(lambda: send(url, session, number, chunks))

    return [reply(number) for number in numbers or range(len(chunks))]
