"""The server's CPU time a chunk over `/infer`, `/stream` and `/streams`, beside the engine's own for the same chunks.

All paths get the same chunks of 100 ms, of the same number of sessions, each as soon as the one before is answered. The
paths take turns, each for a few seconds, on one server. *Engine* is `Engine.run` alone, in this process, on batches
of as many chunks as the server runs at most. *Own work* is the rest: framework, transport, sessions, replies.
``ratios`` has each path over the engine, and `/infer` over each path, of the least times: other programs only ever make
a chunk dearer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from websockets.frames import Frame, Opcode

from benchmarks.compare import CHUNK_S, Checkout, Workload
from benchmarks.contenders import ours_target, shd_load, speech_target
from benchmarks.load import closed_loop
from hetsyn_client.columns import pack_chunks, pack_sessions
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.run import RunSettings
from service.engine.engine import Engine
from service.engine.stream import initial_stream
from service.engine.work import Work
from service.models.catalog import ModelCatalog
from service.settings import Batching, Limits
from service.wire.decode import decode_raw
from tests.support.paths import RECORDINGS, ROOT
from tests.support.server_process import ServerProcess
from tests.support.target import Address

ENGINE, INFER, STREAM, STREAMS = "engine alone", "/infer", "/stream", "/streams"
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
SESSIONS = 64
WARM_UP_S = 0.3


class Case(NamedTuple):
    """Chunks for one model.

    Attributes:
        workload: its chunks, as ``/infer`` gets them.
        query: of ``/stream`` and ``/streams`` for them.
    """

    workload: Workload
    query: str


def cases() -> list[Case]:
    """Both shipped models that are meant to be served: sound, and spikes."""
    sound = recorded(RECORDINGS, CHUNK_S)
    rate_hz = sound.content_type.partition("rate=")[2].partition(";")[0]
    speech = Workload("speech-digits", sound, lambda address: speech_target(address, sound))
    spikes = Workload("shd-size", shd_load(), lambda address: ours_target(address, "bank"))
    return [
        Case(speech, f"model=speech-digits&encoding=pcm_s16le&sample_rate={rate_hz}"),
        Case(spikes, "model=shd-size&form=bank&encoding=events"),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="of all paths")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each path in a round")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="that send at the same time")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds, seconds, sessions = arguments.rounds, arguments.seconds, arguments.sessions
    if arguments.quick:
        rounds, seconds = 2, 0.5
    if arguments.smoke:
        rounds, seconds, sessions = 1, 0.2, 4
    here = Checkout(ROOT, Path(sys.executable))
    results: dict[str, Any] = {"settings": {"rounds": rounds, "seconds": seconds, "sessions": sessions}, "cases": {}}
    for case in cases():
        with (
            tempfile.TemporaryDirectory(prefix="hetsyn-way-in-") as folder,
            here.serve(case.workload, Path(folder) / "serve.log") as (server, address),
        ):
            taken: dict[str, list[float]] = {ENGINE: [], INFER: [], STREAM: [], STREAMS: []}
            for _ in range(rounds):
                for path, times in taken.items():
                    times.append(_microseconds(path, case, server, address, seconds, sessions))
        results["cases"][case.workload.name] = {
            path: {"us": statistics.median(times), "least_us": min(times), "rounds": times}
            for path, times in taken.items()
        }
    results["ratios"] = _ratios(results["cases"])
    _print(results)
    return results


def _microseconds(
    path: str, case: Case, server: ServerProcess, address: Address, seconds: float, sessions: int
) -> float:
    """CPU microseconds a chunk on one path."""
    if path == ENGINE:
        return engine_us(case, seconds, sessions)
    if path == INFER:
        settings = RunSettings(duration_s=seconds, warmup_s=WARM_UP_S)
        target = case.workload.target(address)
        return 1e3 * closed_loop(target, server, case.workload.load, sessions, settings).cpu_ms
    clients = asyncio.run(_streams(path, case, server, address, seconds, sessions))
    return 1e6 * clients


def engine_us(case: Case, seconds: float, sessions: int) -> float:
    """CPU microseconds a chunk of the engine alone, in batches of so many sessions."""
    load = case.workload.load
    model = ModelCatalog(ROOT / "models").get(case.workload.name, None)
    form = model.manifest.default_form
    engine = Engine(Limits().max_chunk_steps)
    chunks = [decode_raw(load.content_type, [("session", "s")], body).chunk for body in load.chunks]
    batch = min(sessions, Batching().max_batch)
    streams = [initial_stream(model, form) for _ in range(batch)]
    samples, number = [], 0
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        works = [Work(stream, chunks[(number + i) % len(chunks)], False) for i, stream in enumerate(streams)]
        number += 1
        started_s = time.process_time()
        streams = [outcome.stream for outcome in engine.run(model, form, works)]
        samples.append((time.process_time() - started_s) / batch)
    return 1e6 * statistics.fmean(samples[len(samples) // 10 :])


class _Client(asyncio.Protocol):
    """One connection that sends the next message when the last one is answered.

    Args:
        messages: frames as bytes, of message n; the first are answered once too.
    """

    def __init__(self, handshake: bytes, message: Callable[[int], bytes]) -> None:
        self._handshake = handshake
        self._message = message
        self._data = bytearray()
        self._is_open = False
        self.answers = -1  # the first is Begin
        self.is_stopped = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._is_open:
            if (end := self._data.find(b"\r\n\r\n")) < 0:
                return
            if not self._data.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(bytes(self._data).decode())
            del self._data[: end + 4]
            self._is_open = True
        while (frame := self._frame()) is not None:
            if frame[0] & 15 == Opcode.PING:
                continue
            if b'"Error"' in frame[1][:20]:
                raise RuntimeError(frame[1].decode())
            self.answers += 1
            if self.is_stopped:
                self._transport.abort()
                if not self.done.done():
                    self.done.set_result(None)
                return
            self._transport.write(self._message(self.answers))

    def _frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        more = {126: 2, 127: 8}.get(data[1], 0)
        if len(data) < 2 + more:
            return None
        length = int.from_bytes(data[2 : 2 + more], "big") if more else data[1]
        if len(data) < 2 + more + length:
            return None
        content = bytes(data[2 + more : 2 + more + length])
        head = data[0]
        del data[: 2 + more + length]
        return head, content


async def _streams(
    path: str, case: Case, server: ServerProcess, address: Address, seconds: float, sessions: int
) -> float:
    """CPU seconds a chunk of the server, with ``sessions`` chunks under way."""
    query = f"{case.query}&endpointing=off" if path == STREAM else case.query
    head = (
        f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: hetsyn.v1\r\n\r\n"
    ).encode()
    bodies = case.workload.load.chunks
    if path == STREAM:
        messages = [_sent(body) for body in bodies]
        makers = [_one(messages, offset) for offset in range(sessions)]
        chunks_a_message = 1
    else:
        makers, chunks_a_message = [_hub(case, bodies, sessions)], sessions
    loop = asyncio.get_running_loop()
    clients = []
    for make in makers:
        _, client = await loop.create_connection(partial(_Client, head, make), address.host, address.port)
        clients.append(client)
    await asyncio.sleep(WARM_UP_S)
    before, started_s = sum(client.answers for client in clients), server.cpu_s()
    await asyncio.sleep(seconds)
    applied, cpu_s = sum(client.answers for client in clients) - before, server.cpu_s() - started_s
    for client in clients:
        client.is_stopped = True
    await asyncio.gather(*(client.done for client in clients))
    return cpu_s / (applied * chunks_a_message)


def _one(messages: Sequence[bytes], offset: int) -> Callable[[int], bytes]:
    """The messages of a connection of ``/stream``."""
    return lambda number: messages[(number + offset) % len(messages)]


def _hub(case: Case, bodies: Sequence[bytes], sessions: int) -> Callable[[int], bytes]:
    """The messages of a connection of ``/streams``: its sessions, and then a chunk of each."""
    handles = list(range(sessions))
    opening = _sent(pack_sessions(handles, [f"way-in-{os.getpid()}-{time.monotonic_ns()}-{h}" for h in handles]))
    contents: dict[int, tuple[list[int], bytes, int]] = {}

    def content(number: int) -> tuple[list[int], bytes, int]:
        kept = contents.get(number)
        if kept is None:
            parts = [bodies[(number + handle) % len(bodies)] for handle in handles]
            if "events" in case.query:
                halves = [(part[12 : 12 + (len(part) - 12) // 2], part[12 + (len(part) - 12) // 2 :]) for part in parts]
                joined = b"".join(times for times, _ in halves) + b"".join(units for _, units in halves)
                kept = [len(times) // 2 for times, _ in halves], joined, int.from_bytes(parts[0][4:8], "little")
            else:
                kept = [len(part) // 2 for part in parts], b"".join(parts), 0
            contents[number] = kept
        return kept

    def message(number: int) -> bytes:
        if not number:
            return opening
        lengths, joined, steps = content(number % min(len(bodies), 8))
        return _sent(pack_chunks(handles, number - 1, lengths, joined, steps))

    return message


def _sent(content: bytes) -> bytes:
    return Frame(Opcode.BINARY, content).serialize(mask=True)


def _ratios(taken: dict[str, Any]) -> dict[str, float]:
    ratios = {}
    for name, paths in taken.items():
        us = {path: figures["least_us"] for path, figures in paths.items()}
        for path in (INFER, STREAM, STREAMS):
            ratios[f"{name}, {path} / engine"] = round(us[path] / us[ENGINE], 2)
        for path in (STREAM, STREAMS):
            ratios[f"{name}, /infer / {path}"] = round(us[INFER] / us[path], 2)
    return ratios


def _own(paths: dict[str, Any], path: str) -> str:
    own_us = paths[path]["least_us"] - paths[ENGINE]["least_us"]
    return "" if path == ENGINE else f" (own work {own_us:.1f})"


def _print(results: dict[str, Any]) -> None:
    console = Console(width=120, highlight=False)
    table = Table(
        "CPU µs a chunk: median, least", *results["cases"], title=f"{results['settings']['sessions']} sessions"
    )
    for path in (ENGINE, INFER, STREAM, STREAMS):
        cells = []
        for paths in results["cases"].values():
            cells.append(f"{paths[path]['us']:.1f}, {paths[path]['least_us']:.1f}{_own(paths, path)}")
        table.add_row(path, *cells)
    console.print(table)
    for name, ratio in results["ratios"].items():
        console.print(f"{name}: {ratio:.2f}")
