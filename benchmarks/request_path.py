"""CPU microseconds of one ``/infer`` request by part: parsing, session, batching, engine, reply, and the framework.

The server's connections get the bytes of requests, without sockets: chunks of 25 steps of the SHD size, one at a time
and 16 at a time. Each part is timed alone, and the parts take turns. *Ours* is a whole request less the engine: HTTP,
parsing, validation, session, batching and reply. The overhead of the framework is the time of an empty endpoint: in
FastAPI alone, called by ASGI without HTTP; and as it is served, in FastAPI and uvicorn, from the CPU time of its
process a request in a closed loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp

from benchmarks.load.contenders import Contender, empty, ours, shd_load
from benchmarks.load.load import closed_loop
from benchmarks.servers.empty import create_app as empty_app
from hetsyn_client.events import MEDIA_TYPE, pack_events
from hetsyn_client.loadtest.run import RunSettings
from service.app import create_app
from service.commands.process import COLLECT_AFTER
from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.models.catalog import ModelCatalog
from service.settings import Settings
from service.wire.decode import decode_raw
from tests.support.clients.wire import Wire

MODELS = Path(__file__).parents[1] / "models"
MODEL, STEPS, DENSITY = "shd-size", 25, 0.045
CONCURRENCIES = (1, 16)
SHORTEST_S = 1.0  # of a load: a busy machine answers nothing in 0.1 s
WHOLE, PARSING, ENGINE, FRAMEWORK = "whole /infer", "parsing and validation", "engine", "empty endpoint, FastAPI alone"
REST, OURS = "session, batching and reply", "ours: whole less engine"
SERVED_EMPTY, SERVED = "served: empty endpoint, FastAPI and uvicorn", "served: /infer, all of it"

Call = Callable[[], Awaitable[None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each part")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds, rounds = (0.5 if arguments.quick else arguments.seconds), 3
    if arguments.smoke:
        seconds, rounds = 0.1, 1
    taken = {f"{n} at a time": asyncio.run(_measure(n, seconds)) for n in CONCURRENCIES}
    served = _served(max(seconds, SHORTEST_S), rounds)
    for n in CONCURRENCIES:
        taken[f"{n} at a time"] |= served[n]
    ratios: dict[str, float] = {}
    for name, parts in taken.items():
        parts[OURS] = parts[WHOLE] - parts[ENGINE]
        parts[REST] = parts[OURS] - parts[PARSING]
        ratios[f"ours / framework as served, {name}"] = round(parts[OURS] / parts[SERVED_EMPTY], 2)
        ratios[f"ours / FastAPI alone, {name}"] = round(parts[OURS] / parts[FRAMEWORK], 2)
    shown = (WHOLE, ENGINE, OURS, PARSING, REST, FRAMEWORK, SERVED_EMPTY, SERVED)
    table = Table("CPU µs a request", *taken, title=f"{MODEL}, chunks of {STEPS} steps")
    for part in shown:
        table.add_row(part, *(f"{parts[part]:.0f}" for parts in taken.values()))
    console = Console(highlight=False)
    console.print(table)
    for name, ratio in ratios.items():
        console.print(f"{name}: {ratio:.2f}")
    microseconds = {name: {part: round(parts[part], 1) for part in shown} for name, parts in taken.items()}
    return {"microseconds": microseconds, "ratios": ratios}


async def _measure(concurrency: int, seconds: float) -> dict[str, float]:
    settings = Settings(models=MODELS)
    catalog = ModelCatalog(MODELS)
    model = catalog.get(MODEL)
    app = create_app(settings, catalog)
    rng = np.random.default_rng(0)
    spikes = [np.nonzero(rng.random((STEPS, model.manifest.input.channels)) < DENSITY) for _ in range(concurrency)]
    bodies = [pack_events(STEPS, *events) for events in spikes]
    queries = [f"session=s{index}&model={MODEL}".encode() for index in range(concurrency)]
    pairs = [("session", "s0"), ("model", MODEL)]
    engine = Engine(settings.limits.max_chunk_steps)
    fresh = initial_stream(model)
    works = [Work(fresh, decode_raw(MEDIA_TYPE, pairs, body).chunk, False) for body in bodies]
    async with app.router.lifespan_context(app):
        wires = [Wire(app) for _ in range(concurrency)]
        firsts = [infer_request(query + b"&begin=true", body) for query, body in zip(queries, bodies, strict=True)]
        requests = [infer_request(query, body) for query, body in zip(queries, bodies, strict=True)]
        begun = [await ask(wire, request) for wire, request in zip(wires, firsts, strict=True)]
        bare = empty_app(begun[0])

        async def whole() -> None:
            await asyncio.gather(*(ask(wire, request) for wire, request in zip(wires, requests, strict=True)))

        async def framework() -> None:
            await asyncio.gather(*(call(bare, query, body) for query, body in zip(queries, bodies, strict=True)))

        async def parse() -> None:
            for body in bodies:
                decode_raw(MEDIA_TYPE, pairs, body)

        async def run_engine() -> None:
            engine.run(model, works)

        parts: dict[str, Call] = {WHOLE: whole, FRAMEWORK: framework, PARSING: parse, ENGINE: run_engine}
        gc.collect()
        gc.freeze()  # as ``hetsyn serve`` does
        before = gc.get_threshold()
        gc.set_threshold(*COLLECT_AFTER)
        try:
            taken = await interleaved(parts, seconds)
        finally:
            gc.set_threshold(*before)
            gc.unfreeze()
    return {name: value / concurrency for name, value in taken.items()}


def _served(seconds: float, rounds: int) -> dict[int, dict[str, float]]:
    """CPU microseconds of a server's process a request, of the empty endpoint and of ours, by concurrency."""
    load, settings = shd_load(), RunSettings(duration_s=seconds, warmup_s=0.3)
    times: dict[int, dict[str, list[float]]] = {n: {} for n in CONCURRENCIES}
    sides: dict[str, Contender] = {SERVED_EMPTY: empty(), SERVED: ours()}
    with tempfile.TemporaryDirectory(prefix="hetsyn-path-") as folder:
        for _ in range(rounds):
            for name, contender in sides.items():
                with contender.serve(Path(folder) / "server.log") as (server, target):
                    for n in CONCURRENCIES:
                        figures = closed_loop(target, server, load, n, settings)
                        times[n].setdefault(name, []).append(1e3 * figures.cpu_ms)
    return {n: {name: statistics.median(values) for name, values in parts.items()} for n, parts in times.items()}


async def interleaved(parts: dict[str, Call], seconds: float) -> dict[str, float]:
    """Median CPU microseconds of a call of each part. The parts take turns of 20 calls."""
    samples: dict[str, list[float]] = {name: [] for name in parts}
    end = time.perf_counter() + seconds * len(parts)
    while time.perf_counter() < end:
        for name, call in parts.items():
            started = time.process_time()
            for _ in range(20):
                await call()
            samples[name].append((time.process_time() - started) / 20 * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


def infer_request(query: bytes, body: bytes) -> bytes:
    """Write a ``POST /infer`` as bytes."""
    head = b"POST /infer?%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (query, MEDIA_TYPE.encode(), len(body)) + body


async def ask(wire: Wire, request: bytes) -> bytes:
    """Send a request. Returns the body of the response."""
    await wire.send(request)
    head, _, body = (await wire.read()).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"/infer answered {head.decode()} {body.decode()}")
    return body


async def call(app: ASGIApp, query: bytes, body: bytes) -> None:
    """Make one POST /infer, as an ASGI server does."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/infer",
        "raw_path": b"/infer",
        "query_string": query,
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    if messages[0]["status"] != 200:
        raise RuntimeError(f"/infer answered {messages}")
