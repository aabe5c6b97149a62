"""The share of a server's limits that one of its workers has."""

from __future__ import annotations

from dataclasses import replace

from service.settings import Batching, Limits, Settings

DIVIDED = (
    "max_upload_bytes", "max_uploads", "max_unread_bytes", "max_connections", "max_sessions", "max_session_bytes",
    "max_waiting", "max_waiting_steps",
)  # fmt: skip


def share_of(settings: Settings, index: int, count: int) -> Settings:
    """The settings of one worker: limits divided, so that all workers together keep those of the server.

    Args:
        settings: of the server.
        index: of the worker; the first ones get what does not divide.
        count: of workers.
    """
    limits = settings.limits
    shares = {name: max(1, (getattr(limits, name) + count - 1 - index) // count) for name in DIVIDED}
    shares["max_upload_bytes"] = max(shares["max_upload_bytes"], limits.max_body_bytes)  # one body has to fit
    return replace(
        settings,
        watch_s=settings.watch_s if index == 0 else 0.0,  # what it sees, all reload
        limits=Limits(**vars(limits) | shares),
        batching=replace(settings.batching, engine_threads=_threads(settings.batching, index, count)),
    )


def _threads(batching: Batching, index: int, count: int) -> int:
    return max(1, (batching.engine_threads + count - 1 - index) // count)


def check_limits(limits: Limits, count: int) -> str:
    """What is wrong with limits that are to be divided; empty if nothing is."""
    for name in DIVIDED:
        if getattr(limits, name) < count:
            option = "--" + name.replace("_", "-")
            return f"{option} {getattr(limits, name)} is less than --workers {count}: each worker has a share of it"
    return ""
