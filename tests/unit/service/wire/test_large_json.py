"""A large body is decoded as a small one is, and what is wrong with it costs no more than what is right."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import HetsynError, InputError, TooLarge
from service.settings import Limits
from service.wire import decode, large_json
from service.wire.chunk import ValuesChunk
from service.wire.decode import decode_json
from tests.support.json_bombs import DECODED, REFUSED

LENGTH = 1024 * 1024


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_and_costs_little(name: str) -> None:
    make, sentence = REFUSED[name]
    error, peak_bytes = refusal(make(LENGTH))
    assert sentence in str(error)
    assert len(str(error)) < 300
    assert peak_bytes < 10 * LENGTH


def refusal(body: bytes) -> tuple[HetsynError, int]:
    """The error of a body, and the memory that Python took for it."""
    tracemalloc.start()
    try:
        with pytest.raises(HetsynError) as caught:
            decode_json(body, Limits.max_chunk_steps)
        return caught.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", DECODED)
def test_large_bodies_are_decoded_as_whole_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = DECODED[name](LENGTH)
    pieces = decode_json(body)
    monkeypatch.setattr(decode, "PIECE_BYTES", 2 * LENGTH)
    assert pieces.digest == decode_json(body).digest


def test_large_rows_of_values_are_decoded_as_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    body = json.dumps({"input": {"kind": "values", "values": values.tolist()}}).encode()
    assert len(body) > LENGTH
    pieces = decode_json(body)
    assert isinstance(pieces.chunk, ValuesChunk)
    np.testing.assert_array_equal(pieces.chunk.values, values)
    monkeypatch.setattr(decode, "PIECE_BYTES", 4 * LENGTH)
    assert pieces.digest == decode_json(body).digest


def test_the_index_of_a_late_string_is_named() -> None:
    for body, sentence in {
        b'"events","steps":9,"times":[%b"1"' % (b"0," * 50_000): r"input\.times\[50000\]: send a number",
        b'"dense","spikes":[%b[0,"1"' % (b"[0,1]," * 50_000): r"input\.spikes\[50000\]\[1\]: send a number",
    }.items():
        with pytest.raises(InputError, match=sentence):
            decode_json(b'{"input":{"kind":%b%b' % (body, b',"1"' * large_json.MOST_VALUES))


numbers: st.SearchStrategy[Any] = st.one_of(
    st.integers(-1, 9), st.sampled_from([True, None, 0.5, 2.0, "1", [], {}, float("nan"), 10**30])
)
good = st.integers(0, 3)
arrays = st.lists(st.one_of(good, good, good, good, numbers), max_size=12)
rows = st.lists(st.one_of(st.lists(st.integers(0, 1), min_size=3, max_size=3), arrays), max_size=6)
reals = st.one_of(st.integers(-9, 9), st.floats(width=32), st.sampled_from([1e39, True, None]))
real_rows = st.lists(st.lists(reals, min_size=2, max_size=2), max_size=6)
inputs = st.one_of(
    st.none(),
    st.fixed_dictionaries({"kind": st.just("events"), "steps": st.integers(0, 9), "times": arrays, "units": arrays}),
    st.lists(st.tuples(good, good), max_size=30).map(
        lambda pairs: {"kind": "events", "steps": 4, "times": [t for t, _ in pairs], "units": [i for _, i in pairs]}
    ),
    st.fixed_dictionaries({"kind": st.just("dense"), "spikes": st.one_of(rows, arrays)}),
    st.fixed_dictionaries({"kind": st.just("values"), "values": st.one_of(real_rows, rows, arrays)}),
    st.fixed_dictionaries({"kind": st.sampled_from(["dense", "values", "audio", "x"]), "times": arrays}),
)
bodies = st.fixed_dictionaries(
    {"end": st.just(True), "input": inputs},
    optional={"session": st.sampled_from(["a", '"times": [1]', "[1, 2]", "x"]), "spikes": rows, "seq": st.just(1)},
)


@settings(deadline=None, max_examples=400)
@given(body=bodies, indent=st.sampled_from([None, 0, 2]), cut=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_pieces_make_no_difference(body: dict[str, Any], indent: int | None, cut: int, seed: int) -> None:
    text = json.dumps(body, indent=indent).encode()
    rng = random.Random(seed)
    texts = [text]
    for _ in range(4):  # and what is nearly JSON
        at = rng.randrange(len(text) + 1)
        texts.append(text[:at] + rng.choice([b",", b"]", b"[", b" ", b'"', b"1", b"{", b"\\"]) + text[at:])
        texts.append(text[:at] + text[at + 1 :])
    for each in texts:
        assert outcome(each, cut) == outcome(each, None), each


def outcome(body: bytes, piece_bytes: int | None) -> object:
    """What is decoded; None if it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        if piece_bytes is not None:
            patch.setattr(decode, "PIECE_BYTES", 0)
            patch.setattr(large_json, "PIECE_BYTES", piece_bytes)
        try:
            request = decode_json(body)
        except HetsynError:
            return None
        return request.digest, request.envelope


