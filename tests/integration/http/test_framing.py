"""As many answers as requests, each to its own, whatever the headers, the bodies and the pieces in which they arrive.

A body that is read as a request would be a way round a proxy, and would give the proxy's next client a wrong answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.connection import ROUND_BYTES
from service.models.catalog import ModelCatalog
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake
from tests.support.clients.wire import Wire, exchange
from tests.support.product import make_app

SMUGGLED = b"DELETE /sessions/victim HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"
Answer = tuple[int, str | None]


class Request(NamedTuple):
    """A request, and the status of its answer."""

    content: bytes
    status: int


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    with asyncio.Runner() as runner:
        app = runner.run(made(folder))
        app.state.runner = runner
        yield app
        runner.run(app.state.server.close())


async def made(folder: Path) -> FastAPI:
    return make_app(ModelCatalog(folder, load=load_fake), inline_s=10.0)


BODY = json.dumps({"end": True, "input": {"kind": "events", "steps": 5, "times": [], "units": []}}).encode()
KINDS = {  # request line, status
    "live": (b"GET /health/live", 200),
    "options": (b"OPTIONS /health/live", 405),
    "delete": (b"DELETE /sessions/nobody", 404),
    "nowhere": (b"PUT /nowhere", 404),
    "stream": (b"GET /stream?encoding=events", 426),  # no header says which version
    "wrong type": (b"POST /infer?end=true", 415),
    "infer": (b"POST /infer", 200),
}
OFFERS = ["Upgrade: foo", "Upgrade: h2c", "upgrade: websocket", "UPGRADE:", "Upgrade: TLS/1.0, HTTP/2.0"]
CONNECTIONS = ["Connection: upgrade", "Connection: keep-alive, Upgrade", "Connection: Upgrade, HTTP2-Settings"]
OTHERS = ["X-A: 1", "HTTP2-Settings: AAMAAABk", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Cookie: " + "c" * 300]


def chunked(body: bytes, sizes: list[int], extension: bytes, trailers: bytes) -> bytes:
    parts = []
    for size in sizes:
        part, body = body[:size], body[size:]
        parts.append(part)
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in (*parts, body) if part]
    return b"".join(chunks) + b"0%b\r\n%b\r\n" % (extension, trailers)


@st.composite
def requests(draw: st.DrawFn, number: int) -> Request:
    kind = draw(st.sampled_from(sorted(KINDS)))
    line, status = KINDS[kind]
    fields = ["Host: x", f"X-Request-ID: {number}"]
    fields += draw(st.lists(st.sampled_from(OTHERS), max_size=2))
    fields += draw(st.lists(st.sampled_from(OFFERS), max_size=2))
    fields += draw(st.lists(st.sampled_from(CONNECTIONS), max_size=2))
    body = BODY
    if kind != "infer":
        body = draw(st.sampled_from([SMUGGLED, SMUGGLED * 3, b"\r\n\r\n", b"0\r\n\r\n" + SMUGGLED]))
    if kind == "infer":
        fields.append("Content-Type: application/json")
    framing = draw(st.sampled_from(["length", "chunks"] if kind == "infer" else ["length", "chunks", "none"]))
    if framing == "length":
        fields.append(f"Content-Length: {len(body)}")
    elif framing == "chunks":
        fields.append(draw(st.sampled_from(["Transfer-Encoding: chunked", "transfer-encoding: Chunked "])))
        sizes = draw(st.lists(st.integers(1, 80), max_size=3))
        trailers = draw(st.sampled_from([b"", b"X-T: 1\r\n", b"Host: y\r\nUpgrade: foo\r\nConnection: upgrade\r\n"]))
        body = chunked(body, sizes, draw(st.sampled_from([b"", b";a=b"])), trailers)
    else:
        body = b""
    fields = draw(st.permutations(fields))
    head = "\r\n".join((line.decode() + " HTTP/1.1", *fields, "", "")).encode()
    return Request(head + body, status)


def refused(lines: list[str], status: int, body: bytes = SMUGGLED) -> Request:
    return Request("\r\n".join((*lines, "", "")).encode() + body, status)


ENDS = [
    refused(["GET /health/live HTTP/1.1"], 400),
    refused(["GET /health/live HTTP/1.1", "Host: x", "Host: x"], 400),
    refused(["GET /health/live HTTP/2.0", "Host: x"], 505),
    refused(["POST /infer HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked"], 501, b"0\r\n\r\n" + SMUGGLED),
    refused(["POST /infer HTTP/1.1", "Host: x", "Transfer-Encoding: identity, chunked"], 501, b"0\r\n\r\n" + SMUGGLED),
    refused([f"GET /{'x' * 9_000} HTTP/1.1", "Host: x"], 414),
]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[Answer], bool]:
    """Requests of a client, the answers to them, and whether the connection is closed."""
    made = [draw(requests(number)) for number in range(draw(st.integers(1, 4)))]
    answers: list[Answer] = [(request.status, str(number)) for number, request in enumerate(made)]
    contents = [request.content for request in made]
    end = draw(st.sampled_from([None, *ENDS]))
    if end is None:
        return contents, answers, False
    status = end.status
    if draw(st.booleans()):
        head, _, rest = end.content.partition(b"\r\n")
        end = Request(head + b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + rest, status)
    return [*contents, end.content], [*answers, (status, None)], True


def cut(content: bytes, at: list[int]) -> list[bytes]:
    bounds = sorted({0, len(content), *(index % len(content) for index in at)})
    return [content[begin:end] for begin, end in pairwise(bounds)]


def answers_of(content: bytes) -> list[Answer]:
    """Status and request id of each answer; every byte must belong to one."""
    answers: list[Answer] = []
    while content:
        head, found, content = content.partition(b"\r\n\r\n")
        assert found
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields)
        length = int(headers["content-length"])
        assert len(content) >= length
        answers.append((int(line.split()[1]), headers.get("x-request-id")))
        content = content[length:]
    return answers


PIECES = st.lists(st.integers(0, 5_000), max_size=12)
EVERY = st.sampled_from([0, 0, 0, 1, 2, 7])
FEW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
Stream = tuple[list[bytes], list[Answer], bool]


def pieces_of(content: bytes, at: list[int], every: int) -> list[bytes]:
    return cut(content, list(range(0, len(content), every)) if every else at)


@FEW
@given(stream=streams(), at=PIECES, every=EVERY)
def test_each_request_gets_its_answer(app: FastAPI, stream: Stream, at: list[int], every: int) -> None:
    contents, expected, closes = stream
    requests = [pieces_of(content, at, every) for content in contents]
    written, is_closed = app.state.runner.run(exchange(app, requests))
    assert answers_of(written) == expected
    assert is_closed == closes


@FEW
@given(stream=streams(), at=PIECES, every=EVERY)
def test_requests_that_do_not_wait_for_answers_get_the_first_of_them_and_no_others(
    app: FastAPI, stream: Stream, at: list[int], every: int
) -> None:
    contents, expected, closes = stream
    written, is_closed = app.state.runner.run(exchange(app, [pieces_of(b"".join(contents), at, every)]))
    answers = answers_of(written)
    assert answers
    assert answers == expected[: len(answers)]
    assert is_closed == (closes or len(answers) < len(expected))


def test_others_have_their_turns_while_a_body_of_thousands_of_chunks_is_parsed(app: FastAPI) -> None:
    fields = b"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = b"POST /infer HTTP/1.1\r\n" + fields + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"

    async def turns_of_others() -> int:
        wire, turns = Wire(app), 0
        await wire.send(request)
        while wire.connection.is_working:
            await asyncio.sleep(0)
            turns += 1
        await wire.send(KINDS["live"][0] + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        while wire.connection.is_working:
            await asyncio.sleep(0)
        assert [status for status, _ in answers_of(await wire.read())] == [422, 200]
        wire.close()
        return turns

    assert app.state.runner.run(turns_of_others()) > len(request) / ROUND_BYTES


def test_bytes_that_come_before_the_next_round_stay_behind_those_that_came_first(app: FastAPI) -> None:
    """uvloop passes them on if the application that gets a body reads on in the same round."""
    fields = b"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY + b" " * 20_000)
    request = b"POST /infer HTTP/1.1\r\n" + fields + chunks + b"0\r\n\r\n"

    async def answered() -> list[Answer]:
        wire = Wire(app)
        for piece in cut(request, [len(request) // 2]):
            wire.connection.data_received(piece)
        while wire.connection.is_working:
            await asyncio.sleep(0)
        answers = answers_of(await wire.read())
        wire.close()
        return answers

    assert app.state.runner.run(answered()) == [(200, None)]
