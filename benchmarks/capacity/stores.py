"""The stores by themselves: what a commit of one record and of a full batch takes, without a server."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Sequence

from benchmarks.capacity.processor import process_s
from benchmarks.capacity.system import NodeCosts
from hetsyn_client.loadtest.run import run_loop
from service.store.base import NO_REVISION, Change, CommitResult, StateStore, new_revision
from service.store.url import open_store

FULL = 64  # records of a full batch


def node_costs(url: str, pids: Sequence[int], record_bytes: int, seconds: float) -> NodeCosts:
    """Measure a store.

    Args:
        url: of the store.
        pids: of its processes; none for a file, which this process writes.
        record_bytes: of a record.
        seconds: of each of the two measurements.
    """
    (one_s, one_cpu_s), (full_s, full_cpu_s) = run_loop(_commits(url, pids, record_bytes, seconds))
    cpu_record_s = max(0.0, full_cpu_s - one_cpu_s) / (FULL - 1)
    # What is neither this loop's work nor the store's is the disk's. A full batch is written while it is still read.
    wait_record_s = max(0.0, (full_s - full_cpu_s) - (one_s - one_cpu_s)) / (FULL - 1)
    return NodeCosts(
        turn_s=max(0.0, one_s - one_cpu_s),
        command_s=max(0.0, one_cpu_s - cpu_record_s),
        record_s=cpu_record_s + wait_record_s,
        record_bytes=record_bytes,
        shares_turns=bool(pids),
    )


async def _commits(
    url: str, pids: Sequence[int], record_bytes: int, seconds: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    store = open_store(url)
    if store is None:
        raise ValueError(f"{url} is no store")
    await store.start()
    try:
        return (
            await _repeated(store, pids, 1, record_bytes, seconds),
            await _repeated(store, pids, FULL, record_bytes, seconds),
        )
    finally:
        await store.close()


async def _repeated(
    store: StateStore, pids: Sequence[int], records: int, record_bytes: int, seconds: float
) -> tuple[float, float]:
    """Median seconds of a commit without this loop's own work, and mean seconds of the store's processor in it."""
    revisions = [NO_REVISION] * records
    content = secrets.token_bytes(record_bytes)
    waited: list[float] = []
    until_s, cpu_s, count = time.perf_counter() + seconds, process_s(pids), 0
    while time.perf_counter() < until_s:
        before, revisions = revisions, [new_revision() for _ in revisions]
        changes = [
            Change(f"measured-{records}-{i}", old, new, content, 600.0)
            for i, (old, new) in enumerate(zip(before, revisions, strict=True))
        ]
        began_s, own_s = time.perf_counter(), time.thread_time()
        results = await store.commit(changes)
        waited.append(time.perf_counter() - began_s - (time.thread_time() - own_s))
        count += 1
        if any(result is not CommitResult.committed for result in results):
            raise RuntimeError(f"the store did not commit: {results[0]}")
    return statistics.median(waited), (process_s(pids) - cpu_s) / count
