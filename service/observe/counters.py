"""Counts what a server has done since it started, as plain numbers. ``api/metrics.py`` exports them to Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from service.errors import HetsynError
from service.observe.drops import Drop
from service.observe.timings import Timings


@dataclass
class Counters:
    """Changed from one event loop.

    Attributes:
        sessions_opened: first chunks that were applied.
        sessions_ended: chunks with ``end`` that were applied.
        sessions_dropped_by: sessions that the server or its store dropped, by reason.
        sessions_deleted: sessions that a client deleted.
        sessions_imported: sessions that were imported.
        sessions_exported: sessions that were exported.
        sessions_loaded: sessions that were found in the store.
        chunks_applied: chunks that were applied.
        chunks_replayed: duplicates that got the first reply again.
        chunks_refused: chunks that got an error of any kind, by problem.
        chunks_abandoned: chunks that were not applied because their clients had gone.
        steps_applied: network steps of the applied chunks.
        store_loads: sessions that were looked up in the store.
        store_commits: commits to the store.
        store_fenced: commits that were refused because another replica came first.
        store_commit_bytes: length of all committed records.
        store_failures: errors of the store, by problem.
        tokens_sealed: tokens of carried sessions that were sealed.
        tokens_opened: tokens of carried sessions that were opened.
        token_bytes: length of all sealed tokens.
        model_reloads: reloads of the models folder.
        streams_open: open WebSockets, by transport.
        stream_frames: frames that have come on them, likewise.
        stream_chunks: chunks that were answered on them, likewise.
        connections_ended: connections that the server ended because of their client, by reason.
        models_opened: versions that a reload has opened.
        models_retired: versions that a reload has retired.
        models_refused: parts of the folder that the start or a reload has refused.
        timings: how long chunks took.
        on_drop: called for each session that is dropped; None calls nobody.
    """

    sessions_opened: int = 0
    sessions_ended: int = 0
    sessions_dropped_by: Counter[str] = field(default_factory=Counter)
    sessions_deleted: int = 0
    sessions_imported: int = 0
    sessions_exported: int = 0
    sessions_loaded: int = 0
    chunks_applied: int = 0
    chunks_replayed: int = 0
    chunks_refused: Counter[str] = field(default_factory=Counter)
    chunks_abandoned: int = 0
    steps_applied: int = 0
    store_loads: int = 0
    store_commits: int = 0
    store_fenced: int = 0
    store_commit_bytes: int = 0
    store_failures: Counter[str] = field(default_factory=Counter)
    tokens_sealed: int = 0
    tokens_opened: int = 0
    token_bytes: int = 0
    model_reloads: int = 0
    streams_open: Counter[str] = field(default_factory=Counter)
    stream_frames: Counter[str] = field(default_factory=Counter)
    stream_chunks: Counter[str] = field(default_factory=Counter)
    connections_ended: Counter[str] = field(default_factory=Counter)
    models_opened: int = 0
    models_retired: int = 0
    models_refused: int = 0
    timings: Timings = field(default_factory=Timings, compare=False)
    on_drop: Callable[[Drop], None] | None = field(default=None, compare=False)

    @property
    def sessions_dropped(self) -> int:
        """Sessions that were dropped for any reason."""
        return self.sessions_dropped_by.total()

    def dropped(self, drop: Drop) -> None:
        """Count a session that was dropped."""
        self.sessions_dropped_by[drop.reason] += 1
        if self.on_drop is not None:
            self.on_drop(drop)

    def refused(self, error: HetsynError) -> None:
        """Count a refused chunk."""
        self.chunks_refused[error.slug] += 1
        if self.timings.tracer is not None:
            self.timings.tracer.refused(error.slug)

    def failed(self, error: HetsynError) -> None:
        """Count a failure of the store."""
        self.store_failures[error.slug] += 1
