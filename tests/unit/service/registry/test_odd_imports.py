"""States that no chunk leads to, imported into a real network: what comes of them, and of the sessions beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import Server
from service.errors import SessionError, StateBroken, StateError, TokenExpired
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.store.base import Stored
from service.store.record import Packing, read
from service.wire.chunk import AudioChunk, Chunk, ValuesChunk, spike_chunk
from service.wire.schema import Reply
from tests.support.clock import Clock
from tests.support.infer_request import infer_request
from tests.support.leaky_values import write_leaky
from tests.support.memory_store import MemoryStore
from tests.support.paths import MODELS
from tests.support.product import make_server
from tests.support.record_parts import Head, Section, counted, rewritten, sections

MATE, ODD = "mate", "odd"
SIZES = st.sampled_from([9.9e29, 1e29, 1e20, 1e13, 1e9, 1e3, 1.0, 1e-30, 3e38, float("inf"), float("nan")])
LEAKY = "leaky"  # a network of values
NAMES = ["delayed-match", "pattern-generation", "speech-digits", LEAKY]


@cache
def shipped() -> ModelCatalog:
    return ModelCatalog(MODELS)


@cache
def of_values() -> ModelCatalog:
    with TemporaryDirectory() as folder:
        write_leaky(Path(folder), LEAKY)
        return ModelCatalog(Path(folder))


def catalog(name: str) -> ModelCatalog:
    return of_values() if name == LEAKY else shipped()


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[tuple[Server, MemoryStore]]:
    clock = Clock(1_000_000.0)
    store = MemoryStore(clock)
    server = make_server(catalog(name), clock, clock, store=store)
    yield server, store
    await server.close()


def chunk(model: Model, kind: str, seed: int) -> Chunk:
    rng = np.random.default_rng(seed)
    if kind == "audio":
        return AudioChunk(rng.uniform(-0.5, 0.5, 700).astype(np.float32), 8_000)
    if kind == "values":
        return ValuesChunk(rng.normal(size=(20, model.row_values)).astype(np.float32))
    return spike_chunk(20, rng.integers(0, 20, 60), rng.integers(0, model.manifest.input.channels, 60))


async def send(server: Server, name: str, session: str, piece: Chunk, *, begin: bool = False) -> Reply:
    with server.admission.permit("") as permit:
        answer = await server.registry.infer(infer_request(session, chunk=piece, model=name, begin=begin), permit)
        return Reply.from_json(answer.json())


async def both(server: Server, name: str, *pieces: Chunk) -> list[Any]:
    """What a chunk to the mate and one to the odd session get, in one batch."""
    calls = [send(server, name, session, piece) for session, piece in zip((MATE, ODD), pieces, strict=True)]
    return await asyncio.gather(*calls, return_exceptions=True)


async def stored(store: MemoryStore, session: str) -> bytes | None:
    (found,) = await store.load([session])
    return found.record if isinstance(found, Stored) else None


@st.composite
def oddities(draw: st.DrawFn) -> Any:
    """A change of a record that keeps its structure."""
    size, pattern = draw(SIZES), draw(st.sampled_from(["all", "alternating", "some", "none"]))
    scored = draw(st.booleans())
    seed = draw(st.integers(0, 2**16))
    field = draw(
        st.sampled_from([None, None, *(f for f in Head if f.name in ("received", "emitted", "rate", "created"))])
    )
    value = draw(st.sampled_from([0, 1, 8_000, 2**31, 2**32 - 1]))
    counts = draw(st.sampled_from([{}, {}, {}, {"expected": 2**52 - 1}, {"expected": 2**53}, {"steps": 2**53}]))
    section = draw(st.sampled_from([Section.encoder, Section.pending, Section.waiting, Section.digest]))
    tail = draw(
        st.sampled_from([None, None, b"", bytes(4), bytes(16), b"\xff" * 8, np.full(40, size, "<f4").tobytes()])
    )

    def change(record: bytes, outputs: int) -> bytes:
        network = sections(record)[Section.network]
        row = np.frombuffer(network[:-8], "<f4").copy()
        end = len(row) if scored else len(row) - outputs
        chosen = {"all": slice(0, end), "alternating": slice(0, end, 2), "none": slice(0, 0)}.get(pattern)
        rng = np.random.default_rng(seed)
        row[rng.integers(0, end, 5) if chosen is None else chosen] = np.float32(size)
        if pattern == "alternating":
            row[1:end:2] = -np.float32(size)
        record = rewritten(record, parts={Section.network: row.tobytes() + network[-8:]})
        if tail is not None:
            record = rewritten(record, parts={section: sections(record)[section][: -len(tail) or None] + tail})
        if field is not None:
            record = rewritten(record, {field: float(value) if field is Head.created else value})
        return counted(record, **counts) if counts else record

    return change


@pytest.mark.process
@settings(max_examples=150)
@given(name=st.sampled_from(NAMES), sound=st.booleans(), change=oddities())
async def test_whatever_is_imported_is_refused_or_stays_loadable_and_harms_nobody(
    name: str, sound: bool, change: Any
) -> None:
    model = catalog(name).get(name)
    kind = "values" if model.row_values else "audio" if sound and model.manifest.encoder is not None else "spikes"
    first, second, third = (chunk(model, kind, seed) for seed in range(3))
    async with serving(name) as (server, _):
        expected = [await send(server, name, MATE, piece, begin=piece is first) for piece in (first, second, third)]
    async with serving(name) as (server, store):
        assert await send(server, name, MATE, first, begin=True) == expected[0]
        exported = await server.transfer.export_state(MATE)
        try:
            await server.transfer.import_state(ODD, change(exported, model.manifest.outputs), replace_it=False)
        except (StateError, TokenExpired):  # 422; 410 if it is too old
            return
        for piece, answer in zip((second, third), expected[1:], strict=True):
            before = await stored(store, ODD)
            mate, odd = await both(server, name, piece, piece)
            assert mate == answer
            after = await stored(store, ODD)
            assert after is not None
            Packing().unpack(read(after, ODD), model)
            if isinstance(odd, BaseException):
                assert isinstance(odd, SessionError)  # 409
                assert after == before
        assert (await server.registry.describe(ODD))["session"] == ODD
        await server.transfer.export_state(ODD)
        await server.registry.delete(ODD)


async def test_a_state_that_overflows_is_broken_and_can_be_exported_and_deleted() -> None:
    """The test above would hold too if nothing ever overflowed."""
    name = "pattern-generation"
    model = catalog(name).get(name)
    piece = chunk(model, "spikes", 1)
    async with serving(name) as (server, _):
        await send(server, name, MATE, piece, begin=True)
        exported = await server.transfer.export_state(MATE)
        network = sections(exported)[Section.network]
        row = np.full(len(network) // 4 - 2, 9.9e29, "<f4")
        content = rewritten(exported, parts={Section.network: row.tobytes() + network[-8:]})
        await server.transfer.import_state(ODD, content, replace_it=False)
        mate, odd = await both(server, name, piece, piece)
        assert isinstance(mate, Reply)
        assert isinstance(odd, StateBroken)
        again = await server.transfer.export_state(ODD)
        assert sections(again)[Section.network] == sections(content)[Section.network]
        await server.registry.delete(ODD)
        assert (await send(server, name, ODD, piece, begin=True)).seq == 0
