"""What a client of many sessions keeps until it is acknowledged, against a server that may refuse for the moment."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.columns import APPLIED, CHUNK, END, Results
from hetsyn_client.protocol.pending import Content, Pending
from service.wire.many_frames import Chunks, unpack_chunks


class FakeServer:
    """Applies chunks in order; refuses some rows for the moment, as ``refusals`` says."""

    def __init__(self, refusals: list[bool]) -> None:
        self.expected: dict[int, int] = {}
        self.applied: list[tuple[int, int]] = []
        self._refusals = list(refusals)

    def answer(self, chunks: Chunks) -> Results:
        status, more = [], {}
        for row, (handle, seq) in enumerate(zip(chunks.handle.tolist(), chunks.seq.tolist(), strict=True)):
            expected = self.expected.setdefault(handle, 0)
            if self._refusals and self._refusals.pop(0):
                status.append(503)
                more[row] = {"retryable": True, "retry_after_s": 1.5, "problem": "overloaded"}
            elif seq != expected:
                status.append(409)
                more[row] = {"retryable": False, "problem": "out-of-order", "retry_after_s": None}
            else:
                status.append(APPLIED)
                self.expected[handle] += 1
                self.applied.append((handle, seq))
        zeros: Any = np.zeros(len(status), np.uint64)
        return Results(
            chunks.seq, zeros, chunks.handle, chunks.action, np.array(status), zeros, zeros, zeros[:, None], more
        )


@given(refusals=st.lists(st.booleans(), max_size=12), sent=st.integers(1, 4), in_between=st.booleans())
def test_chunks_refused_for_the_moment_are_sent_again_in_order(
    refusals: list[bool], sent: int, in_between: bool
) -> None:
    server, pending = FakeServer(refusals), Pending()
    for handle in (3, 9):
        pending.add(handle, f"s{handle}", 0)
    frames: list[bytes] = []

    def serve() -> None:
        while frames:
            again, pause_s = pending.take(server.answer(unpack_chunks(frames.pop(0), 2)))
            assert pause_s in (0.0, 1.5)
            frames.extend(pending.repeat(again))

    for _ in range(sent):
        frames.extend(pending.frames([3, 9], CHUNK, [Content(length=1, first=b"ab")] * 2))
        if in_between:
            serve()
    frames.extend(pending.frames([3, 9], END, [Content()] * 2))
    serve()
    for handle in (3, 9):
        assert [seq for of, seq in server.applied if of == handle] == list(range(sent + 1))
        assert handle not in pending
    assert pending.under_way == 0


def test_a_session_pauses_although_the_last_of_its_refusals_names_no_pause() -> None:
    server, pending = FakeServer([True]), Pending()
    pending.add(3, "s3", 0)
    frames = [frame for _ in range(2) for frame in pending.frames([3], CHUNK, [Content(length=1, first=b"ab")])]
    answers = [pending.take(server.answer(unpack_chunks(frame, 2))) for frame in frames]
    assert answers == [([], 0.0), ([3], 1.5)]


def test_a_session_is_over_when_its_end_is_applied_although_a_chunk_before_it_was_refused() -> None:
    """A store may fail after it has made a change: the server then applies the end, on top of the refused chunk."""
    pending = Pending()
    pending.add(3, "s3", 0)
    sent = [*pending.frames([3], CHUNK, [Content(length=1, first=b"ab")]), *pending.frames([3], END, [Content()])]
    assert len(sent) == 2
    zeros: Any = np.zeros(2, np.uint64)
    status, action = np.array([503, APPLIED]), np.array([CHUNK, END])
    more = {0: {"retryable": True, "retry_after_s": 1.5, "problem": "store-unavailable"}}
    seqs: Any = np.arange(2)
    results = Results(seqs, zeros, zeros + 3, action, status, zeros, zeros, zeros[:, None], more)
    assert pending.take(results) == ([], 0.0)
    assert 3 not in pending
    assert pending.under_way == 0
