"""What a record may contain: no more than a session of its model can have."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import StateMismatch
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.session.session import LARGEST_COUNT, Session
from service.store.record import AUDIO, RESAMPLER, SPIKES, VALUES, Packing, read
from tests.support.artifact import Takes, write_artifact
from tests.support.fake_graph import LABELS, OUTPUTS, load_fake
from tests.support.made_session import assert_same, made_session
from tests.support.record_parts import Head, Section, rewritten, sections
from tests.support.replies import Reply

TAKES: tuple[Takes, ...] = ("values", "rows", "frames", "spikes")
PACKING = Packing()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, "digits")
    write_artifact(folder, "counts", rule="spike_count")
    write_artifact(folder, "traces", rule="trace", takes_audio=False)
    for takes in TAKES:
        write_artifact(folder, takes, takes=takes)
    return folder


def model_of(folder: Path, name: str) -> Model:
    return ModelCatalog(folder, load=load_fake, default_model=name).get(name)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return model_of(folder, "digits")


@pytest.fixture(scope="module")
def record(model: Model) -> bytes:
    return PACKING.pack("abc", made_session(model))


@pytest.fixture(scope="module")
def spikes_record(model: Model) -> bytes:
    return PACKING.pack("abc", made_session(model, kind="spikes"))


def unpacked(content: bytes, model: Model) -> Session:
    return PACKING.unpack(read(content), model)


@pytest.mark.parametrize(
    ("takes", "kind"),
    [("values", "values"), ("rows", "values"), ("rows", "spikes"), ("frames", "values"), ("frames", "audio")],
)
def test_a_session_of_values_is_packed_and_unpacked(folder: Path, takes: str, kind: str) -> None:
    model = model_of(folder, takes)
    session = made_session(model, kind=kind)
    assert session.open_stream.kind == kind
    assert_same(PACKING.unpack(read(PACKING.pack("abc", session)), model), session)


@pytest.mark.parametrize("flags", [0, AUDIO | VALUES, SPIKES | VALUES, AUDIO | SPIKES | VALUES])
def test_a_session_has_one_kind_of_input(folder: Path, flags: int) -> None:
    model = model_of(folder, "values")
    record = PACKING.pack("abc", made_session(model, kind="values"))
    refuses(rewritten(record, {Head.flags: flags}), model, "exactly one kind of input")


@pytest.mark.parametrize(
    ("takes", "kind", "flags", "sentence"),
    [
        ("values", "values", SPIKES, "takes spikes, which its model does not"),
        ("spikes", "spikes", VALUES, "takes values, which its model does not"),
        ("rows", "values", AUDIO, "takes sound, but"),
        ("rows", "values", AUDIO | RESAMPLER, "sample rates are not those of its model"),
        ("rows", "values", VALUES | RESAMPLER, "sample rates are not those of its model"),
        ("frames", "audio", VALUES | RESAMPLER, "takes values, but has sound that waits"),
    ],
)
def test_a_kind_that_the_model_does_not_take_is_refused(
    folder: Path, takes: str, kind: str, flags: int, sentence: str
) -> None:
    model = model_of(folder, takes)
    record = PACKING.pack("abc", made_session(model, kind=kind))
    refuses(rewritten(record, {Head.flags: flags}), model, sentence)


def test_a_resampler_from_no_rate_is_refused(folder: Path) -> None:
    model = model_of(folder, "rows")
    record = PACKING.pack("abc", made_session(model, kind="values"))
    head = {Head.flags: AUDIO | RESAMPLER, Head.rate: 8_000, Head.target: 0, Head.received: 1, Head.emitted: 1}
    refuses(rewritten(record, head), model, "sample rates are not those of its model")


def refuses(content: bytes, model: Model, sentence: str) -> None:
    with pytest.raises(StateMismatch, match=sentence):
        unpacked(content, model)


def network(row: Any, steps: int) -> dict[Section, bytes]:
    return {Section.network: np.asarray(row, "<f4").tobytes() + struct.pack("<q", steps)}


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ({"labels": ["x"] * 3}, "other labels"),
        ({"labels": list(LABELS[:2])}, "other labels"),
        ({"label": "<script>"}, "other labels"),
        ({"probabilities": None}, "model's rule"),
        ({"readout": [[1.0] * OUTPUTS] * 3}, "model's rule"),
        ({"probabilities": [5.0, -1.0, 0.0]}, "class probabilities"),
        ({"probabilities": [0.5, 0.5]}, "class probabilities"),
        ({"probabilities": [1e-7, 1e-7, 1e-7]}, "class probabilities"),
        ({"probabilities": [0.9, 0.9, 0.9]}, "class probabilities"),
        ({"probabilities": [1e999, 0.0, 0.0]}, "not valid|class probabilities"),
        ({"steps": -1}, "steps"),
        ({"steps": 2**40}, "steps"),
        ({"session": "abcd"}, "that of its last chunk"),
        ({"seq": 7}, "that of its last chunk"),
        ({"total_steps": 7}, "that of its model"),
    ],
)
def test_a_reply_that_the_model_does_not_give_is_refused(
    model: Model, record: bytes, reply: dict[str, Any], sentence: str
) -> None:
    refuses(rewritten(record, **reply), model, sentence)


@pytest.mark.parametrize("digest", [b"", b"d" * 15, b"d" * 17, b"d" * 1_000_000])
def test_a_digest_of_another_length_is_refused(model: Model, record: bytes, digest: bytes) -> None:
    refuses(rewritten(record, parts={Section.digest: digest}), model, "a digest has 16")


@pytest.mark.parametrize("name", ["", "a\0\nb", "a b", "a" * 129])
def test_an_id_that_is_none_is_refused(record: bytes, name: str) -> None:
    with pytest.raises(StateMismatch, match=r"id is not one|names are too long"):
        read(rewritten(record, parts={Section.session: name.encode()}))


def test_names_that_are_too_long_are_refused(record: bytes) -> None:
    with pytest.raises(StateMismatch, match="names are too long"):
        read(rewritten(record, parts={Section.names: b"x" * 1_000}))


@pytest.mark.parametrize("value", [1e30, -1e30, 3e38, np.inf, np.nan])
def test_a_number_out_of_bounds_is_refused(model: Model, record: bytes, spikes_record: bytes, value: float) -> None:
    row = np.frombuffer(sections(spikes_record)[Section.network][:-8], "<f4").copy()
    row[0] = value
    refuses(rewritten(spikes_record, parts=network(row, 20)), model, "not finite, or not below 1e[+]30")
    refuses(rewritten(record, parts={Section.encoder: struct.pack("<d", value)}), model, "loudness .* not finite")


@pytest.mark.parametrize(("section", "rate_hz"), [(Section.waiting, 16_000), (Section.pending, 8_000)])
@pytest.mark.parametrize("value", [101.0, -1e29, np.inf, np.nan])
def test_a_sample_that_no_sound_has_is_refused(model: Model, section: Section, rate_hz: int, value: float) -> None:
    record = PACKING.pack("abc", made_session(model, rate_hz=rate_hz))
    samples = np.frombuffer(sections(record)[section], "<f4").copy()
    samples[-1:] = value
    assert len(samples)
    refuses(rewritten(record, parts={section: samples.tobytes()}), model, "samples are not finite, or above 100")


@pytest.mark.parametrize("score", [(-5, 12, 11), (18, 18, 18), (0, 0, 0), (18.5, 0, 0)])
def test_a_score_that_no_steps_lead_to_is_refused(model: Model, spikes_record: bytes, score: Any) -> None:
    assert unpacked(rewritten(spikes_record, parts=network([0, 0, 0, 6, 6, 6], 20)), model)
    refuses(rewritten(spikes_record, parts=network([0, 0, 0, *score], 20)), model, "led to its score")


def test_a_count_of_spikes_is_at_most_that_of_the_steps(folder: Path) -> None:
    model = model_of(folder, "counts")
    record = PACKING.pack("abc", made_session(model, kind="spikes"))
    assert unpacked(rewritten(record, parts=network([0, 0, 0, 18, 0, 3], 20)), model)
    for score in ((19, 0, 0), (-1, 0, 0)):
        refuses(rewritten(record, parts=network([0, 0, 0, *score], 20)), model, "led to its score")


def test_the_network_has_done_the_session_s_steps(model: Model, spikes_record: bytes) -> None:
    row = np.frombuffer(sections(spikes_record)[Section.network][:-8], "<f4")
    refuses(rewritten(spikes_record, parts=network(row, 0)), model, "has done 0 steps, its session 20")


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 191_999])
@pytest.mark.parametrize("chunks", [1, 3])
def test_what_waits_in_a_resampler_follows_from_what_it_received(model: Model, rate_hz: int, chunks: int) -> None:
    session = made_session(model, rate_hz=rate_hz, samples=1234, chunks=chunks)
    record = PACKING.pack("abc", session)
    assert_same(unpacked(record, model), session)
    waiting = sections(record)[Section.waiting]
    received = session.open_stream.resampler.received  # type: ignore[union-attr]
    for other in (
        rewritten(record, {Head.received: received + 1}),
        rewritten(record, {Head.received: LARGEST_COUNT}),
        rewritten(record, {Head.emitted: 2**40}),
        rewritten(record, {Head.rate: 8_001}),
        rewritten(record, parts={Section.waiting: waiting + bytes(4)}),
        rewritten(record, parts={Section.waiting: waiting + bytes(4 * 4 * rate_hz)}),
        rewritten(record, parts={Section.pending: bytes(4 * 80)}),
        rewritten(record, parts={Section.pending: sections(record)[Section.pending] + bytes(4)}),
    ):
        refuses(other, model, "waiting sound does not fit|progress is not possible|samples are cut off")


@pytest.fixture(scope="module")
def trace_record(folder: Path) -> bytes:
    model = model_of(folder, "traces")
    session = made_session(model, kind="spikes")
    last = session.known.progress.last
    assert last is not None
    reply = Reply.from_json(last.reply)
    reply.labels, reply.label, reply.probabilities = (), None, None
    reply.readout = ((0.5,) * OUTPUTS,) * reply.steps
    progress = session.known.progress._replace(last=last._replace(reply=reply.to_json()))
    return PACKING.pack("abc", session._replace(known=session.known._replace(progress=progress)))


def test_a_readout_has_the_size_of_its_steps(folder: Path, trace_record: bytes) -> None:
    model = model_of(folder, "traces")
    assert unpacked(trace_record, model)
    row = [0.5] * OUTPUTS
    steps = json.loads(sections(trace_record)[Section.reply])["steps"]
    rows = [row] * (steps - 1)
    for readout, sentence in (
        (None, "not valid"),
        (rows, "another size"),
        ([*rows, row, row], "another size"),
        ([*rows, row[:2]], "another size"),
        ([*rows, [0.5, 1e30, 0.5]], "not below"),
        ([*rows, [0.5, 1e999, 0.5]], "not valid|not below"),
        ([[""] * OUTPUTS] * steps, "not valid"),
        ([[]] * 2_000, "bytes|another size"),
    ):
        refuses(rewritten(trace_record, readout=readout), model, sentence)
