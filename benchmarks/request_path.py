"""CPU microseconds of one ``/infer`` request by part: framework, parsing, session, batching, engine, reply.

The application is called as its server calls it (ASGI, no socket), with a chunk of 25 steps of the SHD size; parts are
timed alone, in turns. ``empty`` is the same framework and application without any work: its time is the framework's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from rich.console import Console
from rich.table import Table

from service.api.app import create_app
from service.engine import Engine, Work
from service.models import ModelCatalog
from service.packed_events import MEDIA_TYPE, pack_events
from service.payloads import decode_raw
from service.settings import Settings
from service.stream import initial_stream

MODELS = Path(__file__).parents[1] / "models"
MODEL, STEPS, DENSITY = "shd-size", 25, 0.045

Call = Callable[[], Awaitable[None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each part")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    return asyncio.run(_run(0.5 if arguments.quick else arguments.seconds))


async def _run(seconds: float) -> dict[str, Any]:
    settings = Settings(models=MODELS)
    catalog = ModelCatalog(MODELS)
    model = catalog.get(MODEL)
    form = model.manifest.default_form
    app = create_app(settings, catalog)
    rng = np.random.default_rng(0)
    times, units = np.nonzero(rng.random((STEPS, model.manifest.input.channels)) < DENSITY)
    body = pack_events(STEPS, times, units)
    query = f"session=a&model={MODEL}".encode()
    pairs = [("session", "a"), ("model", MODEL)]
    engine, work = (
        Engine(settings.max_chunk_steps, settings.segment_steps),
        Work(initial_stream(model, form), decode_raw(MEDIA_TYPE, pairs, body).chunk, False),
    )
    reply = (await _call(app, query, body))[1]

    async def whole() -> None:
        await _call(app, query, body)

    async def empty() -> None:
        await _call(bare, query, body)

    async def parse() -> None:
        decode_raw(MEDIA_TYPE, pairs, body)

    async def run_engine() -> None:
        engine.run(model, form, [work])

    bare = _empty(reply)
    parts: dict[str, Call] = {
        "whole /infer": whole,
        "empty endpoint (framework)": empty,
        "parsing and validation": parse,
        "engine, batch of one": run_engine,
    }
    async with app.router.lifespan_context(app):
        taken = await _interleaved(parts, seconds)
    rest = taken["whole /infer"] - sum(value for name, value in taken.items() if name != "whole /infer")
    taken["session, batching and reply (the rest)"] = rest
    own = taken["parsing and validation"] + rest
    framework = taken["empty endpoint (framework)"]
    table = Table("part", "CPU µs a request", title=f"{MODEL}, {STEPS} steps, {len(body):,} bytes")
    for name, value in taken.items():
        table.add_row(name, f"{value:.0f}")
    Console().print(table)
    return {
        "microseconds": {name: round(value, 1) for name, value in taken.items()},
        "ratios": {"parsing, validation, session, batching and reply / framework": round(own / framework, 2)},
    }


async def _interleaved(parts: dict[str, Call], seconds: float) -> dict[str, float]:
    """Median CPU microseconds of a call of each, in turns of 50 calls."""
    samples: dict[str, list[float]] = {name: [] for name in parts}
    end = time.perf_counter() + seconds * len(parts)
    while time.perf_counter() < end:
        for name, call in parts.items():
            started = time.process_time()
            for _ in range(50):
                await call()
            samples[name].append((time.process_time() - started) / 50 * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


def _empty(reply: bytes) -> FastAPI:
    """The framework alone: reads the body, answers as many bytes as we do."""
    app = FastAPI()

    @app.post("/infer")
    async def infer(request: Request) -> Response:
        await request.body()
        return Response(reply, media_type="application/json")

    return app


async def _call(app: FastAPI, query: bytes, body: bytes) -> tuple[int, bytes]:
    """One POST /infer, as an ASGI server makes it: status and body."""
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
    status = messages[0]["status"]
    content = b"".join(message.get("body", b"") for message in messages[1:])
    if status != 200:
        raise RuntimeError(f"/infer answered {status}: {content.decode()}")
    return status, content
