"""Spans of chunks, by OpenTelemetry's own exporter in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from service.observe.context import described
from service.observe.otel import OtelTracer, open_tracer
from tests.support.artifacts.gate import Gate
from tests.support.clients.json_input import events
from tests.support.clients.live import NOTHING, opened
from tests.support.clients.many import hub, silence
from tests.support.servers.in_process import ServeHttp
from tests.support.servers.socket_server import listening
from tests.support.stores.failing_store import FailingStore
from tests.support.tools import NO_OTEL

HAS_OTEL = find_spec("opentelemetry.sdk") is not None if find_spec("opentelemetry") else False
needs_otel = pytest.mark.skipif(not HAS_OTEL, reason=NO_OTEL)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


@pytest.fixture
def traces() -> Iterator[tuple[OtelTracer, Any]]:
    """A tracer, and the exporter that has its spans."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracer = OtelTracer(SimpleSpanProcessor(exporter))
    yield tracer, exporter
    tracer.close()


def by_name(exporter: Any) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


@needs_otel
async def test_a_chunk_is_a_request_and_its_parts(
    serve: ServeHttp, traces: tuple[OtelTracer, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(store=FailingStore())
    tracer, exporter = traces
    server.app.state.server.counters.timings.tracer = tracer
    lines: list[Mapping[str, str]] = []

    def applied(*arguments: Any) -> None:
        lines.append(described())
        OtelTracer.applied(tracer, *arguments)

    monkeypatch.setattr(tracer, "applied", applied)
    body = {"session": "a", "seq": 0, "input": events(3)}
    await server.client.post("/infer", json=body, headers={**SAMPLED, "X-Request-ID": "7"})
    spans = by_name(exporter)
    assert set(spans) == {"POST /infer", "queue", "engine", "commit"}
    request = spans["POST /infer"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.context.trace_state.get("vendor") == "1"
    assert f"{request.context.span_id:016x}" == lines[0]["span_id"]  # of a line of log
    assert dict(request.attributes) == {
        "hetsyn.transport": "http", "hetsyn.model": "digits", "hetsyn.session": "a", "hetsyn.request_id": "7",
    }  # fmt: skip
    assert request.resource.attributes["service.name"] == "hetsyn"
    parts = [spans[name] for name in ("queue", "engine", "commit")]
    assert all(part.parent.span_id == request.context.span_id for part in parts)
    times = [request.start_time, *(time for part in parts for time in (part.start_time, part.end_time))]
    assert times == sorted(times)
    assert parts[-1].end_time == request.end_time


@needs_otel
async def test_a_trace_that_is_not_recorded_has_no_spans(serve: ServeHttp, traces: tuple[OtelTracer, Any]) -> None:
    server = await serve()
    server.app.state.server.counters.timings.tracer, exporter = traces
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert (await server.client.post("/infer", json={"input": events(3)}, headers=headers)).status_code == 200
    assert exporter.get_finished_spans() == ()


@needs_otel
async def test_a_request_without_a_trace_begins_one(serve: ServeHttp, traces: tuple[OtelTracer, Any]) -> None:
    server = await serve()
    server.app.state.server.counters.timings.tracer, exporter = traces
    for _ in range(2):
        await server.client.post("/infer", json={"input": events(3)})
    requests = [span for span in exporter.get_finished_spans() if span.name == "POST /infer"]
    assert [span.parent for span in requests] == [None, None]
    assert len({span.context.trace_id for span in requests}) == 2


@needs_otel
async def test_a_refusal_is_an_error(serve: ServeHttp, traces: tuple[OtelTracer, Any]) -> None:
    server = await serve()
    server.app.state.server.counters.timings.tracer, exporter = traces
    await server.client.post("/infer", json={"session": "a", "seq": 5, "input": events(3)}, headers=SAMPLED)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.attributes["error.type"], span.status.status_code.name) == ("refused", "not-found", "ERROR")
    assert f"{span.context.trace_id:032x}" == TRACE


@needs_otel
@pytest.mark.parametrize("inline_s", [0.0, 10.0])
async def test_chunks_of_streams_belong_to_the_trace_of_their_handshake(
    models: Path, gate: Gate, traces: tuple[OtelTracer, Any], inline_s: float
) -> None:
    async with listening(models, gate, inline_s=inline_s) as server:
        server.parts.counters.timings.tracer, exporter = traces
        traced, _ = await opened(server, "encoding=events&session=a", f"traceparent: 00-{TRACE}-{PARENT}-01")
        other, _ = await opened(server, "encoding=events&session=b")
        many, _ = await hub(server)
        await many.opens("c", "d")
        for seq in range(3):
            await traced.send(NOTHING)
            await other.send(NOTHING)
            await traced.frames(1)
            await other.frames(1)
            await many.chunks(silence([0, 1], seq))
        requests = [span for span in exporter.get_finished_spans() if span.name == "WS /stream"]
        sessions = [(span.attributes["hetsyn.session"], f"{span.context.trace_id:032x}") for span in requests]
        assert sorted(session for session, _ in sessions) == ["a"] * 3 + ["b"] * 3
        assert {trace for session, trace in sessions if session == "a"} == {TRACE}
        assert len({trace for session, trace in sessions if session == "b"} | {TRACE}) == 2
        frames = [span for span in exporter.get_finished_spans() if span.name == "WS /streams"]
        assert sum(span.attributes.get("hetsyn.chunks", 1) for span in frames) == 6


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, ""),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is not otlp or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "4318"),
    ],
)
def test_no_tracer_without_variables_that_ask_for_one(
    environment: dict[str, str], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_tracer(environment) is None
    assert sentence in caplog.text
    assert bool(caplog.records) is bool(sentence)


def test_a_server_without_traces_does_not_import_the_sdk() -> None:
    code = (  # FastAPI imports the API of OpenTelemetry where it finds it
        "import sys, service.commands.process as process; process.open_tracer({}); "
        "assert not any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
