"""Latency from the last sample of a 20 ms chunk to its result, by part, beside a bare WebSocket echo.

One session on the loopback over each of `/infer`, `/stream` and `/streams`, all of one server, and one connection to an
echo in uvicorn. They take turns within each 20 ms, so all meet the same machine. A chunk's time begins when its last
sample is there, and ends when the bytes of its result have come to the client. Linux only: they share a clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ENVIRONMENT, HERE, speech_target
from benchmarks.load import missing_answer
from benchmarks.plots import plain, pyplot, save
from hetsyn_client.bodies import encoding_of
from hetsyn_client.columns import pack_chunks, pack_sessions
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import run_loop
from tests.support.connection import Connection
from tests.support.paths import RECORDINGS, ROOT
from tests.support.server_process import ServerProcess, free_port
from tests.support.target import Address, HetsynTarget, Response
from tests.support.websocket import BINARY, WebSocket, handshake, masked

CHUNK_S = 0.02
WARMUP = 50  # chunks that are not measured
TIMEOUT_S = 5.0
AFTER_NS = 1_000_000  # the server may note that it has sent an answer after the client has it; the next chunk is later
SAMPLE_BYTES = 2
RESULT, BEGIN = b'{"type":"Result"', b'{"type":"Begin"'
# moments of a chunk in order, with the part that ends there; the first is when its last sample is there
MOMENTS = {
    "sent": "client: send",
    "received": "system: to the server's loop",
    "session": "frame or request, permit",
    "queue": "session: decide, check",
    "engine": "queue: wait for others",
    "computed": "engine",
    "commit": "reply, new state",
    "kept": "commit",
    "written": "frame or response, send",
    "answered": "system: to the client's loop",
}
ECHO, INFER, STREAM, STREAMS = "echo", "/infer", "/stream", "/streams"


class Sender:
    """Sends the chunks of one session, or to the echo, one at a time, and notes when each was answered.

    Args:
        address: where the server listens.
        frame: makes the bytes that carry chunk ``seq``.
        opening: WebSocket handshake; None for HTTP.
        is_open: recognises the frame after which chunks may be sent. HTTP needs none.
        is_answer: recognises the frame of a result.
        open_frames: bytes to send once the WebSocket is open.
    """

    def __init__(
        self,
        address: Address,
        frame: Callable[[int], bytes],
        opening: bytes | None,
        is_open: Callable[[bytes], bool] = lambda _: True,
        is_answer: Callable[[bytes], bool] = lambda _: True,
        open_frames: bytes = b"",
    ) -> None:
        self._address = address
        self._frame = frame
        self._is_open = is_open
        self._is_answer = is_answer
        self._open_frames = open_frames
        self._answered = asyncio.Event()
        self._ready = asyncio.Event()
        self._answered_ns = 0
        self._failure = ""
        self._wire: WebSocket | Connection = Connection(self) if opening is None else WebSocket(self, opening)
        self.times: list[tuple[int, int, int]] = []  # due, sent, answered, in ns

    async def open(self, *, waits: bool = True) -> None:
        wire = self._wire
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: wire, self._address.host, self._address.port
        )
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if waits:
            async with asyncio.timeout(TIMEOUT_S):
                await self._ready.wait()

    async def chunk(self, seq: int) -> None:
        """Send a chunk, and wait for its answer."""
        content = self._frame(seq)
        self._answered.clear()
        due_ns = time.perf_counter_ns()
        self._wire.send(content)
        sent_ns = time.perf_counter_ns()
        async with asyncio.timeout(TIMEOUT_S):
            await self._answered.wait()
        if self._failure:
            raise RuntimeError(self._failure)
        if seq >= WARMUP:
            self.times.append((due_ns, sent_ns, self._answered_ns))

    def close(self) -> None:
        self._wire.abort()

    # the wire calls these

    def opened(self, socket: WebSocket) -> None:
        socket.send(self._open_frames) if self._open_frames else self._ready.set()

    def received(self, socket: WebSocket, opcode: int, content: bytes) -> None:  # noqa: ARG002
        now_ns = time.perf_counter_ns()
        if self._is_answer(content):
            self._answered_ns = now_ns
            self._answered.set()
        elif self._is_open(content):
            self._ready.set()
        else:
            self._end(f"unexpected: {content[:300]!r}")

    def responded(self, connection: Connection, response: Response) -> None:  # noqa: ARG002
        self._answered_ns = time.perf_counter_ns()
        if response.status != 200:
            self._end(f"{response.status}: {response.body[:300]!r}")
        self._answered.set()

    def refused(self, socket: WebSocket, response: Response) -> None:  # noqa: ARG002
        self._end(f"{response.status}: {response.body[:300]!r}")

    def closed(self, wire: WebSocket | Connection) -> None:  # noqa: ARG002
        self._end("the connection was closed")

    def _end(self, failure: str) -> None:
        self._failure = self._failure or failure
        self._answered.set()
        self._ready.set()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunks", type=int, default=1_000, help="number of chunks of each session")
    parser.add_argument("--store", help="the server's --store; by default none")
    parser.add_argument("--plot", type=Path, help="where a PNG of the result goes")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    count = 10 if arguments.smoke else 150 if arguments.quick else arguments.chunks
    load = recorded(RECORDINGS, CHUNK_S)
    options = [] if arguments.store is None else ["--store", arguments.store]
    with tempfile.TemporaryDirectory(prefix="hetsyn-latency-") as name, ExitStack() as stack:
        folder = Path(name)
        ours, echo = Address("127.0.0.1", free_port()), Address("127.0.0.1", free_port())
        moments = folder / "moments.json"
        command = [*HERE, "benchmarks.servers.timed", str(moments), "serve", "--models", str(ROOT / "models")]
        command += ["--port", str(ours.port), "--log-level", "warning", *options]
        missing = missing_answer(speech_target(ours, load), load.chunks[0])
        with ServerProcess(command, ENVIRONMENT, missing, folder / "serve.log"):
            stack.enter_context(_echoing(echo, folder))
            senders = run_loop(_measured(ours, echo, load, count))
        noted = [(int(at_ns), str(name)) for at_ns, name in json.loads(moments.read_text())]
    results = {
        "chunk_ms": 1000 * CHUNK_S,
        "store": arguments.store or "none",
        "chunks": count,
        **summary(senders, noted),
    }
    show(results)
    if arguments.plot is not None:
        plot(results, arguments.plot)
    return results


def _echoing(address: Address, folder: Path) -> ServerProcess:
    command = [*HERE, "benchmarks.servers.echo", "--port", str(address.port)]

    def missing() -> str | None:
        try:
            socket.create_connection((address.host, address.port), 1.0).close()
        except OSError as error:
            return str(error)
        return None

    return ServerProcess(command, ENVIRONMENT, missing, folder / "echo.log")


async def _measured(ours: Address, echo: Address, load: Load, count: int) -> dict[str, list[tuple[int, int, int]]]:
    """Measure when each chunk was due, sent and answered, in ns, by name of the connection."""
    target = speech_target(ours, load)
    senders = {
        ECHO: _echo(echo, load),
        INFER: Sender(ours, lambda seq: target.request("latency", seq, _chunk(load, seq), is_last=False), None),
        STREAM: _stream(target, load),
        STREAMS: _streams(target, load),
    }
    try:
        for name, sender in senders.items():
            await sender.open(waits=name != INFER)
        start_s = time.perf_counter()
        for seq in range(count + WARMUP):
            for index, sender in enumerate(senders.values()):
                due_s = start_s + CHUNK_S * (seq + index / len(senders))
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                await sender.chunk(seq)
    finally:
        for sender in senders.values():
            sender.close()
        await asyncio.sleep(0.05)
    return {name: sender.times for name, sender in senders.items()}


def _chunk(load: Load, seq: int) -> bytes:
    return load.chunks[seq % len(load.chunks)]


def _echo(address: Address, load: Load) -> Sender:
    return Sender(address, lambda seq: masked(BINARY, _chunk(load, seq)), handshake(address, "/"))


def _stream(target: HetsynTarget, load: Load) -> Sender:
    frames = [masked(BINARY, chunk) for chunk in load.chunks]
    opening = _handshake("/stream", target, {"session": "latency-stream", "endpointing": "off"})
    return Sender(
        target.address,
        lambda seq: frames[seq % len(frames)],
        opening,
        lambda content: content.startswith(BEGIN),
        lambda content: content.startswith(RESULT),
    )


def _streams(target: HetsynTarget, load: Load) -> Sender:
    def frame(seq: int) -> bytes:
        chunk = _chunk(load, seq)
        return masked(BINARY, pack_chunks([1], [seq], [len(chunk) // SAMPLE_BYTES], chunk))

    return Sender(
        target.address,
        frame,
        _handshake("/streams", target, {}),
        lambda content: content.startswith((BEGIN, b"HSP1")),
        lambda content: content.startswith(b"HSR1"),
        masked(BINARY, pack_sessions([1], ["latency-streams"])),
    )


def _handshake(path: str, target: HetsynTarget, more: dict[str, str]) -> bytes:
    query = {"model": target.model, "version": target.version, "form": target.form, **encoding_of(target.content_type)}
    return handshake(target.address, f"{path}?{urlencode(query | more)}")


def summary(times: dict[str, list[tuple[int, int, int]]], noted: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Compute the percentiles of each connection, and the medians of the parts, in microseconds.

    Args:
        times: when each chunk was due, sent and answered, in ns, by name of the connection.
        noted: times in ns at which the server noted a moment of ``MOMENTS``, with its name.
    """
    noted = sorted(noted)
    at_ns = [at for at, _ in noted]
    ways: dict[str, Any] = {}
    for way, chunks in times.items():
        total = np.array([answered - due for due, _, answered in chunks]) / 1e3
        p50, p90, p99 = np.percentile(total, (50, 90, 99))
        ways[way] = {"p50_us": float(p50), "p90_us": float(p90), "p99_us": float(p99), "mean_us": float(total.mean())}
        if way == ECHO:
            continue
        parts = np.array(
            [
                _parts(due, sent, answered, noted[bisect_left(at_ns, due) : bisect_right(at_ns, answered + AFTER_NS)])
                for due, sent, answered in chunks
            ]
        )
        ways[way]["parts_us"] = dict(zip(MOMENTS.values(), np.median(parts, axis=0).tolist(), strict=True))
    return {"ways": ways}


