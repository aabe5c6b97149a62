"""``WS /streams``: what is refused, how, and that nothing else comes to harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from hetsyn_client.columns import APPLIED, CHUNKS, HEAD, SESSIONS
from hetsyn_client.events import pack_events
from tests.support.artifact import write_artifact
from tests.support.gate import Gate
from tests.support.live import BINARY, TEXT, by_length, handshake, opened, sent
from tests.support.live import EVENTS as EVENTS_OF_ONE
from tests.support.many import EVENTS, LINE, hub, silence
from tests.support.socket_server import listening, response

GOOD = silence([0, 1], 1)


@pytest.mark.parametrize(
    ("frame", "problem", "code"),
    [
        (sent(BINARY, b""), "bad-input", 4422),
        (sent(BINARY, b"HSE1" + GOOD[4:]), "bad-input", 4422),
        (sent(BINARY, GOOD[:-1]), "bad-input", 4422),
        (sent(BINARY, GOOD + b"x"), "bad-input", 4422),
        (sent(BINARY, silence([0, 0], 1)), "bad-input", 4422),
        (sent(BINARY, silence([0, 1], 1, 5, [0, 9])), "bad-input", 4422),
        (sent(BINARY, HEAD.pack(CHUNKS, 2**32 - 1, 0, 0)), "bad-input", 4422),
        (sent(BINARY, HEAD.pack(CHUNKS, 4096, 2**32 - 1, 0)), "bad-input", 4422),
        (sent(BINARY, HEAD.pack(SESSIONS, 4096, 2**32 - 1, 0)), "bad-input", 4422),
        (sent(BINARY, bytes(70_000)), "too-large", 1009),
        (sent(TEXT, b"\xff"), "bad-frame", 1007),
        (b"\xf2\x80" + bytes(4), "bad-frame", 1002),
    ],
    ids=by_length,
)
async def test_a_wrong_frame_ends_the_connection_and_damages_no_session(
    models: Path, gate: Gate, frame: bytes, problem: str, code: int
) -> None:
    async with listening(models, gate, max_body_bytes=60_000) as server:
        many, _ = await hub(server)
        await many.opens("a", "b")
        await many.chunks(silence([0, 1], 0))
        await many.send(frame, sent(BINARY, GOOD))
        assert await many.refused() == (problem, code)
        second, _ = await hub(server)
        assert (await second.opens("a", "b")).next_seq.tolist() == [1, 1]
        assert (await second.chunks(GOOD)).total_steps.tolist() == [10, 10]


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("encoding=events&session=a", 422, "sessions are opened by frames"),
        ("encoding=events&interim=false", 422, "'interim' is not one of /streams"),
        ("encoding=mp3", 415, "encoding 'mp3' is not taken by /streams: send one of events, pcm_s16le, values"),
        ("encoding=mulaw&sample_rate=8000", 415, "encoding 'mulaw' is not taken by /streams"),
        ("encoding=pcm_f32le&sample_rate=8000", 415, "encoding 'pcm_f32le' is not taken by /streams"),
        ("encoding=flac", 415, "encoding 'flac' is not taken by /streams"),
        ("encoding=pcm_s16le", 422, "needs its sample rate"),
        ("encoding=events&model=none", 404, "no model 'none'"),
        ("encoding=values&channels=2", 415, "not values"),
    ],
)
async def test_what_is_wrong_from_the_beginning_is_refused_as_http(
    models: Path, gate: Gate, query: str, status: int, sentence: str
) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(handshake(query, line=LINE))
        got, body = await response(reader)
        assert (got, sentence in body.decode()) == (status, True), body


async def test_rows_that_cannot_be_opened_leave_the_others_alone(models: Path, gate: Gate) -> None:
    write_artifact(models, version="2")
    async with listening(models, gate) as server:
        many, _ = await hub(server, EVENTS)
        one, _ = await opened(server, f"{EVENTS_OF_ONE}&session=older&version=1")
        await one.send(sent(BINARY, pack_events(5, [], [])))
        await one.frame()
        answer = await many.opens("a", "older", "no id", "")
        assert answer.status.tolist() == [APPLIED, 409, 422, 422]
        assert [answer.more[row]["problem"] for row in (1, 2, 3)] == ["model-mismatch", "bad-input", "bad-input"]
        assert (await many.opens("b")).status.tolist() == [422]  # the handle has a session
        results = await many.chunks(silence([0, 1, 2], 0))
        assert results.status.tolist() == [APPLIED, 404, 404]
        await one.send(sent(BINARY, pack_events(5, [], [])))  # was not taken
        assert (await one.frame())["seq"] == 1
