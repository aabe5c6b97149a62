"""The faults, short: with a store nothing is lost, and without one the tally says what is."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.long.faults.disturbed import disturbed
from tests.support.tools import NO_TRITONCLIENT, require_valkey


# a replica and a store are killed; a file is damaged and a replica killed; a store is paused and its answers lost
@pytest.mark.parametrize(
    ("store", "seed"),
    [
        pytest.param("valkey", 14, marks=pytest.mark.process),
        pytest.param("file", 9, marks=pytest.mark.process),
        pytest.param("valkey", 1, marks=pytest.mark.long),
    ],
)
def test_nothing_is_lost_with_a_store(store: str, seed: int, tmp_path: Path) -> None:
    if store == "valkey":
        require_valkey()
    results = asyncio.run(disturbed(store, tmp_path, faults=2, chunks=100, clients=4, seed=seed))
    counts = results["counts"]
    assert results["violations"] == []
    assert results["passed"]
    assert counts["acknowledged"] >= 100
    assert counts["faults"] == 2


@pytest.mark.long
@pytest.mark.parametrize(("replicas", "seed"), [(1, 255), (0, 255)])
def test_a_cluster_loses_nothing_that_replicas_confirmed_and_tells_what_it_loses(
    replicas: int, seed: int, tmp_path: Path
) -> None:
    """Slots move, a primary is killed whose replica lags, and one hands over."""
    require_valkey()
    results = asyncio.run(
        disturbed("valkey-cluster", tmp_path, faults=3, chunks=200, clients=8, seed=seed, replicas=replicas)
    )
    counts = results["counts"]
    assert results["passed"], results["violations"]
    assert {one["kind"] for one in results["occurred"]} == {
        "move slots", "kill a primary whose replica lags", "planned failover",
    }  # fmt: skip
    assert (counts["twice"], counts["wrong"]) == (0, 0)
    assert counts["lost"] == sum(counts["noticed"].values())
    if replicas:
        assert counts["lost"] == 0


# a replica is killed, connections are cut and a disk is full
@pytest.mark.long
@pytest.mark.parametrize("transport", ["stream", "streams", "v2", "grpc"])
def test_nothing_is_lost_at_other_doors(transport: str, tmp_path: Path) -> None:
    require_tritonclient(transport)
    results = asyncio.run(disturbed("file", tmp_path, faults=3, chunks=200, clients=4, seed=2, transport=transport))
    counts = results["counts"]
    assert results["violations"] == []
    assert results["passed"]
    assert counts["acknowledged"] >= 200
    assert counts["faults"] == 3
    assert counts["finished"] > 0


@pytest.mark.long
def test_carried_sessions_lose_nothing_without_a_store(tmp_path: Path) -> None:
    """Both replicas are killed at once, and connections are cut."""
    results = asyncio.run(disturbed("memory", tmp_path, faults=2, chunks=200, clients=4, seed=1, transport="carried"))
    counts = results["counts"]
    assert results["violations"] == []
    assert results["passed"]
    assert counts["acknowledged"] >= 200
    assert counts["finished"] > 0


@pytest.mark.long
@pytest.mark.parametrize("transport", ["infer", "stream", "streams", "v2", "grpc"])
def test_a_killed_server_without_a_store_is_reported(transport: str, tmp_path: Path) -> None:
    require_tritonclient(transport)
    results = asyncio.run(disturbed("memory", tmp_path, faults=2, chunks=100, clients=4, seed=4, transport=transport))
    assert not results["passed"]
    assert results["counts"]["lost"] > 0


def require_tritonclient(transport: str) -> None:
    """Skip the test of a transport that needs it, where it is missing."""
    if transport in ("v2", "grpc") and (find_spec("tritonclient") is None or find_spec("grpc_health") is None):
        pytest.skip(NO_TRITONCLIENT)
