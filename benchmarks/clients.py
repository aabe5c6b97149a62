"""Hundreds of sessions at once from one program: our client for asyncio, the same loop in bare aiohttp, and in httpx.

Each session sends a recording in chunks of 100 ms, one after another, and ends. The contenders take turns against one
`hetsyn serve`, in an order that changes from round to round; ratios are taken within a round. What takes a second in
aiohttp takes half a minute in httpx, whose pool looks at all of its connections whenever a request begins or ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import httpx
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from benchmarks.contenders import ENVIRONMENT, HERE, RECORDINGS, ROOT
from benchmarks.server_process import ServerProcess, free_port
from hetsyn_client import AsyncStreamingClient
from hetsyn_client.files import read_sound
from hetsyn_client.session_steps import TransportName

CHUNK_S = 0.1
LIMIT = 1.3  # times bare aiohttp
TIMEOUT_S = 120.0
OPTIONS = ("--client-share", "1", "--log-level", "warning")  # all sessions come from one address
SUBPROTOCOL: Any = "hetsyn.v1"
Labels = list[str | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sessions", type=int, default=300, help="at once")
    parser.add_argument("--rounds", type=int, default=7, help="over all contenders; httpx takes part in the first two")


class Sessions:
    """So many sessions at once.

    Args:
        url: of the server.
        count: of sessions.
    """

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        samples, self._rate_hz = read_sound(RECORDINGS / "seven.wav")
        length = round(CHUNK_S * self._rate_hz)
        self._chunks = [samples[begin : begin + length] for begin in range(0, len(samples), length)]
        self._bodies = [chunk.astype(">i2").tobytes() for chunk in self._chunks]
        self._frames = [chunk.astype("<i2").tobytes() for chunk in self._chunks]
        self._headers = {"Content-Type": f"audio/L16;rate={self._rate_hz}"}

    @property
    def chunks(self) -> int:
        """Of all sessions."""
        return self._count * len(self._chunks)

    async def ours(self, transport: TransportName) -> Labels:
        async with AsyncStreamingClient(self._url, timeout_s=TIMEOUT_S) as client:

            async def one() -> str | None:
                async with client.session(transport=transport) as session:
                    for chunk in self._chunks[:-1]:
                        await session.send(chunk, self._rate_hz)
                    return (await session.send(self._chunks[-1], self._rate_hz, end=True))["label"]

            return await self._all(one)

    async def ours_by_http(self) -> Labels:
        return await self.ours("http")

    async def ours_by_websocket(self) -> Labels:
        return await self.ours("websocket")

    async def bare_aiohttp(self) -> Labels:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

            async def one() -> str | None:
                session = secrets.token_urlsafe(16)
                for seq, body in enumerate(self._bodies):
                    query = self._query(session, seq)
                    async with http.post(
                        f"{self._url}/infer", params=query, data=body, headers=self._headers
                    ) as response:
                        response.raise_for_status()
                        reply = await response.json()
                return str(reply["label"])

            return await self._all(one)

    async def bare_httpx(self) -> Labels:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:

            async def one() -> str | None:
                session = secrets.token_urlsafe(16)
                for seq, body in enumerate(self._bodies):
                    query = self._query(session, seq)
                    response = await http.post(f"{self._url}/infer", params=query, content=body, headers=self._headers)
                    response.raise_for_status()
                    reply = response.json()
                return str(reply["label"])

            return await self._all(one)

    async def bare_aiohttp_websocket(self) -> Labels:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

            async def one() -> str | None:
                async with http.ws_connect(f"{self._url}{self._stream}", protocols=[SUBPROTOCOL]) as socket:
                    await socket.receive_json()
                    for frame in self._frames:
                        await socket.send_bytes(frame)
                        await socket.receive_json()
                    await socket.send_str('{"type": "CloseStream"}')
                    return str((await socket.receive_json())["label"])

            return await self._all(one)

    async def bare_websockets(self) -> Labels:
        async def one() -> str | None:
            url = f"ws{self._url.removeprefix('http')}{self._stream}"
            async with connect(url, subprotocols=[SUBPROTOCOL], compression=None, open_timeout=TIMEOUT_S) as socket:
                await socket.recv()
                for frame in self._frames:
                    await socket.send(frame)
                    await socket.recv()
                await socket.send('{"type": "CloseStream"}')
                return str(json.loads(await socket.recv())["label"])

        return await self._all(one)

    @property
    def _stream(self) -> str:
        query = {"sample_rate": self._rate_hz, "endpointing": "off"}
        return f"/stream?{urlencode(query)}"

    def _query(self, session: str, seq: int) -> dict[str, str]:
        return {"session": session, "seq": str(seq), "end": str(seq == len(self._bodies) - 1).lower()}

    async def _all(self, one: Callable[[], Awaitable[str | None]]) -> Labels:
        return list(await asyncio.gather(*(one() for _ in range(self._count))))


BASE, OURS = "aiohttp", "AsyncStreamingClient"
CONTENDERS: dict[str, Callable[[Sessions], Awaitable[Labels]]] = {
    BASE: Sessions.bare_aiohttp,
    OURS: Sessions.ours_by_http,
    "AsyncStreamingClient, websocket": Sessions.ours_by_websocket,
    "aiohttp, websocket": Sessions.bare_aiohttp_websocket,
    "websockets": Sessions.bare_websockets,
    "httpx": Sessions.bare_httpx,
}
SLOW, SLOW_ROUNDS = "httpx", 2


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    count, rounds = (60, 3) if arguments.quick else (arguments.sessions, arguments.rounds)
    url = f"http://127.0.0.1:{free_port()}"
    command = [*HERE, "hetsyn", "serve", "--models", str(ROOT / "models"), "--port", url.rpartition(":")[2], *OPTIONS]
    with (
        tempfile.TemporaryDirectory(prefix="hetsyn-clients-") as folder,
        ServerProcess(command, ENVIRONMENT, lambda: _missing(url), Path(folder) / "serve.log"),
    ):
        results = measured(Sessions(url, count), rounds)
    results |= {"sessions": count, "serve": list(OPTIONS), "limit": LIMIT}
    show(results)
    return results


def _missing(url: str) -> str | None:
    try:
        return None if httpx.get(f"{url}/health/ready").is_success else "it is not ready"
    except httpx.TransportError as error:
        return str(error)


def measured(sessions: Sessions, rounds: int) -> dict[str, Any]:
    """Seconds of each contender in each round, in all and of this process's CPU, and the ratios to bare aiohttp."""
    taken_s: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    cpu_s: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    asyncio.run(sessions.bare_aiohttp())  # warms the server up
    for turn in range(rounds):
        names = list(CONTENDERS)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name == SLOW and turn >= SLOW_ROUNDS:
                continue
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            labels = asyncio.run(_awaited(CONTENDERS[name](sessions)))
            taken_s[name].append(time.perf_counter() - began_s)
            cpu_s[name].append(time.process_time() - began_cpu_s)
            assert set(labels) == {"seven"}, f"{name}: {set(labels)}"
    ratios = {name: _ratio(times, taken_s[BASE]) for name, times in taken_s.items()}
    return {
        "chunks": sessions.chunks,
        "seconds": {name: statistics.median(times) for name, times in taken_s.items()},
        "client_cpu_seconds": {name: statistics.median(times) for name, times in cpu_s.items()},
        "seconds_of_rounds": taken_s,
        "ratios": ratios,
        "client_cpu_ratios": {name: _ratio(times, cpu_s[BASE]) for name, times in cpu_s.items()},
        "passed": ratios[OURS] <= LIMIT,
    }


async def _awaited(labels: Awaitable[Labels]) -> Labels:
    return await labels


def _ratio(times: list[float], base: list[float]) -> float:
    return statistics.median(time_s / base_s for time_s, base_s in zip(times, base, strict=False))


def show(results: dict[str, Any]) -> None:
    """Print the results."""
    columns = ("", "seconds", "/ aiohttp", "its CPU seconds", "/ aiohttp")
    table = Table(*columns, title=f"{results['sessions']} sessions at once, {results['chunks']} chunks")
    for name, seconds in results["seconds"].items():
        ratio, cpu_ratio = results["ratios"][name], results["client_cpu_ratios"][name]
        cpu_s = results["client_cpu_seconds"][name]
        table.add_row(name, f"{seconds:.2f}", f"{ratio:.2f}", f"{cpu_s:.2f}", f"{cpu_ratio:.2f}")
    Console().print(table)
