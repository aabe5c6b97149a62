"""Server processes that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers.server_process import RestartableServer


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of all tests that start, stop and configure none, with a store in a file."""
    server = RestartableServer("--store", f"file://{tmp_path_factory.mktemp('shared')}/sessions.db")
    try:
        server.ready()
        yield server.url
    finally:
        server.stop()
