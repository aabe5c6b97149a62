"""Batches of records in one Valkey and in a cluster: the time of a group commit, in one run.

The stores take turns with a batch of 64 records of 11 kB, as a busy server commits them. Every node is on this machine
and waits for its disk (``appendfsync always``), so the cluster's nodes share what one Valkey has for itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hetsyn_client.loadtest.run import run_loop
from service.store.base import NO_REVISION, Change, CommitResult, StateStore, new_revision
from service.store.url import open_store
from tests.support.valkey import ValkeyServer
from tests.support.valkey_cluster import ValkeyCluster

KEEP_S = 600.0
WARM_UP = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=100, help="batches of each store, which take turns")
    parser.add_argument("--records", type=int, default=64, help="of a batch")
    parser.add_argument("--record-bytes", type=int, default=11_018, help="length of a record")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds = 1 if arguments.smoke else 5 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory(prefix="hetsyn-batches-") as name, ExitStack() as running:
        folder = Path(name)
        (folder / "one").mkdir()
        one = running.enter_context(ValkeyServer(folder / "one"))
        cluster = running.enter_context(ValkeyCluster(folder))
        urls = {
            "one Valkey": one.url,
            "cluster, replicas=0": cluster.url,
            "cluster, replicas=1": f"{cluster.url}?replicas=1",
        }
        results = run_loop(measured(urls, rounds, arguments.records, arguments.record_bytes))
    _print(results)
    return results


async def measured(urls: dict[str, str], rounds: int, records: int, record_bytes: int) -> dict[str, Any]:
    """Times of a batch in each store, in milliseconds; the results as JSON values.

    Args:
        urls: of the stores, by title.
        rounds: batches of each store.
        records: of a batch.
        record_bytes: length of a record.
    """
    times_ms: dict[str, list[float]] = {title: [] for title in urls}
    async with AsyncExitStack() as stack:
        stores = {title: _opened(url, title) for title, url in urls.items()}
        revisions = {title: [NO_REVISION] * records for title in urls}
        for store in stores.values():
            stack.push_async_callback(store.close)
            await store.start()
        for number in range(WARM_UP + rounds):
            for title, store in stores.items():
                changes = [
                    Change(f"s{index}", revision, new_revision(), bytes(record_bytes), KEEP_S)
                    for index, revision in enumerate(revisions[title])
                ]
                began_s = time.perf_counter()
                outcomes = await store.commit(changes)
                took_ms = 1e3 * (time.perf_counter() - began_s)
                if outcomes != [CommitResult.committed] * records:
                    raise RuntimeError(f"{title}: a batch was not committed: {outcomes[:3]}")
                revisions[title] = [change.revision for change in changes]
                if number >= WARM_UP:
                    times_ms[title].append(took_ms)
    return {
        "settings": {"rounds": rounds, "records": records, "record_bytes": record_bytes},
        "batch_ms": {
            title: {
                "median": statistics.median(times), "p90": sorted(times)[len(times) * 9 // 10],
                "records_per_s": 1e3 * records / statistics.median(times),
            }
            for title, times in times_ms.items()
        },
    }  # fmt: skip


def _opened(url: str, title: str) -> StateStore:
    # the same keys of two stores in one cluster would fence each other
    store = open_store(f"{url}{'&' if '?' in url else '?'}prefix={title.replace(' ', '-').replace(',', '')}:", 10.0)
    assert store is not None
    return store


def _print(results: dict[str, Any]) -> None:
    settings = results["settings"]
    table = Table(
        "store", "median ms", "p90 ms", "records a second",
        title=f"a batch of {settings['records']} records of {settings['record_bytes']:,} bytes",
    )  # fmt: skip
    for title, those in results["batch_ms"].items():
        table.add_row(title, f"{those['median']:.1f}", f"{those['p90']:.1f}", f"{those['records_per_s']:,.0f}")
    Console(width=120).print(table)
