"""A server for the tests of the Redis store, one for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.valkey import BINARY, MISSING, ValkeyServer


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    if BINARY is None:
        pytest.skip(MISSING)
    folder: Path = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(folder) as server:
        yield server
