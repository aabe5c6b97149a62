"""Requests, their lines of log and their traces."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.observe.logs import JsonFormatter, TextAccessFormatter
from tests.support.artifacts.gate import Gate
from tests.support.clients.json_input import Json, events
from tests.support.clients.live import NOTHING, opened
from tests.support.servers.in_process import ServeHttp
from tests.support.servers.socket_server import chunk, listening, response

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[Json] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[Json]]:
    """The lines of our loggers, as they are written."""
    handler, logger = _Lines(), logging.getLogger("hetsyn")
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, "hetsyn")
    yield handler.lines
    logger.removeHandler(handler)


def _fail(*_: object) -> None:
    raise ValueError("a defect")


@pytest.mark.parametrize("where", ["applied", "count"])  # before and after the session has the chunk
async def test_a_defect_has_one_line_that_names_request_session_and_trace(
    serve: ServeHttp, lines: list[Json], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    server = await serve()
    client = server.client
    monkeypatch.setattr(server.app.state.server.registry.advance, where, _fail)
    headers = {"traceparent": PARENT, "X-Request-ID": "7"}
    response = await client.post("/infer", json={"session": "a", "seq": 0, "input": events(3)}, headers=headers)
    assert response.status_code == 500
    (line,) = [line for line in lines if "failed" in line["message"]]
    assert (line["request_id"], line["session"], line["trace_id"]) == ("7", "a", TRACE)
    assert len(line["span_id"]) == 16
    assert line["span_id"] not in PARENT
    assert "a defect" in line["exception"]
    assert "events" not in json.dumps(line)
    monkeypatch.undo()
    again = await client.post("/infer", json={"session": "a", "seq": 0, "input": events(3)})
    assert (again.status_code, again.json()["total_steps"]) == (200, 3)


async def test_a_refused_request_is_one_line(models: Path, gate: Gate, serve: ServeHttp, lines: list[Json]) -> None:
    client = (await serve()).client
    for body in ({"session": "a", "seq": 0, "input": events(3)}, {"session": "a", "seq": 5, "input": events(3)}):
        await client.post("/infer", json=body, headers={"traceparent": PARENT, "X-Request-ID": "7"})
    async with listening(models, gate) as server:
        socket, _ = await opened(server, "encoding=events&session=b", "X-Request-ID: 8")
        await socket.send(b"no frame")
        await socket.refused()
    refused = [line for line in lines if "problem" in line]
    assert [(line["level"], line["problem"], line["request_id"]) for line in refused] == [
        ("info", "out-of-order", "7"), ("info", "bad-frame", "8"),
    ]  # fmt: skip
    assert (refused[0]["session"], refused[0]["trace_id"]) == ("a", TRACE)
    assert refused[0]["message"].startswith("refused, 409 out-of-order: ")
    assert "send seq 1 next" in refused[0]["message"]


async def test_a_stream_is_one_request(
    models: Path, gate: Gate, lines: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(models, gate) as server:
        monkeypatch.setattr(server.parts.registry.advance, "applied", _fail)
        socket, _ = await opened(server, "encoding=events&session=a", "X-Request-ID: 7", f"traceparent: {PARENT}")
        await socket.send(NOTHING)
        problem, _ = await socket.refused()
        assert problem == "internal"
    (line,) = [line for line in lines if "failed" in line["message"]]
    assert (line["request_id"], line["session"], line["trace_id"]) == ("7", "a", TRACE)


async def test_each_request_with_a_chunk_has_an_access_line(
    models: Path, gate: Gate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("uvicorn.access")
    lines = TextAccessFormatter("%(client_addr)s - %(request_line)s %(status_code)s")
    async with listening(models, gate) as server:
        caplog.set_level(logging.INFO, logger.name)
        monkeypatch.setattr(caplog.handler, "formatter", lines)  # other tests have the same handler
        logger.addHandler(caplog.handler)
        reader, writer = await server.connect()
        for path in (b"/infer", b"/v2/models/a%0Ab/infer"):
            writer.write(chunk(5, session="a").replace(b"/infer", path).replace(b"Host", b"X-Request-ID: 7\r\nHost"))
            await response(reader)
        writer.close()
        logger.removeHandler(caplog.handler)
    assert caplog.text.splitlines() == [
        "127.0.0.1 - POST /infer HTTP/1.1 404 Not Found [request 7, session a]",
        "127.0.0.1 - POST /v2/models/a%0Ab/infer HTTP/1.1 404 Not Found [request 7]",
    ]
