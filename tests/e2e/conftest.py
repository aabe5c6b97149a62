"""Server processes for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server_process import RestartableServer


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = RestartableServer()
    try:
        server.ready()
        yield server.url
    finally:
        server.stop()
