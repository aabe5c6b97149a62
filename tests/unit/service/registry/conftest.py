"""One server without a store, and replicas around one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.in_process import DirectServer, ServeDirect
from tests.support.stores.cluster import Cluster, MakeCluster


@pytest.fixture
def server(serve: ServeDirect) -> DirectServer:
    return serve(max_sessions=3, session_idle_s=60, ended_keep_s=10)


@pytest.fixture
async def make_cluster(models: Path) -> AsyncIterator[MakeCluster]:
    """Makes clusters, with ``limits`` in place of those of a ``Cluster``."""
    clusters: list[Cluster] = []

    def made(**limits: Any) -> Cluster:
        clusters.append(Cluster(models, **limits))
        return clusters[-1]

    yield made
    for cluster in clusters:
        await cluster.close()


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster()
