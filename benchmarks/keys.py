"""What a key costs a request: the CPU time of ``/infer`` with and without, in turns, in one process.

Two applications on the same models, one of them with ``--keys`` and two thousand keys, each with limits. They are
called as their server calls them (ASGI, no socket), with chunks of 25 steps of the SHD size, 16 at a time. Target: the
key costs less than 2%.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.request_path import DENSITY, MODEL, MODELS, STEPS, call, interleaved
from hetsyn_client.events import pack_events
from service.app import create_app
from service.keys.caller import Scope
from service.keys.document import KeyEntry, KeyLimits, KeysDocument, SecretEntry, utc_now, write_document
from service.keys.token import Token
from service.models.catalog import ModelCatalog
from service.settings import AccessSettings, Settings

KEYS, CONCURRENCY, ROUNDS = 2_000, 16, 5
WITHOUT, WITH = "without", "with a key"
TARGET = 1.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each side of a round")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = 1.0 if arguments.quick else arguments.seconds
    rounds = [asyncio.run(_measure(seconds)) for _ in range(ROUNDS)]
    ratio = statistics.median(taken[WITH] / taken[WITHOUT] for taken in rounds)
    microseconds = {side: round(statistics.median(taken[side] for taken in rounds), 1) for side in (WITHOUT, WITH)}
    Console(highlight=False).print(
        f"CPU \u00b5s a request: {microseconds[WITHOUT]} without, {microseconds[WITH]} with a key; ratio {ratio:.3f}, "
        f"target below {TARGET}"
    )
    return {"microseconds": microseconds, "ratio": round(ratio, 4), "target": TARGET, "passed": ratio < TARGET}


async def _measure(seconds: float) -> dict[str, float]:
    """Median CPU microseconds of a request."""
    with tempfile.TemporaryDirectory(prefix="hetsyn-keys-") as folder:
        path = Path(folder) / "keys.json"
        token = write_keys(path)
        plain = create_app(Settings(models=MODELS), ModelCatalog(MODELS))
        keyed = create_app(Settings(models=MODELS, access=AccessSettings(keys=path)), ModelCatalog(MODELS))
    rng = np.random.default_rng(0)
    channels = ModelCatalog(MODELS).get(MODEL).manifest.input.channels
    bodies = [pack_events(STEPS, *np.nonzero(rng.random((STEPS, channels)) < DENSITY)) for _ in range(CONCURRENCY)]
    queries = [f"session=s{index}&model={MODEL}".encode() for index in range(CONCURRENCY)]
    other = (b"accept", b"*/*"), (b"user-agent", b"benchmark"), (b"connection", b"keep-alive")
    header = (b"authorization", f"Bearer {token.text}".encode())

    async def without() -> None:
        await asyncio.gather(*(call(plain, query, body, other) for query, body in zip(queries, bodies, strict=True)))

    async def with_key() -> None:
        more = (*other, header)
        await asyncio.gather(*(call(keyed, query, body, more) for query, body in zip(queries, bodies, strict=True)))

    async with plain.lifespan(), keyed.lifespan():
        gc.collect()
        gc.freeze()
        try:
            taken = await interleaved({WITHOUT: without, WITH: with_key}, seconds)
        finally:
            gc.unfreeze()
    return {side: value / CONCURRENCY for side, value in taken.items()}


def write_keys(path: Path) -> Token:
    """Write many keys, and return the token of one of them."""
    limits = KeyLimits(max_sessions=10**6, requests_per_s=1e9, bytes_per_s=1e12, max_streams=10**6)
    tokens = [Token.new() for _ in range(KEYS)]
    entries = [
        KeyEntry(
            name=f"key-{number}",
            tenant="all",
            scopes=tuple(Scope),
            limits=limits,
            secrets=(SecretEntry.of(token, utc_now()),),
        )
        for number, token in enumerate(tokens)
    ]
    write_document(path, KeysDocument(keys=tuple(entries)))
    return tokens[KEYS // 2]
