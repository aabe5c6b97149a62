"""Server processes that are killed, stopped and restarted in the middle of a stream, on stores that stay."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.clients.json_input import Json
from tests.support.clients.recording_stream import TIMEOUT_S, persist, pieces, send, stream
from tests.support.paths import ROOT
from tests.support.servers.server_process import ENDED, STOP_TIMEOUT_S, RestartableServer, free_port, serve_command
from tests.support.stores.valkey import ValkeyServer
from tests.support.tools import require_valkey

pytestmark = pytest.mark.process


def undisturbed(url: str, chunks: list[bytes], session: str) -> list[Json]:
    return [reply | {"session": session} for reply in stream(url, "calm", chunks)]


@pytest.fixture(params=["file", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/sessions.db"
        return
    require_valkey()
    with ValkeyServer(tmp_path) as server:
        yield server.url


def test_a_killed_server_loses_no_acknowledged_chunk_and_applies_none_twice(store: str) -> None:
    chunks = pieces()
    assert len(chunks) >= 9
    replica = RestartableServer("--store", store, "--log-level", "warning")
    try:
        replica.ready()
        expected = undisturbed(replica.url, chunks, "shaken")
        for n in range(len(chunks)):
            if n in (3, 6):
                # killed with the chunk under way, which may be applied, or not
                sent = threading.Thread(target=_send_and_forget, args=(replica.url, n, chunks))
                sent.start()
                replica.kill()
                sent.join()
                replica.restart()
            assert stream(replica.url, "shaken", chunks, range(n, n + 1)) == [expected[n]]
        # the very last reply survives too
        replica.kill()
        replica.restart()
        again = persist(lambda: send(replica.url, "shaken", len(chunks) - 1, chunks))
        assert again == expected[-1]
        assert again["label"] == "seven"
    finally:
        replica.stop()


def _send_and_forget(url: str, seq: int, chunks: list[bytes]) -> None:
    with suppress(httpx.TransportError):
        send(url, "shaken", seq, chunks)


def test_chunks_that_alternate_between_two_servers_get_one_server_s_answers(store: str) -> None:
    chunks = pieces()
    options = ("--store", store, "--log-level", "warning")
    replicas = [RestartableServer(*options), RestartableServer(*options)]
    try:
        for replica in replicas:
            replica.ready()
        expected = undisturbed(replicas[0].url, chunks, "shared")
        for n in range(len(chunks)):
            for replica in (replicas[n % 2], replicas[(n + 1) % 2]):  # the second is a duplicate
                assert stream(replica.url, "shared", chunks, range(n, n + 1)) == [expected[n]]
    finally:
        for replica in replicas:
            replica.stop()


def test_sigterm_lets_readiness_fall_first_and_then_finishes(tmp_path: Path) -> None:
    chunks = pieces()
    replica = RestartableServer("--store", f"file://{tmp_path}/sessions.db", "--drain-s", "600")
    try:
        replica.ready()
        first = persist(lambda: send(replica.url, "a", 0, chunks))
        replica.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + TIMEOUT_S
        while httpx.get(f"{replica.url}/health/ready").status_code != 503:
            assert time.monotonic() < deadline_s
        # not ready, and serving on
        second = persist(lambda: send(replica.url, "a", 1, chunks))
        assert (first["seq"], second["seq"]) == (0, 1)
        replica.process.send_signal(signal.SIGTERM)  # the second does not wait
        assert replica.process.wait(timeout=STOP_TIMEOUT_S) in ENDED
        replica.restart()
        assert persist(lambda: send(replica.url, "a", 1, chunks)) == second
        assert persist(lambda: send(replica.url, "a", 2, chunks))["seq"] == 2
    finally:
        replica.kill()


def test_a_damaged_store_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    done = subprocess.run(
        serve_command(free_port(), "--store", f"file://{path}"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") <= 3
    assert "hetsyn: " in done.stderr
    assert "sessions.db" in done.stderr


class PartialUpload:
    """A chunk whose body is sent in parts, over a connection of its own."""

    def __init__(self, replica: RestartableServer, session: str, seq: int, body: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", replica.port), timeout=60)
        self._body = body
        self._socket.sendall(
            f"POST /infer?session={session}&seq={seq} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: audio/pcm;encoding=pcm_s16le;rate=8000\r\n\r\n".encode()
        )

    def send(self, count: int) -> None:
        part, self._body = self._body[:count], self._body[count:]
        self._socket.sendall(part)

    def answer(self) -> tuple[int, Json]:
        self.send(len(self._body))
        return self.response()

    def response(self) -> tuple[int, Json]:
        with self._socket, self._socket.makefile("rb") as file:
            status = int(file.readline().split()[1])
            length = 0
            while (line := file.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body: Json = json.loads(file.read(length))
            return status, body


def until(metric: str, value: float, url: str) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while f"\n{metric} {value:.1f}\n" not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_sigterm_finishes_the_chunk_that_is_under_way_and_waits_for_none_that_trickles(tmp_path: Path) -> None:
    chunks = pieces()
    replica = RestartableServer("--store", f"file://{tmp_path}/sessions.db", "--drain-s", "600")
    try:
        replica.ready()
        persist(lambda: send(replica.url, "a", 0, chunks))
        under_way, trickles = PartialUpload(replica, "a", 1, chunks[1]), PartialUpload(replica, "b", 0, chunks[0])
        for upload in (under_way, trickles):
            upload.send(10)
        until("hetsyn_uploads", 2, replica.url)
        replica.process.send_signal(signal.SIGTERM)
        until("hetsyn_ready", 0, replica.url)
        replica.process.send_signal(signal.SIGTERM)  # the second does not wait
        deadline_s = time.monotonic() + TIMEOUT_S
        while send(replica.url, "c", 0, chunks).status_code != 503:  # from now on it takes no more
            assert time.monotonic() < deadline_s
        status, reply = under_way.answer()
        assert (status, reply["seq"]) == (200, 1), reply
        trickles.send(10)
        status, problem = trickles.response()
        assert (status, problem["type"]) == (503, "urn:hetsyn:problem:shutting-down")
        assert replica.process.wait(timeout=STOP_TIMEOUT_S) in ENDED
        replica.restart()
        assert persist(lambda: send(replica.url, "a", 1, chunks)) == reply  # it was committed
        assert send(replica.url, "b", 1, chunks).status_code == 404
    finally:
        replica.kill()
