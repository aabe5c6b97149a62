"""A server for the tests of the Redis store, one for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.relay import Relay
from benchmarks.server_process import free_port
from benchmarks.valkey import BINARY, MISSING, ValkeyServer


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    if BINARY is None:
        pytest.skip(MISSING)
    folder: Path = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(folder) as server:
        yield server


@pytest.fixture
def relay(valkey: ValkeyServer) -> Iterator[Relay]:
    """In front of it."""
    relay = Relay(free_port(), valkey.port)
    relay.start()
    yield relay
    relay.close()
