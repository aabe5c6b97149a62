"""Opens a store from its URL.

memory://                                    no store: sessions end with the process
file:///var/lib/hetsyn/sessions.db           SQLite
    ?synchronous=normal                      do not wait for the disk (default full)
    ?max_bytes=1000000000                    limit the file's size
valkey://host:6379/0                         Valkey or Redis; valkeys:// with TLS; also redis:// and rediss://
    ?prefix=hetsyn:session:                  prefix of the keys
    ?replicas=1                              replicas that must have a change before it counts (default 0)
valkey-cluster://host:6379,host:6379/        Valkey or Redis Cluster; valkeys-cluster:// with TLS;
                                             options of one server
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from service.clock import Clock, Executors
from service.errors import StoreUnusable
from service.store.base import StateStore
from service.store.database import Connect
from service.store.file import FileStore

MEMORY = "memory://"
_CLUSTER_SCHEMES = {"valkey-cluster": "redis", "valkeys-cluster": "rediss"}
_REDIS_SCHEMES = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}


def open_store(
    url: str,
    timeout_s: float = 2.0,
    wall: Clock = time.time,
    executors: Executors = ThreadPoolExecutor,
    connect: Connect = sqlite3.connect,
) -> StateStore | None:
    """Open the store of a URL; None for ``memory://``.

    Args:
        timeout_s: time limit for one batch.
        wall, executors, connect: as of ``FileStore``.

    Raises:
        StoreUnusable: the scheme or a parameter is unknown, or the file cannot be used.
        ModuleNotFoundError: redis-py is not installed.
    """
    try:
        parts = _split(url)
        if parts.scheme not in _CLUSTER_SCHEMES:  # a cluster has several hosts
            _ = parts.port  # raises if it is no port
    except ValueError as error:
        raise StoreUnusable(f"the store's URL is not valid ({error})") from error
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "memory":
        if url != MEMORY:
            raise StoreUnusable(f"the store {redacted(url)!r}: memory:// takes no host, path or options")
        return None
    if parts.scheme == "file":
        make = partial(FileStore, timeout_s=timeout_s, wall=wall, executors=executors, connect=connect)
        return _file_store(url, unquote(parts.path) if not parts.netloc else "", query, make)
    if parts.scheme in _REDIS_SCHEMES:
        if not parts.hostname:
            raise StoreUnusable(f"the store {redacted(url)!r}: has no host: write it as valkey://127.0.0.1:6379/0")
        if "," in parts.hostname:
            raise StoreUnusable(
                f"the store {redacted(url)!r}: has several hosts: a cluster is valkey-cluster://host,host/"
            )
        from service.store.redis.server import PREFIX, RedisStore  # redis-py is an extra

        prefix, replicas = query.pop("prefix", PREFIX), _replicas(url, query)
        address = urlunsplit((_REDIS_SCHEMES[parts.scheme], parts.netloc, parts.path, urlencode(query), ""))
        return RedisStore(address, timeout_s=timeout_s, prefix=prefix, replicas=replicas)
    if parts.scheme in _CLUSTER_SCHEMES:
        from service.store.redis.cluster import ClusterStore, read_address
        from service.store.redis.server import PREFIX

        prefix, replicas = query.pop("prefix", PREFIX), _replicas(url, query)
        nodes = read_address(_CLUSTER_SCHEMES[parts.scheme], parts.netloc, parts.path, urlencode(query))
        return ClusterStore(nodes, timeout_s=timeout_s, prefix=prefix, replicas=replicas)
    raise StoreUnusable(
        f"the store {redacted(url)!r} is not one of memory://, file:///path, valkey://host and "
        "valkey-cluster://host,host/; valkeys:// and valkeys-cluster:// use TLS"
    )


def redacted(url: str) -> str:
    """Return the URL without its password, for messages and logs."""
    parts = _split(url)
    if not parts.password:
        return url
    user_info, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user_info.partition(':')[0]}:***@{host}"))


def _split(url: str) -> SplitResult:
    """Split a URL. ``urlsplit`` of Python 3.13 refuses several hosts if one is an IPv6 address."""
    scheme, _, rest = url.partition("://")
    if scheme not in _CLUSTER_SCHEMES:
        return urlsplit(url)
    hosts = re.split("[/?#]", rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}://{rest.removeprefix(hosts)}")._replace(netloc=hosts)


def _replicas(url: str, query: dict[str, str]) -> int:
    text = query.pop("replicas", "0")
    if not (text.isascii() and text.isdecimal()):
        raise StoreUnusable(f"the store {redacted(url)!r}: replicas must be a number")
    return int(text)


def _file_store(url: str, path: str, query: dict[str, str], make: Callable[..., FileStore]) -> FileStore:
    if not path or path == "/":
        raise StoreUnusable(f"the store {url!r}: has no file: write it as file:///var/lib/hetsyn/sessions.db")
    synchronous = query.pop("synchronous", "full")
    max_bytes = query.pop("max_bytes", None)
    if query:
        raise StoreUnusable(f"the store {url!r}: a file takes synchronous and max_bytes, not {next(iter(query))!r}")
    if synchronous not in ("full", "normal"):
        raise StoreUnusable(f"the store {url!r}: synchronous must be full or normal")
    if max_bytes is not None and not (max_bytes.isascii() and max_bytes.isdecimal() and int(max_bytes)):
        raise StoreUnusable(f"the store {url!r}: max_bytes must be a number of bytes")
    return make(
        Path(path),
        synchronous="full" if synchronous == "full" else "normal",
        max_bytes=int(max_bytes) if max_bytes else None,
    )
