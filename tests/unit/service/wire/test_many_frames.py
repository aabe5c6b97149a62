"""Frames of many sessions: what is packed is unpacked again, and no other bytes are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.columns import (
    CHUNKS,
    HEAD,
    Opened,
    Results,
    pack_chunks,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from hetsyn_client.errors import InputError
from service.wire.many_frames import pack_opened, pack_results, unpack_chunks, unpack_sessions
from tests.support.clients.many import events_content

U32 = st.integers(0, 2**32 - 1)


@given(
    rows=st.lists(
        st.tuples(U32, st.integers(0, 2**63), st.integers(0, 1), U32, st.integers(0, 9)),
        max_size=8,
        unique_by=lambda row: row[0],
    ),
    item_bytes=st.sampled_from([2, 4, 12]),
)
def test_chunks(rows: list[tuple[int, int, int, int, int]], item_bytes: int) -> None:
    columns = [[row[column] for row in rows] for column in range(5)]
    handles, seq, actions, steps, lengths = columns
    content = bytes(range(256))[: item_bytes * sum(lengths)].ljust(item_bytes * sum(lengths), b"x")
    chunks = unpack_chunks(pack_chunks(handles, seq, lengths, content, steps, actions), item_bytes)
    assert [chunks.handle.tolist(), chunks.seq.tolist(), chunks.action.tolist()] == [handles, seq, actions]
    assert [chunks.steps.tolist(), chunks.length.tolist(), bytes(chunks.content)] == [steps, lengths, content]


@given(
    st.lists(st.tuples(U32, st.text("aZ0._~:-", min_size=0, max_size=128)), max_size=8, unique_by=lambda row: row[0])
)
def test_sessions(rows: list[tuple[int, str]]) -> None:
    sessions = unpack_sessions(pack_sessions([handle for handle, _ in rows], [name for _, name in rows]))
    assert list(zip(sessions.handles, sessions.ids, strict=True)) == rows
    assert not sessions.resume
    assert unpack_sessions(pack_sessions([1], ["a"], resume=True)).resume


@given(count=st.integers(0, 5), outputs=st.integers(0, 3), seed=st.integers(0, 99))
def test_results_and_opened_sessions(count: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def column(dtype: Any) -> Any:
        return rng.integers(0, 2**31 - 1, count).astype(dtype)

    more = {row: {"detail": "é"} for row in range(0, count, 2)}
    shares = rng.random((count, outputs)).astype(np.float32)
    types = (np.uint64, np.uint64, *[np.uint32] * 4, np.int32)
    results = Results._make([*(column(dtype) for dtype in types), shares, more])
    opened = Opened._make([*(column(dtype) for dtype in types[:5]), more])
    pairs: list[Any] = [*zip(results, unpack_results(pack_results(results)), strict=True)]
    pairs += zip(opened, unpack_opened(pack_opened(opened)), strict=True)
    for sent, got in pairs:
        assert np.array_equal(sent, got) if isinstance(sent, np.ndarray) else sent == got


GOOD = pack_chunks([1, 2], 0, [1, 0], events_content([3], [4]), 5)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"", "does not begin with HSC1"),
        (b"HSC2" + GOOD[4:], "does not begin with HSC1"),
        (GOOD[:-1], "take 68 bytes, the frame has 67"),
        (GOOD + b"x", "the frame has 69"),
        (HEAD.pack(CHUNKS, 2**32 - 1, 0, 0), "has 4294967295 rows: send at most 4096"),
        (HEAD.pack(CHUNKS, 4096, 2**32 - 1, 0), "of 4294967295 items take"),
        (HEAD.pack(CHUNKS, 2, 1, 7) + GOOD[16:], "12 to 15 of the frame are not 0"),
        (GOOD[:-8] + bytes([1, 0, 0, 0]) + GOOD[-4:], "the lengths of the chunks are 2 together, the head says 1"),
        (pack_chunks([1, 2], 0, [1, 0], bytes(4), 5, [0, 3]), "there is no action 3"),
        (pack_chunks([1, 2], 0, [1, 0], bytes(4), 5, [2, 0]), "that leaves a session has content"),
        (pack_chunks([7, 7], 0, [1, 0], bytes(4), 5), "a handle occurs twice"),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(frame: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        unpack_chunks(frame, 4)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (pack_sessions([1], ["a" * 129]), "an id has 129 characters"),
        (pack_sessions([1], ["é"]), "not ASCII"),
        (pack_sessions([7, 7], ["a", "b"]), "a handle occurs twice"),
        (
            pack_sessions([1], ["a"])[:12] + bytes([2]) + pack_sessions([1], ["a"])[13:],
            "bytes 12 to 15 of the frame say 2",
        ),
        (pack_sessions([1], ["ab"])[:-1], "with 2 bytes of ids take 26 bytes"),
        (pack_sessions([1, 2], ["ab", "c"])[:24] + bytes([1, 0, 0, 0] * 2) + b"abc", "are 2 together, the head says 3"),
    ],
)
def test_other_sessions_are_refused(frame: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        unpack_sessions(frame)


@given(st.binary(max_size=200), st.sampled_from([b"HSC1", b"HSO1", b"HSR1", b"HSP1"]))
def test_no_bytes_raise_anything_else(data: bytes, name: bytes) -> None:
    unpacks: list[Any] = [lambda frame: unpack_chunks(frame, 4), unpack_sessions, unpack_results, unpack_opened]
    for unpack in unpacks:
        with pytest.raises(InputError):
            unpack(name + b"\x01" + data)
