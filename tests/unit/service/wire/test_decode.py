from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.carried_frame import pack_frame
from hetsyn_client.events import MEDIA_TYPE, pack_events
from hetsyn_client.values import content_type, pack_values
from service.api.infer import MAX_JSON_BYTES
from service.errors import HetsynError, InputError
from service.wire.chunk import AudioChunk, SpikeChunk, ValuesChunk
from service.wire.columns import decoded_together
from service.wire.decode import decode_json, decode_query, decode_raw, request_of_events
from service.wire.schema import Parameters
from tests.support.data.signals import sound, spikes
from tests.support.data.wav import wav
from tests.support.hostile.json_bombs import DECODED, REFUSED

EVENTS = {"kind": "events", "steps": 3, "times": [0, 2], "units": [1, 1]}
VALUES = {"kind": "values", "values": [[0.1, -2, 3e38], [1, 0.0, -1e-45]]}
AUDIO = {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": 8000, "data": "AAABAA=="}


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_everything_may_be_left_out_but_the_input() -> None:
    request = decode_json(body(input=EVENTS))
    assert request.envelope == Parameters()
    assert not request.envelope.end


def test_the_three_kinds_are_decoded() -> None:
    audio = decode_json(body(input=AUDIO)).chunk
    events = decode_json(body(input=EVENTS)).chunk
    dense = decode_json(body(input={"kind": "dense", "spikes": [[0, 1], [0.0, 0], [False or 0, 1.0]]})).chunk
    assert isinstance(audio, AudioChunk)
    assert audio.samples.tolist() == [0, 1 / 32_768]
    assert isinstance(events, SpikeChunk)
    assert isinstance(dense, SpikeChunk)
    assert (dense.step.tolist(), dense.unit.tolist()) == (events.step.tolist(), events.unit.tolist())
    assert (events.channels, dense.channels) == (None, 2)


def test_every_encoding_of_the_same_chunk_has_the_same_digest() -> None:
    pcm = sound(400)
    in_json = {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": 16_000}
    in_json["data"] = base64.b64encode(pcm.tobytes()).decode()
    digests = {
        decode_json(body(input=in_json)).digest,
        decode_raw("audio/wav", [], wav(pcm.tobytes(), 16_000)).digest,
        decode_raw("audio/pcm;encoding=pcm_s16le;rate=16000", [], pcm.tobytes()).digest,
        decode_raw("Audio/L16; Rate=16000; Endianness=big-endian", [], pcm.astype(">i2").tobytes()).digest,
        decode_raw('audio/l16;rate="16000";channels=1;endianness=little-endian', [], pcm.tobytes()).digest,
    }
    assert len(digests) == 1
    assert decode_raw(MEDIA_TYPE, [], pack_events(3, [0, 2], [1, 1])).digest == decode_json(body(input=EVENTS)).digest


def test_values_are_float32_in_either_encoding() -> None:
    in_json = decode_json(body(input=VALUES))
    packed, kind = pack_values(np.array(VALUES["values"], np.float32))
    assert kind == "application/vnd.hetsyn.values;channels=3"
    in_bytes = decode_raw(kind, [], packed)
    in_frame = decode_raw("application/vnd.hetsyn.carried", [], pack_frame(b"odd", kind, packed))
    for request in (in_json, in_bytes, in_frame):
        assert isinstance(request.chunk, ValuesChunk)
        assert request.chunk.values.dtype == np.float32
        assert request.chunk.values.flags.aligned
        np.testing.assert_array_equal(request.chunk.values, np.array(VALUES["values"], np.float32))
        assert request.digest == in_json.digest
    others = [[[0.1, -2], [3e38, 1], [0.0, -1e-45]], [[0.1, -2, 3e38], [1, 0.0, 0]]]
    for other in others:  # another shape, or another number
        assert decode_json(body(input={"kind": "values", "values": other})).digest != in_json.digest


@given(
    rows=st.integers(1, 4).flatmap(
        lambda channels: st.lists(
            st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=channels, max_size=channels),
            min_size=1,
            max_size=6,
        )
    ),
)
def test_equal_values_have_one_digest_in_every_encoding(rows: list[list[float]]) -> None:
    packed, kind = pack_values(rows)
    in_json = decode_json(body(input={"kind": "values", "values": rows}))
    in_bytes = decode_raw(kind, [], packed)
    assert in_json.digest == in_bytes.digest
    assert isinstance(in_json.chunk, ValuesChunk)
    assert in_json.chunk.values.tobytes() == np.array(rows, np.float32).tobytes()


@pytest.mark.parametrize(
    ("kind", "content", "sentence"),
    [
        ("", bytes(8), "the content type has no channels: send 'application/vnd.hetsyn.values;channels=3'"),
        (";channels=x", bytes(8), "channels='x' is no number of channels"),
        (";channels=0", bytes(8), "channels='0' is no number of channels"),
        (";channels=1048577", bytes(8), "channels='1048577' is no number of channels"),
        (";channels=+2", bytes(8), "is no number of channels"),
        (";rate=8;channels=2", bytes(8), "has no parameter 'rate': it takes channels"),
        (";channels=2", bytes(12), "12 bytes are not a whole number of rows of 2 float32: send whole rows"),
        (";channels=2", bytes(7), "7 bytes are not a whole number of rows"),
        (";channels=2", np.array([0, 1, 2, np.nan], "<f4").tobytes(), r"values\[1\]\[1\] is nan: send finite numbers"),
        (";channels=2", np.array([0, -np.inf], "<f4").tobytes(), r"values\[0\]\[1\] is -inf: send finite numbers"),
    ],
)
def test_packed_values_that_are_wrong(kind: str, content: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_raw(f"application/vnd.hetsyn.values{kind}", [], content)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([[1, 2], [1]], r"values\[1\] has 1 values, but values\[0\] has 2: send one for each channel"),
        ([[], []], r"values\[0\] is empty: send one value for each channel$"),
        ([[1], []], r"values\[1\] has 0 values"),
        ([1, 2], r"input\.values\[0\]: send an array"),
        ([[1, "2"]], r"input\.values\[0\]\[1\]: send a number"),
        ([[1, 0], [True, 2]], r"input\.values\[1\]\[0\]: send a number"),
        ([[1, None]], r"input\.values\[0\]\[1\]: send a number"),
        ([[1, float("nan")]], r"input\.values\[0\]\[1\]: send a number"),
        ([[1, float("-inf")]], r"input\.values\[0\]\[1\]: send a number"),
        ([[0, 1], [3.5e38, 1]], r"values\[1\]\[0\] is 3\.5e\+38: send finite numbers that float32 can hold"),
        ([[0, 10**400]], r"values.*: send"),
    ],
)
def test_rows_of_values_that_are_wrong(values: list[Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_json(body(input={"kind": "values", "values": values}))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_and_costs_little(name: str) -> None:
    make, sentence = REFUSED[name]
    content = make(MAX_JSON_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(HetsynError) as caught:
            decode_json(content)
        assert tracemalloc.get_traced_memory()[1] < 64 * MAX_JSON_BYTES
    finally:
        tracemalloc.stop()
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", DECODED)
def test_the_longest_json_is_decoded_in_little_memory(name: str) -> None:
    content = DECODED[name](MAX_JSON_BYTES)
    tracemalloc.start()
    try:
        assert decode_json(content).chunk is not None
        assert tracemalloc.get_traced_memory()[1] < 64 * MAX_JSON_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "empty",
    [
        {},
        {"input": None},
        {"input": {**EVENTS, "steps": 0, "times": [], "units": []}},
        {"input": {**AUDIO, "data": ""}},
        {"input": {"kind": "dense", "spikes": []}},
        {"input": {"kind": "values", "values": []}},
    ],
)
def test_only_an_end_may_be_empty(empty: dict[str, Any]) -> None:
    assert decode_json(body(**empty, end=True)).chunk is None
    with pytest.raises(InputError, match="the chunk is empty: send at least one sample or step, or end"):
        decode_json(body(**empty))


@pytest.mark.parametrize(
    "content_type", ["audio/wav", "audio/pcm;encoding=pcm_s16le;rate=8000", MEDIA_TYPE, content_type(3)]
)
def test_only_an_end_may_have_an_empty_body(content_type: str) -> None:
    assert decode_raw(content_type, [("end", "true")], b"").chunk is None
    with pytest.raises(InputError, match="the chunk is empty"):
        decode_raw(content_type, [], b"")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe{}", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body: send one JSON object"),
        (body(input={}), "input.kind is missing: send one of audio, events, dense"),
        (body(inputs=EVENTS), "inputs is not a field"),
        (body(input={**EVENTS, "label": "seven"}), "input.label is not a field"),
        (body(input={"kind": "dense", "spikes": [[1]], "bool": 1}), "input.bool is not a field"),
        (body(input={"kind": "dense", "spikes": [[1]], "float": 1}), "input.float is not a field"),
        (body(**{"x" * 10_000: 1}), r"xxx\.\.\. is not a field"),
        (body(input={"kind": "events", "steps": 3, "times": []}), "input.units is missing"),
        (body(input={**EVENTS, "steps": 2.5}), "input.steps: send a whole number"),
        (body(input={**EVENTS, "steps": -1}), "input.steps: send a number of at least 0"),
        (body(input={**EVENTS, "times": [0, "2"]}), r"input.times\[1\]: send a number"),
        (body(input={**EVENTS, "times": [0, True]}), r"input.times\[1\]: send a number"),
        (body(input={**EVENTS, "times": [0, 0.5]}), r"times\[1\] is 0.5, which is not a whole number"),
        (body(input={**EVENTS, "times": [0, float("nan")]}), r"times\[1\] is nan, which is not a whole number"),
        (body(input={**EVENTS, "units": [0, 10**400]}), r"units\[1\] is inf, which is not a whole number"),
        (body(input={**EVENTS, "steps": True}), "input.steps: send a whole number"),
        (body(input={**EVENTS, "times": [0, 3]}), r"times\[1\] is 3, outside"),
        (body(input={"kind": "dense", "spikes": [[0, float("nan")]]}), r"spikes\[0\]\[1\] is nan"),
        (body(input={"kind": "dense", "spikes": [[0, None]]}), r"input.spikes\[0\]\[1\]: .*number"),
        (body(input={"kind": "dense", "spikes": [["1", 0]]}), r"input.spikes\[0\]\[0\]: send a number$"),
        (body(input={"kind": "dense", "spikes": [["1", None]]}), r"input.spikes\[0\]\[0\]: send a number$"),
        (body(input={"kind": "dense", "spikes": 3}), "input.spikes: .*array"),
        (body(input={**AUDIO, "data": "AAAB"}), "3 bytes are not a whole number"),
        (body(input={**AUDIO, "data": "AAABA"}), "base64"),
        (body(input={**AUDIO, "sample_rate": 0}), "sample rate 0 Hz"),
        (body(input={**AUDIO, "sample_rate": "8000"}), "input.sample_rate: send a whole number"),
        (body(input={**AUDIO, "encoding": "opus"}), "input.encoding: .*'pcm_s16le'"),
        (body(input=EVENTS, session=""), "session is not an id: send 1 to 128 characters"),
        (body(input=EVENTS, session="a b"), "session is not an id"),
        (body(input=EVENTS, session="x" * 129), "session is not an id"),
        (body(input=EVENTS, session=5), "session is not an id"),
        (body(input=EVENTS, seq=-1), "seq: "),
        (body(input=EVENTS, seq=2**60), "seq: "),
        (body(input=EVENTS, seq=True), "seq: "),
        (body(input=EVENTS, end="yes"), "end: "),
        (body(input=EVENTS, form="bank"), "form is not a parameter any more: leave it out; a model has one form"),
        (body(input=EVENTS, model=""), "model: send at least 1 char"),
        (body(input=EVENTS, model="x" * 65), "model: send at most 64 char"),
        (body(input=EVENTS, seq=1.5), "seq: send a whole number"),
        (body(input=EVENTS, model=3), "model: send a string"),
    ],
)
def test_bad_json_is_refused_with_its_position(content: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_json(content)


def test_numbers_may_be_written_with_a_point_and_bits_as_booleans() -> None:
    with_points = {"kind": "events", "steps": 3.0, "times": [0.0, 2], "units": [1, 1.0]}
    request = decode_json(body(input=with_points, seq=4.0))
    assert request.envelope.seq == 4
    assert request.digest == decode_json(body(input=EVENTS, seq=4)).digest
    booleans = {"kind": "dense", "spikes": [[False, True], [False, 0], [0.0, True]]}
    assert decode_json(body(input=booleans)).digest == request.digest
    assert decode_json(body(input={**AUDIO, "sample_rate": 8000.0})).digest == decode_json(body(input=AUDIO)).digest


def test_null_is_the_default() -> None:
    nothing = dict.fromkeys(("session", "model", "version", "seq", "end"))
    assert decode_json(body(**nothing, input=EVENTS)).envelope == Parameters()
    assert decode_json(body(end=True, input=None)).chunk is None


@pytest.mark.parametrize("wrong", [[], {}, 1.5, -1], ids=str)
@pytest.mark.parametrize("field", ["session", "model", "version", "seq", "end", "input"])
def test_messages_say_what_to_send_in_our_words(field: str, wrong: Any) -> None:
    with pytest.raises(InputError, match="send ") as caught:
        decode_json(body(**{"input": EVENTS, field: wrong}))
    assert "Input should" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ([("sesion", "a")], "sesion is not a query parameter of this request: it takes session, model, "),
        ([("seq", "one")], "seq: "),
        ([("seq", "1"), ("seq", "2")], "'seq' occurs twice"),
        ([("seq", "1_0")], "seq: send a whole number"),
        ([("seq", " 0")], "seq: send a whole number"),
        ([("seq", "+0")], "seq: send a whole number"),
        ([("seq", "-0")], "seq: send a whole number"),
        ([("seq", "0.0")], "seq: send a whole number"),
        ([("seq", "\u0660")], "seq: send a whole number"),
        ([("seq", "")], "seq: send a whole number"),
        ([("seq", str(2**53 + 1))], "seq: send a number of at most"),
        ([("end", "maybe")], "end: "),
        ([("session", "ä")], "session is not an id"),
    ],
)
def test_a_bad_query_is_refused(query: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_query(query)


@pytest.mark.parametrize("end", ["false", "true"])
def test_events_that_are_decoded_with_those_of_others_make_the_same_request(end: str) -> None:
    query = [("session", "a"), ("seq", "1"), ("end", end)]
    own, other = (pack_events(10, *spikes(10, seed)) for seed in range(2))
    decoded = decoded_together([other, own])[1]
    assert decoded is not None
    together, alone = request_of_events(query, *decoded), decode_raw(MEDIA_TYPE, query, own)
    assert (together.envelope, together.digest) == (alone.envelope, alone.digest)
    assert isinstance(together.chunk, SpikeChunk)
    assert isinstance(alone.chunk, SpikeChunk)
    for name in ("steps", "step", "unit"):
        assert np.array_equal(getattr(together.chunk, name), getattr(alone.chunk, name))
