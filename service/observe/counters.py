"""Counts what a server has done since it started, as plain numbers. ``api/routes/metrics.py`` exports them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.errors import KINDS, HetsynError, StateError, StoreError
from service.observe.drops import REASONS, Drop
from service.observe.timings import Timings


class Metric(NamedTuple):
    """The metric that exports a field of ``Counters``.

    Attributes:
        name: without the ``_total`` of a counter.
        label: name of its label; empty for none.
        value: the label's value; empty for a field that counts by value.
        known: the values that begin at 0 in a field that counts by value. Prometheus sees no increase in a series that
            begins at 1.
        is_gauge: the number may fall.
    """

    name: str
    text: str
    label: str = ""
    value: str = ""
    known: Sequence[str] = ()
    is_gauge: bool = False


def _one(name: str, text: str, label: str = "", value: str = "") -> Any:
    return field(default=0, metadata={"metric": Metric(name, text, label, value)})


def _each(name: str, text: str, label: str, known: Sequence[str], *, is_gauge: bool = False) -> dict[str, Metric]:
    return {"metric": Metric(name, text, label, known=known, is_gauge=is_gauge)}


SESSIONS = ("hetsyn_sessions", "Sessions, by what became of them.", "event")
CHUNKS = (
    "hetsyn_chunks",
    "Chunks, by outcome; replayed ones are duplicates, the clients of abandoned ones had gone.",
    "outcome",
)
TOKENS = ("hetsyn_tokens", "Tokens of carried sessions.", "event")
VERSIONS = (
    "hetsyn_model_versions",
    "Model versions that the start or a reload found, by what became of them.",
    "event",
)
STREAMS = ("stream", "streams")
PROBLEMS = (*(kind.code for kind in KINDS), "http", HetsynError.code)
STORE_PROBLEMS = tuple(kind.code for kind in KINDS if issubclass(kind, StoreError | StateError))
ENDS = (
    "headers", "too-long", "malformed", "refused-request", "idle", "unread", "pipelined", "displaced", "refused",
)  # fmt: skip


@dataclass
class Counters:
    """The counts. Used from one event loop.

    Attributes:
        on_drop: called for each session that is dropped; None calls nobody.
    """

    sessions_opened: int = _one(*SESSIONS, "opened")
    sessions_ended: int = _one(*SESSIONS, "ended")
    sessions_dropped: int = _one(*SESSIONS, "dropped")
    sessions_deleted: int = _one(*SESSIONS, "deleted")
    sessions_imported: int = _one(*SESSIONS, "imported")
    sessions_exported: int = _one(*SESSIONS, "exported")
    sessions_loaded: int = _one(*SESSIONS, "loaded")
    sessions_dropped_by: Counter[str] = field(
        default_factory=Counter,
        metadata=_each(
            "hetsyn_sessions_dropped", "Sessions that the server or its store dropped, by reason.", "reason", REASONS
        ),
    )
    chunks_applied: int = _one(*CHUNKS, "applied")
    chunks_replayed: int = _one(*CHUNKS, "replayed")
    chunks_abandoned: int = _one(*CHUNKS, "abandoned")
    chunks_refused: Counter[str] = field(
        default_factory=Counter,
        metadata=_each("hetsyn_chunks_refused", "Chunks and other requests refused, by problem.", "error", PROBLEMS),
    )
    steps_applied: int = _one("hetsyn_steps", "Network steps of the chunks applied.")
    store_loads: int = _one("hetsyn_store_loads", "Sessions looked up in the store.")
    store_commits: int = 0
    store_fenced: int = _one("hetsyn_store_fenced", "Commits refused because another came first.")
    store_commit_bytes: int = _one("hetsyn_store_committed_bytes", "Bytes of committed records.")
    store_failures: Counter[str] = field(
        default_factory=Counter,
        metadata=_each("hetsyn_store_failures", "Failures of the store, by problem.", "error", STORE_PROBLEMS),
    )
    tokens_sealed: int = _one(*TOKENS, "sealed")
    tokens_opened: int = _one(*TOKENS, "opened")
    token_bytes: int = _one("hetsyn_token_bytes", "Bytes of sealed tokens.")
    streams_open: Counter[str] = field(
        default_factory=Counter,
        metadata=_each("hetsyn_streams", "Open WebSockets, by transport.", "transport", STREAMS, is_gauge=True),
    )
    stream_frames: Counter[str] = field(
        default_factory=Counter,
        metadata=_each("hetsyn_stream_frames", "Frames that came on them.", "transport", STREAMS),
    )
    stream_chunks: Counter[str] = field(
        default_factory=Counter,
        metadata=_each("hetsyn_stream_chunks", "Chunks answered on them.", "transport", STREAMS),
    )
    connections_ended: Counter[str] = field(
        default_factory=Counter,
        metadata=_each("hetsyn_connections_ended", "Connections that the server ended, by reason.", "reason", ENDS),
    )
    model_reloads: int = _one("hetsyn_model_reloads", "Reloads of the models folder.")
    models_opened: int = _one(*VERSIONS, "opened")
    models_retired: int = _one(*VERSIONS, "withdrawn")
    models_refused: int = _one(*VERSIONS, "refused")
    timings: Timings = field(default_factory=Timings, compare=False)
    on_drop: Callable[[Drop], None] | None = field(default=None, compare=False)

    def dropped(self, drop: Drop) -> None:
        self.sessions_dropped += 1
        self.sessions_dropped_by[drop.reason] += 1
        if self.on_drop is not None:
            self.on_drop(drop)

    def refused(self, error: Exception) -> None:
        """Count a refused request, or a row of one. An unexpected error is ``internal``."""
        code = error.code if isinstance(error, HetsynError) else HetsynError.code
        self.chunks_refused[code] += 1
        if self.timings.tracer is not None:
            self.timings.tracer.refused(code)

    def failed(self, error: HetsynError) -> None:
        """Count a failure of the store."""
        self.store_failures[error.code] += 1
