"""A tally that overlooks a violation would let the benchmark pass: it reports each violation, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.long.faults.tally import NAME, ChunkVerdict, ClientSession, Probe, Tally

CHUNKS = 4


def reply(seq: int, session: str = NAME, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "session": session, "seq": seq, "steps": 25, "total_steps": 25 * (seq + 1), "label": "one",
        "probabilities": [0.5 + seq / 100, 0.5 - seq / 100], "end": seq == CHUNKS - 1,
    }  # fmt: skip
    return json.dumps(fields | changes).encode()


def problem(kind: str, expected_seq: int | None = None) -> bytes:
    body: dict[str, Any] = {"type": f"urn:hetsyn:problem:{kind}", "detail": "words"}
    return json.dumps(body if expected_seq is None else body | {"expected_seq": expected_seq}).encode()


def stream(acknowledged: int = 0, sent: int | None = None) -> ClientSession:
    replies = tuple(reply(seq) for seq in range(CHUNKS))
    return ClientSession("a", replies, acknowledged, acknowledged if sent is None else sent)


def send(tally: Tally, one: ClientSession, seq: int, status: int, body: bytes) -> ChunkVerdict:
    one.sent = max(one.sent, seq + 1)
    return tally.chunk(one, seq, status, body)


def test_the_reference_reply_is_one_acknowledgement_however_often_it_comes() -> None:
    tally, one = Tally(), stream()
    for seq in range(CHUNKS):
        assert send(tally, one, seq, 200, reply(seq, "a")) is ChunkVerdict.acknowledged
        assert send(tally, one, seq, 200, reply(seq, "a")) is ChunkVerdict.acknowledged
    assert (tally.acknowledged, one.acknowledged) == (CHUNKS, CHUNKS)
    assert tally.is_clean


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (reply(1, "a", probabilities=[0.51, 0.4899999999999999]), (0, 0, 1)),  # one bit
        (reply(1, "a", label="two"), (0, 0, 1)),
        (reply(1, "b"), (0, 0, 1)),
        (reply(1, "a", total_steps=75), (0, 1, 0)),
        (reply(1, "a", total_steps=25), (1, 0, 0)),
        (b"no JSON", (0, 0, 1)),
        (b"[]", (0, 0, 1)),
    ],
)
def test_another_reply_is_reported(body: bytes, counts: tuple[int, int, int]) -> None:
    tally, one = Tally(), stream(1)
    assert send(tally, one, 1, 200, body) is ChunkVerdict.broken
    assert (tally.lost, tally.twice, tally.wrong) == counts
    assert not tally.is_clean
    assert tally.violations


@pytest.mark.parametrize(
    ("status", "body", "lost"),
    [
        (404, problem("not-found"), 3),
        (409, problem("out-of-order", 1), 2),
        (409, problem("out-of-order", 0), 3),
    ],
)
def test_a_store_that_goes_back_has_lost_chunks(status: int, body: bytes, lost: int) -> None:
    tally, one = Tally(), stream(3)
    assert send(tally, one, 3, status, body) is ChunkVerdict.broken
    assert tally.lost == lost
    # the other of two requests at once says it again, which counts once
    assert send(tally, one, 3, status, body) is ChunkVerdict.broken
    assert (tally.lost, tally.broken) == (lost, 1)


def test_more_applied_than_was_sent_is_reported() -> None:
    tally, one = Tally(), stream(1)
    assert send(tally, one, 1, 409, problem("out-of-order", 3)) is ChunkVerdict.broken
    assert tally.twice == 1
    tally, one = Tally(), stream(1)
    assert send(tally, one, 1, 409, problem("session-ended")) is ChunkVerdict.broken
    assert tally.twice == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(500, "internal"), (409, "conflicting-chunk"), (409, "state-corrupt"), (422, "bad-input")]
)
def test_a_refusal_of_a_right_chunk_is_reported(status: int, kind: str) -> None:
    tally, one = Tally(), stream(1)
    assert send(tally, one, 1, status, problem(kind, 1 if kind == "conflicting-chunk" else None)) is ChunkVerdict.broken
    assert tally.wrong == 1


@pytest.mark.parametrize("probe", [Probe.stale, Probe.early, Probe.conflicting])
def test_one_that_is_applied_is_reported(probe: Probe) -> None:
    tally = Tally()
    assert tally.probe(stream(2, sent=4), probe, 3, 200, reply(3, "a")) is ChunkVerdict.broken
    assert tally.twice == 1


def result(tally: Tally, one: ClientSession, seq: int, **changes: Any) -> bool:
    """Judge the result of a stream for the next chunk."""
    fields = json.loads(reply(one.acknowledged)) | changes
    return tally.result(one, seq, one.acknowledged, fields["label"], fields["probabilities"], fields["total_steps"])


@pytest.mark.parametrize(
    ("seq", "changes", "count"),
    [
        (1, {"total_steps": 75}, "twice"),
        (0, {}, "twice"),
        (2, {}, "lost"),
        (1, {"total_steps": 25}, "lost"),
        (1, {"label": "two"}, "wrong"),
        (1, {"probabilities": [0.51, 0.49000001]}, "wrong"),
    ],
)
def test_any_other_result_of_a_stream_is_counted(seq: int, changes: dict[str, Any], count: str) -> None:
    tally, one = Tally(), stream(acknowledged=1, sent=2)
    assert not result(tally, one, seq, **changes)
    assert {name: getattr(tally, name) for name in ("lost", "twice", "wrong")} == {
        name: int(name == count) for name in ("lost", "twice", "wrong")
    }
    assert one.broken
    assert tally.violations


@pytest.mark.parametrize(("next_seq", "lost", "twice"), [(1, 1, 0), (2, 0, 0), (3, 0, 0), (4, 0, 1)])
def test_where_a_stream_goes_on_shows_what_is_lost_or_applied_twice(next_seq: int, lost: int, twice: int) -> None:
    tally, one = Tally(), stream(acknowledged=2, sent=3)
    assert tally.resumed(one, next_seq) == (not lost and not twice)
    assert (tally.lost, tally.twice) == (lost, twice)
    assert tally.is_clean == (not lost and not twice)
    if tally.is_clean:
        assert (one.acknowledged, tally.skipped) == (next_seq, next_seq - 2)


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (lambda tally: tally.chunk(stream(3), 3, 409, problem("out-of-order", 1)), "409 out-of-order"),
        (lambda tally: tally.chunk(stream(3), 3, 404, problem("not-found")), "404 not-found"),
        (lambda tally: tally.inspected(stream(3), 200, b'{"expected_seq": 1}'), "GET 200"),
        (lambda tally: tally.chunk(stream(3), 3, 200, reply(1, "a")), "the number in the reply"),
    ],
)
def test_a_loss_that_an_answer_tells_is_noticed(judge: Callable[[Tally], ChunkVerdict], told: str) -> None:
    tally = Tally()
    assert judge(tally) is ChunkVerdict.broken
    assert tally.lost == tally.noticed[told] > 0
    assert (tally.is_honest, tally.is_clean) == (True, False)


def test_a_loss_that_no_answer_tells_is_not_honest() -> None:
    """The number is the expected one, and the steps are too few: a session that silently began again."""
    tally, one = Tally(), stream(3)
    assert tally.chunk(one, 3, 200, reply(3, "a", total_steps=25)) is ChunkVerdict.broken
    assert (tally.lost, tally.noticed.total(), tally.is_honest) == (1, 0, False)
