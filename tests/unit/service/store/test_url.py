from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import StoreUnusable
from service.store.file import FileStore
from service.store.redis import RedisStore
from service.store.url import open_store, redacted


def test_memory_is_no_store() -> None:
    assert open_store("memory://") is None


@pytest.mark.parametrize(
    "url", ["file://{path}", "sqlite://{path}", "file://{path}?synchronous=normal", "file://{path}?max_bytes=1000000"]
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
    ("url", "sentence"),
    [
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
    ],
)
def test_what_is_no_store_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(StoreUnusable, match=sentence):
        open_store(url)


def test_a_password_is_not_shown() -> None:
    assert redacted("redis://user:secret@host:1/0") == "redis://user:***@host:1/0"
    assert redacted("redis://:secret@host") == "redis://:***@host"
    assert redacted("redis://host") == "redis://host"
    with pytest.raises(StoreUnusable) as caught:
        open_store("mysql://user:secret@host")
    assert "secret" not in str(caught.value)
