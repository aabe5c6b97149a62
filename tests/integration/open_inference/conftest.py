"""One server for the tests of a file; they use sequences of their own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.support.clients.open_inference import Live, live_server
from tests.support.tools import NO_TRITONCLIENT


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if find_spec("tritonclient") is None or find_spec("grpc_health") is None:
        pytest.skip(NO_TRITONCLIENT)
    with live_server(tmp_path_factory.mktemp("models")) as server:
        yield server
