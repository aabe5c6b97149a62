"""A session with utterances as bytes and back, wherever it is among them, and what no session can have written."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.admission.budget import Admission, Budget, Permit
from service.engine.engine import Engine
from service.engine.utterances import KEPT_ENDS
from service.engine.work import Outcome, Work, initial_stream
from service.errors import StateMismatch
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.observe.counters import Counters
from service.session.advance import Advance
from service.session.protocol import Known, Progress
from service.session.session import Session
from service.settings import Limits
from service.store.record import Packing, read
from service.store.utterance_sections import pack_utterances
from service.wire.chunk import AudioChunk, Chunk, chunk_length, part_of_chunk
from service.wire.schema import InferRequest, Parameters
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake
from tests.support.data.signals import audio_chunk, row_bursts, spike_bursts, words
from tests.support.stores.made_session import assert_same
from tests.support.stores.record_parts import Section, rewritten, sections

ENGINE = Engine(max_chunk_steps=20_000)
BUDGET = Budget(Limits())
PERMIT = Permit(Admission(BUDGET), "")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> ModelCatalog:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    write_artifact(folder, "sensor", takes="rows")
    return ModelCatalog(folder, load=load_fake)


@pytest.fixture(scope="module")
def digits(catalog: ModelCatalog) -> Model:
    return catalog.get("digits")


def chunk_of(kind: str, rate_hz: int) -> Chunk:
    if kind == "audio":
        return audio_chunk(words(3, rate_hz), rate_hz)
    return row_bursts(300) if kind == "values" else spike_bursts(300)


async def session_after(catalog: ModelCatalog, chunk: Chunk | None, *, end: bool, before: Session) -> Session:
    async def run(model: Model, work: Work, client: str, due_s: float) -> Outcome:  # noqa: ARG001
        return ENGINE.run(model, [work])[0]

    advance = Advance(ENGINE, run, catalog, Counters())
    seq = before.known.progress.expected_seq
    request = InferRequest(Parameters(end=end, endpointing=None if seq else "on"), chunk, b"d" * 16)
    planned = advance.plan(before, seq, request)
    after = await advance.apply("abc", planned, PERMIT, lambda: 7.25)
    return after.session


def begun(model: Model) -> Session:
    return Session(model, Known(Progress(), 1.5, 1.5), initial_stream(model))


@settings(max_examples=40, deadline=None)
@given(
    part=st.floats(0.01, 1),
    kind=st.sampled_from(["audio", "spikes", "values"]),
    rate_hz=st.sampled_from([8_000, 44_100]),
)
def test_a_session_goes_on_from_its_record(catalog: ModelCatalog, part: float, kind: str, rate_hz: int) -> None:
    model, chunk = catalog.get("sensor" if kind == "values" else "digits"), chunk_of(kind, rate_hz)
    first = part_of_chunk(chunk, 0, max(1, int(part * chunk_length(chunk))))
    session = asyncio.run(session_after(catalog, first, end=False, before=begun(model)))
    packed = Packing().pack("abc", session)
    unpacked = Packing().unpack(read(packed, "abc"), model)
    assert_same(unpacked, session)
    assert Packing().pack("abc", unpacked) == packed


async def test_an_ended_session_keeps_what_it_heard_last(catalog: ModelCatalog, digits: Model) -> None:
    session = await session_after(catalog, chunk_of("audio", 8_000), end=True, before=begun(digits))
    unpacked = Packing().unpack(read(Packing().pack("abc", session)), digits)
    assert_same(unpacked, session)
    assert len(json.loads(unpacked.last_reply("abc"))["events"]) == 2


async def test_every_end_that_a_client_may_have_missed_is_kept(catalog: ModelCatalog, digits: Model) -> None:
    session = await session_after(catalog, chunk_of("audio", 8_000), end=False, before=begun(digits))
    stream = session.open_stream
    assert stream.utterances is not None
    nothing = {"type": "UtteranceEnd", "start": 0.5, "end": 0.75, "label": None, "probabilities": None}
    ends: Any = tuple({**nothing, "utterance": number, "trigger": "silence"} for number in range(KEPT_ENDS))
    stream = stream._replace(utterances=stream.utterances._replace(ends=ends))
    session = session._replace(stream=stream)
    assert_same(Packing().unpack(read(Packing().pack("abc", session)), digits), session)


def changed(record: bytes, **fields: Any) -> bytes:
    """The record with other fields of its utterances, or another recent input."""
    found = sections(record)
    values, recent = json.loads(found[Section.utterances]), fields.pop("recent", found[Section.recent])
    return rewritten(record, parts={Section.utterances: json.dumps(values | fields).encode(), Section.recent: recent})


@pytest.mark.parametrize(
    "fields",
    [
        {"settings": {}}, {"settings": 3}, {"settings": {"threshold": -1.0}}, {"hearing": [0] * 99}, {"ends": 3},
        {"recent": b"abc"},
    ],
)  # fmt: skip
async def test_utterances_that_are_none_are_reported(
    catalog: ModelCatalog, digits: Model, fields: dict[str, Any]
) -> None:
    quiet = AudioChunk(np.zeros(4_000, np.float32), 8_000)
    session = await session_after(catalog, quiet, end=False, before=begun(digits))
    record = Packing().pack("abc", session)
    Packing().unpack(read(changed(record)), digits)
    with pytest.raises(StateMismatch):
        Packing().unpack(read(changed(record, **fields)), digits)


def test_an_ended_session_has_empty_sections() -> None:
    assert pack_utterances(None) == (b"", b"")
