"""``/metrics``: the server's counters in Prometheus's text format. It names no session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from service.admission.permits import Admission
from service.admission.uploads import Uploads
from service.api.connection import Connections
from service.batching.batcher import Batcher
from service.errors import KINDS, StateError, StoreError
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.observe.drops import REASONS
from service.observe.histogram import Histogram
from service.registry.registry import SessionRegistry
from service.runtime.operators import OperatorStatus

PATH = "/metrics"
# Counters begin at 0 where their labels are known: Prometheus sees no increase in a series that begins at 1
REFUSALS = tuple(kind.slug for kind in KINDS)
STORE_FAILURES = tuple(kind.slug for kind in KINDS if issubclass(kind, StoreError | StateError))
ENDS = (
    "headers", "too-long", "malformed", "refused-request", "idle", "unread", "pipelined", "displaced", "refused",
)  # fmt: skip


class _ServerCollector(Collector):
    """Reads the counters at each scrape."""

    def __init__(
        self,
        counters: Counters,
        registry: SessionRegistry,
        admission: Admission,
        uploads: Uploads,
        connections: Connections,
        batcher: Batcher,
        catalog: ModelCatalog,
        operator: OperatorStatus,
    ) -> None:
        self._counters = counters
        self._registry = registry
        self._admission = admission
        self._uploads = uploads
        self._connections = connections
        self._batcher = batcher
        self._catalog = catalog
        self._operator = operator

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield _gauge(
            "hetsyn_ready",
            "1 while requests should be sent here.",
            float(self._admission.is_ready and not self._registry.sessions.trouble),
        )
        yield _gauge("hetsyn_requests_in_flight", "Requests in flight.", self._admission.in_flight)
        yield _gauge(
            "hetsyn_waiting_steps", "Network steps of chunks that wait or are computed.", self._batcher.waiting_work
        )
        yield _gauge("hetsyn_uploads", "Bodies under way.", self._uploads.under_way)
        yield _gauge("hetsyn_connections", "Open connections.", len(self._connections.shares))
        streams = GaugeMetricFamily("hetsyn_streams", "Open WebSockets, by transport.", labels=["transport"])
        for name in ("stream", "streams"):
            streams.add_metric([name], counters.streams_open[name])
        yield streams
        frames, chunks = (
            _from_zero(("stream", "streams"), counted) for counted in (counters.stream_frames, counters.stream_chunks)
        )
        yield _by_label("hetsyn_stream_frames", "Frames that came on them.", "transport", frames)
        yield _by_label("hetsyn_stream_chunks", "Chunks answered on them.", "transport", chunks)
        yield _by_label(
            "hetsyn_connections_ended",
            "Connections that the server ended, by reason.",
            "reason",
            _from_zero(ENDS, counters.connections_ended),
        )
        yield _gauge("hetsyn_sessions_held", "Open sessions in this process's memory.", self._registry.sessions.open)
        yield _gauge("hetsyn_session_bytes", "Bytes of memory that sessions take.", self._registry.sessions.bytes)
        yield _by_label(
            "hetsyn_sessions",
            "Sessions, by what became of them.",
            "event",
            {
                "opened": counters.sessions_opened,
                "ended": counters.sessions_ended,
                "dropped": counters.sessions_dropped,
                "deleted": counters.sessions_deleted,
                "imported": counters.sessions_imported,
                "exported": counters.sessions_exported,
                "loaded": counters.sessions_loaded,
            },
        )
        yield _by_label(
            "hetsyn_sessions_dropped",
            "Sessions that the server or its store dropped, by reason.",
            "reason",
            {reason: counters.sessions_dropped_by[reason] for reason in REASONS},
        )
        ages = GaugeMetricFamily(
            "hetsyn_sessions_by_age", "Open sessions in this process's memory at the last sweep.", labels=["age"]
        )
        for name, count in self._registry.sessions.ages.by_name():
            ages.add_metric([name], count)
        yield ages
        yield _by_label(
            "hetsyn_chunks",
            "Chunks, by outcome; replayed ones are duplicates, the clients of abandoned ones had gone.",
            "outcome",
            {
                "applied": counters.chunks_applied,
                "replayed": counters.chunks_replayed,
                "abandoned": counters.chunks_abandoned,
            },
        )
        yield _by_label(
            "hetsyn_chunks_refused",
            "Chunks refused, by problem.",
            "error",
            _from_zero(REFUSALS, counters.chunks_refused),
        )
        yield _counter("hetsyn_steps", "Network steps of the chunks applied.", counters.steps_applied)
        yield _counter("hetsyn_store_loads", "Sessions looked up in the store.", counters.store_loads)
        yield _counter("hetsyn_store_fenced", "Commits refused because another came first.", counters.store_fenced)
        failures = _from_zero(STORE_FAILURES, counters.store_failures)
        yield _by_label("hetsyn_store_failures", "Failures of the store, by problem.", "error", failures)
        yield _counter("hetsyn_store_committed_bytes", "Bytes of committed records.", counters.store_commit_bytes)
        yield _by_label(
            "hetsyn_tokens",
            "Tokens of carried sessions.",
            "event",
            {"sealed": counters.tokens_sealed, "opened": counters.tokens_opened},
        )
        yield _counter("hetsyn_token_bytes", "Bytes of sealed tokens.", counters.token_bytes)
        yield _counter("hetsyn_model_reloads", "Reloads of the models folder.", counters.model_reloads)
        yield _by_label(
            "hetsyn_model_versions",
            "Model versions that the start or a reload found, by what became of them.",
            "event",
            {
                "opened": counters.models_opened,
                "withdrawn": counters.models_retired,
                "refused": counters.models_refused,
            },
        )
        yield _gauge("hetsyn_models_offered", "Versions that new sessions may run on.", self._catalog.snapshot.count)
        yield _gauge("hetsyn_models_withdrawn", "Versions that only old sessions run on.", self._catalog.retired)
        yield from _chunk_times(counters)
        if self._operator.device is not None:
            return  # plain ONNX is all that a GPU runs: nothing is amiss
        operator = GaugeMetricFamily(
            "hetsyn_operator",
            "1 if our operator runs the networks on the CPU, 0 if plain ONNX does.",
            labels=["built", "kernel"],
        )
        labels = [str(self._operator.built).lower(), self._operator.kernel or "none"]
        operator.add_metric(labels, float(self._operator.in_use))
        yield operator


def router(
    counters: Counters,
    registry: SessionRegistry,
    admission: Admission,
    uploads: Uploads,
    connections: Connections,
    batcher: Batcher,
    catalog: ModelCatalog,
    operator: OperatorStatus,
) -> APIRouter:
    routes = APIRouter(tags=["health"])
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(
        _ServerCollector(counters, registry, admission, uploads, connections, batcher, catalog, operator)
    )

    @routes.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters of this server in Prometheus's text format."""
        return Response(generate_latest(collectors), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes


def _chunk_times(counters: Counters) -> Iterator[Metric]:
    """The histograms of chunks and batches."""
    timings = list(counters.timings.by_label())
    labels = ["transport", "model"]
    yield _histogram(
        "hetsyn_request_seconds",
        "From when an applied chunk was complete to when its reply was made.",
        labels,
        [((transport, model), times.request) for transport, model, times in timings],
    )
    yield _histogram(
        "hetsyn_queue_seconds",
        "Of that, the time in which the chunk was neither computed nor committed.",
        labels,
        [((transport, model), times.queue) for transport, model, times in timings],
    )
    yield _histogram(
        "hetsyn_engine_seconds",
        "Time of the batches in which a chunk was computed.",
        labels,
        [((transport, model), times.engine) for transport, model, times in timings],
    )
    commits = timings if counters.timings.has_store else []
    yield _histogram(
        "hetsyn_store_commit_seconds",
        "From a chunk's result to its commit.",
        labels,
        [((transport, model), times.commit) for transport, model, times in commits],
    )
    sizes = [((model,), sizes) for model, sizes in counters.timings.batches()]
    yield _histogram("hetsyn_batch_chunks", "Chunks that were computed together.", ["model"], sizes)


def _histogram(
    name: str, text: str, labels: Sequence[str], series: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in series:
        buckets = [("+Inf" if bound is None else repr(bound), count) for bound, count in histogram.cumulative()]
        family.add_metric(values, buckets, histogram.total)
    return family


def _from_zero(labels: Iterable[str], counted: Mapping[str, int]) -> dict[str, int]:
    return {**dict.fromkeys(labels, 0), **counted}


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _by_label(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
