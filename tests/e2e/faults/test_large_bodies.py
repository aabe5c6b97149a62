"""The largest JSON bodies, wrong and valid ones, take little memory of a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.infer import MAX_JSON_BYTES
from tests.support.hostile.json_bombs import DECODED, REFUSED
from tests.support.servers.server_process import RestartableServer

LENGTH = MAX_JSON_BYTES - 1_000
MOST_MIB = 50

pytestmark = [pytest.mark.process, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@pytest.fixture(scope="module")
def server() -> Iterator[RestartableServer]:
    server = RestartableServer()
    server.ready()
    yield server
    server.stop()


def memory_mib(server: RestartableServer, name: str) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def posted(server: RestartableServer, body: bytes) -> tuple[httpx.Response, float]:
    """The response to a body, and by how much the server's peak of memory was above its memory before."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before_mib = memory_mib(server, "VmRSS")
    response = httpx.post(
        f"{server.url}/infer", content=body, headers={"Content-Type": "application/json"}, timeout=60.0
    )
    return response, memory_mib(server, "VmHWM") - before_mib


def in_level_2(*names: str) -> Callable[[str], Any]:
    """Parameters of these names as they are; the others at night."""
    return lambda name: name if name in names else pytest.param(name, marks=pytest.mark.long)


SOME_REFUSED = in_level_2("a late string", "bits are objects", "many fields", "nested arrays")
SOME_DECODED = in_level_2("events", "bits of 1")


@pytest.mark.parametrize("name", [*map(SOME_REFUSED, REFUSED)])
def test_a_body_that_is_refused_takes_little_memory(server: RestartableServer, name: str) -> None:
    make, sentence = REFUSED[name]
    response, peak_mib = posted(server, make(LENGTH))
    assert response.status_code == 422
    assert sentence in response.json()["detail"]
    assert peak_mib < MOST_MIB, peak_mib


@pytest.mark.parametrize("name", [*map(SOME_DECODED, DECODED)])
def test_a_body_that_is_decoded_takes_little_memory(server: RestartableServer, name: str) -> None:
    response, peak_mib = posted(server, DECODED[name](LENGTH))
    assert response.status_code == 200, response.text
    assert peak_mib < MOST_MIB, peak_mib
