"""A session as bytes and back, and every way in which the bytes may be wrong."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine.work import initial_stream
from service.errors import (
    StateCorrupt,
    StateError,
    StateFormat,
    StateMismatch,
)
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.session.protocol import Answered, Known, Progress
from service.session.session import Kept, PlainReply, Session
from service.store.record import CHECKSUM_BYTES, Packing, checksum, model_hash, read
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.fake_graph import OUTPUTS, SKIP, load_fake
from tests.support.clients.replies import Reply
from tests.support.stores.made_session import assert_same, made_session
from tests.support.stores.record_parts import Head, Section, rewritten

BELOW = float(np.float32(9.9e29))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return ModelCatalog(folder, load=load_fake).get("digits", "1")


@pytest.mark.parametrize("kind", ["audio", "spikes"])
@pytest.mark.parametrize("end", [False, True])
def test_a_session_comes_back_as_it_was(model: Model, kind: str, end: bool) -> None:
    session = made_session(model, kind=kind, end=end)
    packing = Packing()
    record = packing.pack("abc", session)
    found = read(record, "abc")
    assert (found.session, found.model, found.version) == ("abc", "digits", "1")
    back = packing.unpack(found, model)
    assert_same(back, session)


@pytest.mark.parametrize("takes", ["values", "rows", "frames"])
def test_a_session_of_values_comes_back_as_it_was(tmp_path: Path, takes: Takes) -> None:
    write_artifact(tmp_path, takes, takes=takes)
    model = ModelCatalog(tmp_path, load=load_fake).get(takes)
    session = made_session(model, kind="values")
    assert session.open_stream.kind == "values"
    assert_same(Packing().unpack(read(Packing().pack("abc", session)), model), session)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    potential=st.lists(st.floats(-BELOW, BELOW, width=32), min_size=OUTPUTS, max_size=OUTPUTS),
    score=st.sampled_from([(1.0, 0.0, 0.0), (0.5, 0.25, 0.25), (0.0, 0.0, 0.9)]),
    step=st.integers(10, 2**53),
    loudness=st.floats(-BELOW, BELOW),
    times=st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)),
    expected=st.integers(1, 2**53),
    digest=st.binary(min_size=16, max_size=16),
    probabilities=st.tuples(st.floats(0.25, 0.5), st.floats(0, 0.5), st.floats(0, 0.5)),
    session_id=st.from_regex(r"\A[A-Za-z0-9._~:-]{1,128}\Z"),
)
def test_any_state_comes_back(
    model: Model,
    potential: list[float],
    score: tuple[float, ...],
    step: int,
    loudness: float,
    times: tuple[float, float],
    expected: int,
    digest: bytes,
    probabilities: tuple[float, ...],
    session_id: str,
) -> None:
    begun = made_session(model, kind="spikes", chunks=1)
    assert begun.stream is not None
    reply = Reply.from_json(begun.last_reply("abc"))
    reply.session, reply.seq, reply.total_steps, reply.probabilities = session_id, expected - 1, step, probabilities
    stream = begun.stream._replace(
        network=np.array([*potential, *(share * (step - SKIP) for share in score)], np.float32),
        step=step,
        encoder={"loudness": np.array(loudness)},
    )
    progress: Progress[Kept] = Progress(expected, step, False, Answered(expected - 1, digest, reply.to_json()))
    session = begun._replace(known=Known(progress, *times), stream=stream)
    packing = Packing()
    assert_same(packing.unpack(read(packing.pack(session_id, session), session_id), model), session)


def test_a_plain_reply_comes_back_as_numbers(model: Model) -> None:
    session = made_session(model)
    answered = session.known.progress.last
    assert answered is not None
    plain = answered._replace(reply=PlainReply(123, 1, np.array([0.25, 0.5, 0.125], "<f4").tobytes()))
    progress = session.known.progress._replace(last=plain)
    session = session._replace(known=session.known._replace(progress=progress))
    record = Packing().pack("abc", session)
    back = Packing().unpack(read(record), model)
    assert_same(back, session)
    assert back.last_reply("abc") == session.last_reply("abc")
    with pytest.raises(StateMismatch, match="does not fit its model"):
        Packing().unpack(read(rewritten(record, parts={Section.reply: bytes(15)})), model)


def test_any_flipped_byte_is_refused(model: Model) -> None:
    record = Packing().pack("abc", made_session(model))
    for index in range(len(record)):
        flipped = bytearray(record)
        flipped[index] ^= 1 << (index % 8)
        with pytest.raises(StateError):
            read(bytes(flipped))


def test_any_cut_is_refused(model: Model) -> None:
    record = Packing().pack("abc", made_session(model))
    for length in range(len(record)):
        with pytest.raises(StateCorrupt, match="cut off" if length >= 6 else "not a session record"):
            read(record[:length])
    with pytest.raises(StateCorrupt, match="checksum does not match"):
        read(record + b"x")


@given(content=st.binary(max_size=400), begins=st.booleans())
def test_any_bytes_are_refused(content: bytes, begins: bool) -> None:
    with pytest.raises(StateError):
        read((b"HSST\x04\x00" if begins else b"") + content)


def seal(body: bytes) -> bytes:
    return body + checksum(body)


def changed(record: bytes, offset: int, layout: str, *values: Any) -> bytes:
    body = bytearray(record[:-CHECKSUM_BYTES])
    struct.pack_into(layout, body, offset, *values)
    return seal(bytes(body))


def test_foreign_bytes_are_reported() -> None:
    for content in (b"x", b"PK\x03\x04 a zip file", b"{}"):
        with pytest.raises(StateCorrupt, match="not a session record"):
            read(content)


@pytest.mark.parametrize(("version", "age"), [(3, "an older"), (5, "a newer"), (65_535, "a newer")])
def test_another_format_is_reported(model: Model, version: int, age: str) -> None:
    record = Packing().pack("abc", made_session(model))
    with pytest.raises(StateFormat, match=f"{age} format, {version}, but this server reads 4"):
        read(changed(record, 4, "<H", version))


def test_another_session_s_record_is_reported(model: Model) -> None:
    with pytest.raises(StateMismatch, match="'abc', not 'x'"):
        read(Packing().pack("abc", made_session(model)), "x")


def test_the_hash_of_a_model_is_that_of_its_content(model: Model, folder: Path, tmp_path: Path) -> None:
    again = ModelCatalog(folder, load=load_fake).get("digits", "1")
    assert model_hash(again) == model_hash(model)
    write_artifact(tmp_path, "digits", "1", change={"provenance": {"seed": 8}})
    assert model_hash(ModelCatalog(tmp_path, load=load_fake).get("digits", "1")) != model_hash(model)


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ({}, {Section.network: bytes(36)}),
        ({}, {Section.network: bytes(28)}),
        ({}, {Section.encoder: bytes(16)}),
        ({}, {Section.encoder: b""}),
        ({}, {Section.pending: b"abc"}),
        ({}, {Section.names: b"digits"}),
        ({}, {Section.names: b"digits\n1\nexact"}),
        ({}, {Section.session: b"\xff"}),
        ({Head.flags: 0b1110}, {}),
        ({Head.flags: 0}, {}),
        ({Head.target: 0}, {}),
    ],
)
def test_a_record_that_does_not_fit_its_model_is_reported(
    model: Model, head: dict[Head, int], parts: dict[Section, bytes]
) -> None:
    record = Packing().pack("abc", made_session(model))
    with pytest.raises(StateMismatch, match=r"does not fit its model|does not name its session"):
        Packing().unpack(read(rewritten(record, head, parts)), model)


def test_a_session_without_a_chunk_is_not_packed(model: Model) -> None:
    begun = Session(model, Known(Progress(), 0.0, 0.0), initial_stream(model))
    with pytest.raises(ValueError, match="no chunk yet"):
        Packing().pack("abc", begun)
