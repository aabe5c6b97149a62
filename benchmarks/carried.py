"""The cost of a carried session: the size of a token, and the time to pack, seal and open it, and of a whole chunk.

Chunks of 100 ms of a recording go to the speech model, one at a time and without HTTP. ``chunk, ordinary`` is a session
in memory, ``chunk, carried`` a session that is opened and sealed with each chunk. The two take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from service.app import Server, build_server
from service.carried.keys import KEY_BYTES, CarryKeys
from service.carried.token import Tokens
from service.contract.manifest import FormName
from service.models.catalog import ModelCatalog
from service.session.protocol import NO_EXPIRY
from service.settings import Settings
from service.store.record import Packing
from service.wire.chunk import AudioChunk, digest
from service.wire.pcm import decode_wav
from service.wire.schema import Envelope, InferRequest, ReplyWithToken

ROOT = Path(__file__).parents[1]
MODEL, CHUNK_S = "speech-digits", 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=300, help="streams of each kind, and calls of each part")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    return asyncio.run(_run(40 if arguments.quick else arguments.rounds))


async def _run(rounds: int) -> dict[str, Any]:
    settings = Settings(models=ROOT / "models")
    catalog = ModelCatalog(settings.models)
    keys = CarryKeys([secrets.token_bytes(KEY_BYTES)])
    server = build_server(settings, catalog, keys=keys)
    tokens = Tokens(keys, catalog, NO_EXPIRY, server.counters, time.time)
    packing = Packing()
    forms: dict[str, dict[str, float]] = {}
    for form in catalog.get(MODEL).manifest.forms:
        chunks = _chunks(form)
        carried = await _stream_carried(server, chunks[:-1])
        token = carried.token or b""
        named, session = tokens.open(token)
        costs = {"token, bytes": float(len(token)), "token in base64, bytes": float(4 * -(-len(token) // 3))}
        parts: dict[str, Callable[[], object]] = {
            "pack": lambda: packing.pack(named, session),  # noqa: B023
            "pack and seal": lambda: tokens.seal(named, session),  # noqa: B023
            "open and unpack": lambda: tokens.open(token),  # noqa: B023
            "reply as JSON": carried.to_json,
            "reply as a frame": carried.to_frame,
        }
        for name, part in parts.items():
            costs[f"{name}, µs"] = _microseconds(part, rounds)
        ordinary_us, carried_us = [], []
        for _ in range(rounds):
            began_s = time.perf_counter()
            await _stream_ordinary(server, chunks)
            between_s = time.perf_counter()
            await _stream_carried(server, chunks)
            ordinary_us.append((between_s - began_s) / len(chunks) * 1e6)
            carried_us.append((time.perf_counter() - between_s) / len(chunks) * 1e6)
        costs["chunk, ordinary, µs"] = statistics.median(ordinary_us)
        costs["chunk, carried, µs"] = statistics.median(carried_us)
        forms[form] = {name: round(value, 1) for name, value in costs.items()}
    await server.close()
    table = Table("", *forms, title=f"{MODEL}, chunks of {1000 * CHUNK_S:g} ms")
    for name in forms[next(iter(forms))]:
        table.add_row(name, *(f"{costs[name]:,.0f}" for costs in forms.values()))
    Console().print(table)
    return {"forms": forms}


def _chunks(form: FormName) -> list[InferRequest]:
    """A recording as the chunks of a session."""
    samples, rate_hz = decode_wav((ROOT / "docs/recordings/seven.wav").read_bytes())
    length = round(CHUNK_S * rate_hz)
    requests = []
    for begin in range(0, len(samples), length):
        chunk = AudioChunk(samples[begin : begin + length].astype(np.float32), rate_hz)
        end = begin + length >= len(samples)
        requests.append(InferRequest(Envelope(form=form, end=end), chunk, digest(chunk, end)))
    return requests


async def _stream_ordinary(server: Server, chunks: list[InferRequest]) -> None:
    session = secrets.token_urlsafe(16)
    for request in chunks:
        envelope = request.envelope.model_copy(update={"session": session})
        with server.admission.permit("") as permit:
            await server.registry.infer(request._replace(envelope=envelope), permit)


async def _stream_carried(server: Server, chunks: list[InferRequest]) -> ReplyWithToken:
    """The answer to the last chunk."""
    session = secrets.token_urlsafe(16)
    token = None
    for request in chunks:
        envelope = request.envelope.model_copy(update={"session": session})
        with server.admission.permit("") as permit:
            carried = await server.carried.infer(request._replace(envelope=envelope, carry=True, token=token), permit)
        token = carried.token
    return carried


def _microseconds(part: Callable[[], object], rounds: int) -> float:
    """Median of single calls, in microseconds."""
    taken = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        part()
        taken.append((time.perf_counter() - began_s) * 1e6)
    return statistics.median(taken)
