"""A cluster behind TLS and a password, and one that is not made yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import StoreUnavailable, StoreUnusable
from service.store.base import NO_REVISION, StateStore
from service.store.url import open_store
from tests.support.servers.certificate import write_certificate
from tests.support.servers.server_process import free_port
from tests.support.stores.change import COMMITTED, put
from tests.support.stores.started_store import StartStore
from tests.support.stores.store_record import records
from tests.support.stores.valkey import ValkeyServer
from tests.support.stores.valkey_cluster import ValkeyCluster
from tests.support.tools import require_valkey

SECRET = "a1b2c3"


def opened(url: str) -> StateStore:
    store = open_store(url, 5.0)
    assert store is not None
    return store


@pytest.mark.process
async def test_tls_and_passwords_reach_every_node(tmp_path: Path, start_store: StartStore) -> None:
    require_valkey()
    certificate, key = map(str, write_certificate(tmp_path))
    port = free_port()
    options = (
        "--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key,
        "--tls-ca-cert-file", certificate,
        "--tls-auth-clients", "no", "--user", "hetsyn", "on", f">{SECRET}", "~*", "&*", "+@all",
    )  # fmt: skip
    try:
        cluster = ValkeyCluster(tmp_path, *options, primaries=1, replicas=0).__enter__()
    except RuntimeError:
        pytest.skip("this Valkey has no TLS: apt-get install valkey-server")
    try:
        end = f"@127.0.0.1:{port}/?ssl_ca_certs={certificate}"
        store = await start_store(opened(f"valkeys-cluster://hetsyn:{SECRET}{end}"))
        assert await store.commit([put("a", NO_REVISION, 1, b"one")]) == [COMMITTED]
        assert await records(store, "a") == [b"one"]
        wrong = opened(f"valkeys-cluster://hetsyn:not-{SECRET}{end}")
        with pytest.raises((StoreUnavailable, StoreUnusable)) as refused:
            await wrong.start()
        assert SECRET not in str(refused.value)
        await wrong.close()
    finally:
        cluster.__exit__(None, None, None)


@pytest.mark.process
async def test_nodes_that_are_no_cluster_yet_are_unavailable_until_they_are(tmp_path: Path) -> None:
    require_valkey()
    with ValkeyServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node:
        store = opened(f"valkey-cluster://127.0.0.1:{node.port}/")
        with pytest.raises(StoreUnavailable, match="no cluster yet"):
            await store.start()
        (refused,) = await store.commit([put("a", NO_REVISION, 1)])
        assert isinstance(refused, StoreUnavailable)
        node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while isinstance((await store.commit([put("a", NO_REVISION, 1)]))[0], StoreUnavailable):
            pass  # the node takes a moment to see that its slots are covered
        await store.health()
        assert await records(store, "a") == [b"record"]
        await store.close()