def test_an_array_occurs_once() -> None:
    body = b'{"end": true, "input": {"kind": "dense", "spikes": [[1]], "spikes": [[0]]}}'
    with pytest.raises(InputError, match=r"input\.spikes occurs twice: send it once"):
        decode_json(body + b" " * large_json.PIECE_BYTES)


def test_what_only_an_earlier_key_has_is_not_left_unread() -> None:
    dense, events = b'"input":{"kind":"dense","spikes":[x]}', b'"input":{"kind":"events","steps":9,"units":[3],'
    for body in (
        dense + b',"input":null',
        events + b'"times":[1]},' + dense.replace(b"x", b"[1]") + b',"input":{"kind":"audio"}',
        dense + b"," + events + b'"times":[1]}',
        events + b'"times":[1],"\\u0074imes":[2]}',
    ):
        with pytest.raises(HetsynError):
            decode_json(b'{"end":true,' + body + b"}" + b" " * large_json.PIECE_BYTES)


def test_positions_are_those_in_the_whole_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "PIECE_BYTES", 0)
    monkeypatch.setattr(large_json, "PIECE_BYTES", 8)
    for text, sentence in {
        '"events", "steps": 9, "times": [0, 1, 2, 3, 4, 0.5], "units": [0, 0, 0, 0, 0, 0]': r"times\[5\] is 0.5",
        '"events", "steps": 9, "times": [0, 1, 2, 3, 4, false], "units": []': r"input\.times\[5\]: send a number",
        '"events", "steps": 9, "times": [0, 1, 2, 3, 4, x], "units": []': r"\(expected value after input\.times\[",
        '"events", "steps": 9, "times": [0, 1, 2, 3, 4,], "units": []': "trailing comma after",
        '"events", "steps": 9, "times": [10000000,], "units": []': r"input\.times\[1\] is empty",
        '"dense", "spikes": [[0, 1], [0, 1], [0, 1], [0, 2]]': r"spikes\[3\]\[1\] is 2",
        '"dense", "spikes": [[0, 1], [0, 1], [0, 1], [0]]': r"spikes\[3\] has 1 values",
        '"dense", "spikes": [[0, 1], [0, 1], [0, 1], 5]': r"input\.spikes\[3\]: send an array",
        '"dense", "spikes": [[0, 1], [0, 1], [0, 1],]': r"input\.spikes\[3\] is empty",
        '"values", "values": [[0, 1.5], [0, 1], [-2, 1], [0, 1e40]]': r"values\[3\]\[1\] is 1e\+40",
        '"values", "values": [[0, 1.5], [0, 1], [-2, 1], [0]]': r"values\[3\] has 1 values, but values\[0\] has 2",
        '"values", "values": [[0, 1.5], [0, 1], [-2, 1], 5]': r"input\.values\[3\]: send an array",
        '"values", "values": [[0, 1.5], [0, 1], [-2, 1],]': r"input\.values\[3\] is empty",
        '"values", "values": [[0, 1.5], [0, 1], [-2, NaN]]': r"input\.values\[2\]\[1\]: send a number",
        '"values", "values": [[0, 1.5], [0, 1], [-2, true]]': r"input\.values\[2\]\[1\]: send a number",
        '"dense", "spikes": [[0, 1], [0, 1], [0, null]]': r"input\.spikes\[2\]\[1\]: send a number",
    }.items():
        with pytest.raises(InputError, match=sentence):
            decode_json(b'{"input": {"kind": %b}}' % text.encode())


@pytest.mark.parametrize(("kind", "name"), [("dense", "spikes"), ("values", "values")])
def test_rows_are_counted_before_they_are_decoded(kind: str, name: str) -> None:
    content = b'{"input":{"kind":"%s","%s":[%s]}}' % (kind.encode(), name.encode(), b",".join([b"[1]"] * 40_000))
    assert decode_json(content, 40_000).chunk is not None
    with pytest.raises(TooLarge, match=rf"input\.{name} has 40000 rows, and at most 39999 are taken: cut it into"):
        decode_json(content, 39_999)
