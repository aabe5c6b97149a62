"""What a server has done since it began, as plain numbers; ``api/metrics.py`` says them to Prometheus."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from service.errors import HetsynError


@dataclass
class Counters:
    """Changed from one event loop.

    Sessions:
        opened, ended, dropped, deleted, imported, exported, loaded (from the store, to go on with).
    Chunks:
        applied, with steps; replayed (duplicates); refused, by the name of the error, for whatever reason: a body that
        cannot be used, no place, no model.
    Store:
        loads, commits, fenced (another replica came first), and seconds and bytes of the commits.
        failures, by the name of the error.
    Tokens:
        sealed, with bytes, and opened, of carried sessions.
    Models:
        reloads of the folder, and versions that came with them, went, and were refused.
    """

    sessions_opened: int = 0
    sessions_ended: int = 0
    sessions_dropped: int = 0
    sessions_deleted: int = 0
    sessions_imported: int = 0
    sessions_exported: int = 0
    sessions_loaded: int = 0
    chunks_applied: int = 0
    chunks_replayed: int = 0
    chunks_refused: Counter[str] = field(default_factory=Counter)
    steps_applied: int = 0
    store_loads: int = 0
    store_commits: int = 0
    store_fenced: int = 0
    store_commit_seconds: float = 0.0
    store_commit_bytes: int = 0
    store_failures: Counter[str] = field(default_factory=Counter)
    tokens_sealed: int = 0
    tokens_opened: int = 0
    token_bytes: int = 0
    model_reloads: int = 0
    models_opened: int = 0
    models_retired: int = 0
    models_refused: int = 0

    def refused(self, error: HetsynError) -> None:
        self.chunks_refused[type(error).__name__] += 1

    def failed(self, error: HetsynError) -> None:
        self.store_failures[type(error).__name__] += 1