def _parts(due: int, sent: int, answered: int, noted: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
    """Divide a chunk's time into its parts, in microseconds.

    If the end of a part was not noted, its time counts for the next part.
    """
    moments: dict[str, int] = {}
    for at, name in noted:
        if name in ("computed", "kept", "written") or name not in moments:
            moments[name] = at
    # the server may begin before the system returns to the client, and the client before it returns to the server
    moments["sent"] = min(sent, moments.get("received", sent))
    moments["answered"] = answered
    ends = [due]
    for name in MOMENTS:
        ends.append(min(max(moments.get(name, ends[-1]), ends[-1]), answered))
    return np.diff(ends) / 1e3


def show(results: dict[str, Any]) -> None:
    ways = results["ways"]
    table = Table(
        "µs", *ways, title=f"latency of a chunk of {results['chunk_ms']:g} ms, one session, store {results['store']}"
    )
    for part in MOMENTS.values():
        table.add_row(part, *(f"{way['parts_us'][part]:.0f}" if "parts_us" in way else "" for way in ways.values()))
    table.add_section()
    for name in ("p50_us", "p90_us", "p99_us"):
        table.add_row(f"all: {name.partition('_')[0]}", *(f"{way[name]:.0f}" for way in ways.values()))
    Console(highlight=False).print(table)


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw the medians of all parts, a bar for each connection, as a PNG."""
    figure, axes = pyplot().subplots(figsize=(9, 3.6), layout="constrained")
    colours = pyplot().get_cmap("tab10").colors
    labelled = next(name for name, way in results["ways"].items() if "parts_us" in way)
    for row, (name, way) in enumerate(results["ways"].items()):
        left = 0.0
        for index, (part, taken_us) in enumerate(way.get("parts_us", {"all": way["p50_us"]}).items()):
            colour = colours[index] if "parts_us" in way else "#bbbbbb"
            axes.barh(row, taken_us, 0.6, left, color=colour, label=part if name == labelled else None)
            left += taken_us
        axes.annotate(f" {way['p50_us']:.0f} µs", (left, row), va="center", fontsize=9)
    axes.set_yticks(range(len(results["ways"])), list(results["ways"]))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(way["p50_us"] for way in results["ways"].values()))  # room for the longest's number
    axes.set_xlabel("µs from the last sample of a chunk of 20 ms to its result, medians")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    plain(axes, grid="x")
    save(figure, path, dpi=150)
