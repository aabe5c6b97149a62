"""Server processes for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.json_input import Json
from tests.support.recording_stream import pieces, stream
from tests.support.server_process import RestartableServer
from tests.support.workers import WorkersServer


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = RestartableServer()
    try:
        server.ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def workers_server() -> Iterator[WorkersServer]:
    server = WorkersServer()
    try:
        server.ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def expected() -> list[Json]:
    """The replies of one process."""
    alone = RestartableServer()
    try:
        alone.ready()
        return [reply | {"session": ""} for reply in stream(alone.url, "alone", pieces())]
    finally:
        alone.stop()
