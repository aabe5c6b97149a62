from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import StoreUnusable
from service.store.file import FileStore
from service.store.redis.cluster import Address, ClusterStore, read_address
from service.store.redis.server import RedisStore
from service.store.url import open_store, redacted


def test_memory_is_no_store() -> None:
    assert open_store("memory://") is None


@pytest.mark.parametrize(
    "url", ["file://{path}", "file://{path}?synchronous=normal", "file://{path}?max_bytes=1000000"]
)
async def test_a_file(tmp_path: Path, url: str) -> None:
    path = tmp_path / "a name with spaces.db"
    store = open_store(url.format(path=str(path).replace(" ", "%20")))
    assert isinstance(store, FileStore)
    await store.close()
    assert path.exists()


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "valkey://127.0.0.1",
        "rediss://user:secret@host:6380/1",
        "valkeys://host",
        "redis://host?prefix=mine:",
    ],
)
async def test_a_server(url: str) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    await store.close()


@pytest.mark.parametrize(
    ("url", "seeds", "node_url"),
    [
        ("valkey-cluster://a:7000,b,[::1]:7001/", "a:7000 b:6379 [::1]:7001", "redis://x:1/0"),
        ("valkey-cluster://a", "a:6379", "redis://x:1/0"),
        ("valkeys-cluster://me:s3,c:r@a,b/?prefix=p:&replicas=2", "", ""),
        (
            "valkeys-cluster://me:secret@a:1,b:2/?ssl_cert_reqs=none",
            "a:1 b:2",
            "rediss://me:secret@x:1/0?ssl_cert_reqs=none",
        ),
    ],
)
async def test_a_cluster(url: str, seeds: str, node_url: str) -> None:
    store = open_store(url)
    assert isinstance(store, ClusterStore)
    await store.close()
    if seeds:
        hosts, _, rest = url.partition("://")[2].partition("/")
        address = read_address("rediss" if "valkeys" in url else "redis", hosts, "", rest.removeprefix("?"))
        assert " ".join(map(str, address.seeds)) == seeds
        assert address.node_url(Address("x", 1)) == node_url


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("valkey-cluster://", "has an empty host"),
        ("valkey-cluster://a,/", "has an empty host"),
        ("valkey-cluster://a:port,b/", "not valid"),
        ("valkey-cluster://a,b/1", "a cluster has no databases"),
        ("valkey-cluster://a,b/?socket_timeout=soon", "not valid for Redis"),
        ("valkey-cluster://a,b/?replica=1", "not valid for Redis .*'replica'"),
        ("valkey-cluster://a,b/?replicas=some", "replicas must be a number"),
        ("valkey-cluster://a,b/?prefix={all}:", "all sessions on one node"),
        ("valkey://a,b/", "valkey-cluster://"),
        ("redis://host?replicas=-1", "replicas must be a number"),
        ("memory://?replicas=1", "takes no host, path or options"),
        ("file:///tmp/x.db?replicas=1", "takes synchronous and max_bytes"),
        ("", "not one of memory://"),
        ("/var/lib/sessions.db", "not one of memory://"),
        ("mysql://host", "not one of memory://"),
        ("memory://x", "takes no host, path or options"),
        ("file://", "has no file"),
        ("file://relative/path", "has no file"),
        ("file:///", "has no file"),
        ("file:///tmp/x.db?nothing=1", "takes synchronous and max_bytes"),
        ("file:///tmp/x.db?synchronous=off", "synchronous must be full or normal"),
        ("file:///tmp/x.db?max_bytes=many", "max_bytes must be a number"),
        ("redis://", "has no host"),
        ("redis://host:port", "not valid"),
        ("redis://host?socket_timeout=soon", "not valid for Redis"),
        ("redis://host?replica=1", "not valid for Redis .*'replica'"),
    ],
)
def test_what_is_no_store_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(StoreUnusable, match=sentence):
        open_store(url)


def test_a_password_is_not_shown() -> None:
    assert redacted("redis://user:secret@host:1/0") == "redis://user:***@host:1/0"
    assert redacted("redis://:secret@host") == "redis://:***@host"
    assert redacted("redis://host") == "redis://host"
    assert redacted("valkey-cluster://me:secret@a:1,b:2/") == "valkey-cluster://me:***@a:1,b:2/"
    with pytest.raises(StoreUnusable) as caught:
        open_store("mysql://user:secret@host")
    assert "secret" not in str(caught.value)
