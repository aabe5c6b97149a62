"""Spans of chunks by OpenTelemetry, if the operator has set its environment variables and installed the extra.

Each chunk is timed anyway (``watch``). After it was applied, its spans are made from these times: one for the request,
and within it one each for queue, engine and commit. A server without traces does not import this module.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hetsyn_client.extras import install_command
from service.keys.ids import client_id, owner_of
from service.observe.context import CURRENT, SESSION, RequestContext
from service.observe.timings import Transport
from service.observe.watch import Watch

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

EXPORTER, ENDPOINTS = (
    "OTEL_TRACES_EXPORTER",
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
)
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
NAMES: Mapping[Transport, str] = {
    "http": "POST /infer",
    "stream": "WS /stream",
    "streams": "WS /streams",
    "v2": "POST /v2/models/{model}/infer",
    "grpc": "inference.GRPCInferenceService/ModelInfer",
}
CLOSING_MS = 2_000  # for the spans that wait when the server ends

log = logging.getLogger("hetsyn.traces")


def open_tracer(environment: Mapping[str, str] = os.environ) -> OtelTracer | None:
    """Make the tracer that OpenTelemetry's variables ask for; None if they ask for none.

    An error is logged, and the server serves without traces.
    """
    exporter = environment.get(EXPORTER, "").strip().lower()
    is_wanted = bool(exporter) or any(environment.get(name) for name in ENDPOINTS)
    if not is_wanted or exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if exporter not in ("", "otlp"):
        log.warning("no traces: %s is not otlp or none", EXPORTER)
        return None
    if any(environment.get(name, HTTP) != HTTP for name in PROTOCOLS):
        log.warning("no traces: %s is not %s: name a collector's port for HTTP, 4318 by custom", PROTOCOLS[1], HTTP)
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        log.warning("no traces, although OTEL_... asks for them: %s", install_command("otel"))
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracer = OtelTracer(BatchSpanProcessor(OTLPSpanExporter()))
    log.info("traces go to OpenTelemetry's collector")
    return tracer


class OtelTracer:
    """Makes spans. ``processor`` exports them when they have ended. Used from one event loop."""

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            """Makes random ids, unless log lines have already named the next span's ids."""

            trace_id = span_id = 0

            def generate_trace_id(self) -> int:
                found, self.trace_id = self.trace_id or super().generate_trace_id(), 0
                return found

            def generate_span_id(self) -> int:
                found, self.span_id = self.span_id or super().generate_span_id(), 0
                return found

        self._trace = trace
        self._ids = Ids()
        resource = Resource.create({SERVICE_NAME: "hetsyn"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("hetsyn")
        RequestContext.makes_traces = True

    def applied(self, transport: Transport, model: str, watch: Watch, ended_s: float, chunks: int = 1) -> None:
        attributes: dict[str, Any] = {"hetsyn.transport": transport, "hetsyn.model": model}
        if chunks > 1:
            attributes["hetsyn.chunks"] = chunks
        offset_ns = time.time_ns() - int(time.perf_counter() * 1e9)
        span = self._begin(
            NAMES[transport], watch.started_s, offset_ns, attributes, is_told=transport in ("http", "v2")
        )
        if span.is_recording():
            begun_s = watch.ran.begun_s or watch.started_s
            parts = [("queue", watch.started_s, begun_s), ("engine", begun_s, begun_s + watch.ran.engine_s)]
            if watch.store_s:
                parts.append(("commit", ended_s - watch.store_s, ended_s))
            context = self._trace.set_span_in_context(span)
            for name, from_s, to_s in parts:
                part = self._tracer.start_span(name, context, start_time=_ns(from_s, offset_ns))
                part.end(_ns(to_s, offset_ns))
        span.end(_ns(ended_s, offset_ns))

    def refused(self, error: str) -> None:
        now_s = time.perf_counter()
        span = self._begin("refused", now_s, time.time_ns() - int(now_s * 1e9), {"error.type": error}, is_told=False)
        span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Export the waiting spans. Blocks for at most ``CLOSING_MS``."""
        self._provider.force_flush(CLOSING_MS)
        self._provider.shutdown()
        RequestContext.makes_traces = False

    def _begin(self, name: str, began_s: float, offset_ns: int, attributes: dict[str, Any], *, is_told: bool) -> Span:
        """Begin a span of the current request.

        Args:
            began_s: its beginning, in seconds of ``time.perf_counter``.
            offset_ns: added to that clock, gives nanoseconds since 1970.
            is_told: log lines have named the span's id.
        """
        request = CURRENT.get() or RequestContext()
        attributes["hetsyn.request_id"] = request.request_id
        if session := SESSION.get():
            attributes["hetsyn.session"] = client_id(session)
            if key := owner_of(session):
                attributes["hetsyn.key"] = key
        context = self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        if (parent := request.trace) is not None:
            remote = self._trace.SpanContext(
                int(parent.trace_id, 16),
                int(parent.parent_id, 16),
                is_remote=True,
                trace_flags=self._trace.TraceFlags(parent.flags),
                trace_state=self._trace.TraceState.from_header([parent.state]),
            )
            context = self._trace.set_span_in_context(self._trace.NonRecordingSpan(remote))
        else:
            self._ids.trace_id = int(request.trace_id, 16)
        if is_told:
            self._ids.span_id = int(request.span_id, 16)
        kind = self._trace.SpanKind.SERVER
        return self._tracer.start_span(name, context, kind, attributes, start_time=_ns(began_s, offset_ns))


def _ns(at_s: float, offset_ns: int) -> int:
    return int(at_s * 1e9) + offset_ns
