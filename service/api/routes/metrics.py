"""Serves ``/metrics``: the server's counters in Prometheus's text format, without session ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import metadata

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from service.admission.connections import Connections
from service.admission.uploads import Uploads
from service.batching.batcher import Batcher
from service.ingress import Ingress
from service.keys.keys import Keys
from service.keys.watched_files import CertificateFiles
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.observe.counters import Metric as CounterMetric
from service.observe.timings import ChunkTimes, Histogram, Timings
from service.runtime.operators import OperatorStatus
from service.settings import Limits

PATH = "/metrics"
IDLE_BYTES = 150_000_000  # of a server without sessions, requests and large models
try:
    _VERSION = metadata.version("hetsyn")
except metadata.PackageNotFoundError:  # run from its folder
    _VERSION = "unknown"


def _commit(times: ChunkTimes) -> Histogram:
    return times.commit


TIMES: tuple[tuple[str, str, Callable[[ChunkTimes], Histogram]], ...] = (
    (
        "hetsyn_request_seconds",
        "From when an applied chunk was complete to when its reply was made.",
        lambda times: times.request,
    ),
    (
        "hetsyn_queue_seconds",
        "Of that, the time in which the chunk was neither computed nor committed.",
        lambda times: times.queue,
    ),
    ("hetsyn_engine_seconds", "Time of the batches in which a chunk was computed.", lambda times: times.engine),
    ("hetsyn_store_commit_seconds", "From a chunk's result to its commit.", _commit),
)
"""Histograms of chunks, by transport and model."""


@dataclass(frozen=True, eq=False)
class ServerCollector(Collector):
    """Reads a server's counters at each scrape."""

    counters: Counters
    ingress: Ingress
    uploads: Uploads
    connections: Connections
    batcher: Batcher
    catalog: ModelCatalog
    operator: OperatorStatus
    limits: Limits
    keys: Keys | None
    certificate: CertificateFiles | None

    def collect(self) -> Iterator[Metric]:
        yield from _counted(self.counters)
        sessions = self.ingress.registry.sessions
        for name, text, value in (
            ("hetsyn_ready", "1 while requests should be sent here.", float(self.ingress.unready is None)),
            ("hetsyn_requests_in_flight", "Requests in flight.", self.ingress.admission.in_flight),
            (
                "hetsyn_waiting_steps",
                "Network steps of chunks that wait or are computed.",
                self.batcher.waiting_work,
            ),
            ("hetsyn_uploads", "Bodies under way.", self.uploads.under_way),
            ("hetsyn_connections", "Open connections.", len(self.connections)),
            ("hetsyn_sessions_held", "Open sessions in this process's memory.", sessions.open),
            ("hetsyn_session_bytes", "Bytes of memory that sessions take.", sessions.bytes),
            ("hetsyn_memory_planned_bytes", "Memory that the process stays below.", self._planned_bytes()),
            ("hetsyn_models_offered", "Versions that new sessions may run on.", self.catalog.snapshot.count),
            ("hetsyn_models_withdrawn", "Versions that only old sessions run on.", self.catalog.retired),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, known in (  # without a value there is no sample
            (
                "hetsyn_store_up",
                "1 if the last check of the store found no fault.",
                None if sessions.store is None else float(sessions.store.is_up),
            ),
            (
                "hetsyn_certificate_expiration_timestamp_seconds",
                "When the first certificate of the chain expires.",
                None if self.certificate is None else self.certificate.expires_at_s,
            ),
            (
                "hetsyn_key_expiration_timestamp_seconds",
                "When the next key expires.",
                None if self.keys is None else self.keys.expires_at_s,
            ),
        ):
            yield GaugeMetricFamily(name, text, value=known)
        yield InfoMetricFamily("hetsyn_build", "The version of the server.", value={"version": _VERSION})
        ages = GaugeMetricFamily(
            "hetsyn_sessions_by_age", "Open sessions in this process's memory at the last sweep.", labels=["age"]
        )
        for age, count in sessions.quota.ages.by_name():
            ages.add_metric([age], count)
        yield ages
        yield from _histograms(self.counters.timings)
        if self.operator.device is not None:
            return  # a GPU always runs plain ONNX
        operator = GaugeMetricFamily(
            "hetsyn_operator",
            "1 if our operator runs the networks on the CPU, 0 if plain ONNX does.",
            labels=["built", "kernel"],
        )
        labels = [str(self.operator.built).lower(), self.operator.kernel or "none"]
        operator.add_metric(labels, float(self.operator.in_use))
        yield operator

    def _planned_bytes(self) -> int:
        """Return what the limits allow, with the models: a container needs as much, and more for what is computed."""
        models = sum(model.manifest.total_bytes for model in self.catalog.models())
        return IDLE_BYTES + models + self.limits.max_session_bytes + self.limits.max_held_bytes


def router(collector: ServerCollector) -> APIRouter:
    routes = APIRouter(tags=["health"])
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(collector)
    ProcessCollector(registry=collectors)  # none where there is no /proc

    @routes.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters of this server in Prometheus's text format."""
        return Response(generate_latest(collectors), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes


def _counted(counters: Counters) -> Iterable[Metric]:
    """Yield the metrics that the fields of the counters declare."""
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for field in fields(counters):
        metric: CounterMetric | None = field.metadata.get("metric")
        if metric is None:
            continue
        if (family := families.get(metric.name)) is None:
            kind = GaugeMetricFamily if metric.is_gauge else CounterMetricFamily
            labels = [metric.label] if metric.label else []
            family = families[metric.name] = kind(metric.name, metric.text, labels=labels)
        counted = getattr(counters, field.name)
        if not metric.known:
            family.add_metric([metric.value] if metric.label else [], counted)
            continue
        for value in dict.fromkeys((*metric.known, *counted)):
            family.add_metric([value], counted[value])
    return families.values()


def _histograms(timings: Timings) -> Iterator[Metric]:
    """Yield the histograms of chunks and batches."""
    labelled = list(timings.by_label())
    for name, text, part in TIMES:
        family = HistogramMetricFamily(name, text, labels=["transport", "model"])
        for transport, model, times in labelled if timings.has_store or part is not _commit else ():
            _add(family, (transport, model), part(times))
        yield family
    family = HistogramMetricFamily("hetsyn_batch_chunks", "Chunks that were computed together.", labels=["model"])
    for model, sizes in timings.batches():
        _add(family, (model,), sizes)
    yield family
    family = HistogramMetricFamily("hetsyn_event_loop_lag_seconds", "How late the event loop wakes a task.", labels=[])
    _add(family, (), timings.lag)
    yield family


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    buckets = [("+Inf" if bound is None else repr(bound), count) for bound, count in histogram.cumulative()]
    family.add_metric(labels, buckets, histogram.total)
