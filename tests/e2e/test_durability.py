"""Server processes that are killed, stopped and restarted in the middle of a stream, on stores that stay."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.server_process import free_port
from benchmarks.valkey import BINARY, MISSING, ValkeyServer
from service.wire.pcm import decode_wav
from tests.e2e.test_serving import serve_command, start, wait_until_ready
from tests.support.paths import ROOT

CHUNK_SAMPLES = 500
TIMEOUT_S = 120.0
Json = dict[str, Any]


def pieces() -> list[bytes]:
    samples, _ = decode_wav((ROOT / "docs/recordings/seven.wav").read_bytes())
    pcm = np.round(samples * 32_768.0).astype("<i2")
    return [pcm[begin : begin + CHUNK_SAMPLES].tobytes() for begin in range(0, len(pcm), CHUNK_SAMPLES)]


def send(url: str, session: str, seq: int, chunks: list[bytes]) -> httpx.Response:
    return httpx.post(
        f"{url}/infer",
        params={"session": session, "seq": seq, "end": seq == len(chunks) - 1},
        content=chunks[seq],
        headers={"Content-Type": "audio/L16;rate=8000;endianness=little-endian"},
        timeout=20,
    )


def persist(act: Callable[[], httpx.Response]) -> Json:
    """The reply, however often the chunk has to be sent; only what says "later" is sent again."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline_s, "no answer"
        try:
            response = act()
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        if response.status_code != 503:
            assert response.status_code == 200, response.text
            reply: Json = response.json()
            return reply
        time.sleep(0.02)


class Replica:
    """``hetsyn serve`` on a store, restarted on the same port."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self.process = start(self.port, *options)

    def ready(self) -> None:
        wait_until_ready(self.url, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = start(self.port, *self._options)
        self.ready()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=30) in (0, -signal.SIGTERM)


def undisturbed(url: str, chunks: list[bytes], session: str) -> list[Json]:
    return [persist(lambda n=n: send(url, "calm", n, chunks)) | {"session": session} for n in range(len(chunks))]  # type: ignore[misc]


@pytest.fixture(params=["file", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/sessions.db"
        return
    if BINARY is None:
        pytest.skip(MISSING)
    with ValkeyServer(tmp_path) as server:
        yield server.url


def test_a_killed_server_loses_no_acknowledged_chunk_and_applies_none_twice(store: str) -> None:
    chunks = pieces()
    assert len(chunks) >= 9
    replica = Replica("--store", store, "--log-level", "warning")
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
            assert persist(lambda n=n: send(replica.url, "shaken", n, chunks)) == expected[n]  # type: ignore[misc]
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
    replicas = [Replica(*options), Replica(*options)]
    try:
        for replica in replicas:
            replica.ready()
        expected = undisturbed(replicas[0].url, chunks, "shared")
        for n in range(len(chunks)):
            for replica in (replicas[n % 2], replicas[(n + 1) % 2]):  # the second is a duplicate
                assert persist(lambda r=replica, n=n: send(r.url, "shared", n, chunks)) == expected[n]  # type: ignore[misc]
    finally:
        for replica in replicas:
            replica.stop()


def test_sigterm_lets_readiness_fall_first_and_then_finishes(tmp_path: Path) -> None:
    chunks = pieces()
    replica = Replica("--store", f"file://{tmp_path}/sessions.db", "--drain-s", "60")
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
        assert replica.process.wait(timeout=30) in (0, -signal.SIGTERM)
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


class Upload:
    """A chunk whose body is sent in parts, over a connection of its own."""

    def __init__(self, replica: Replica, session: str, seq: int, body: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", replica.port), timeout=20)
        self._body = body
        self._socket.sendall(
            f"POST /infer?session={session}&seq={seq} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: audio/L16;rate=8000;endianness=little-endian\r\n\r\n".encode()
        )

    def send(self, count: int) -> None:
        part, self._body = self._body[:count], self._body[count:]
        self._socket.sendall(part)

    def answer(self) -> tuple[int, Json]:
        self.send(len(self._body))
        return self.hear()

    def hear(self) -> tuple[int, Json]:
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
    replica = Replica("--store", f"file://{tmp_path}/sessions.db", "--drain-s", "60")
    try:
        replica.ready()
        persist(lambda: send(replica.url, "a", 0, chunks))
        under_way, trickles = Upload(replica, "a", 1, chunks[1]), Upload(replica, "b", 0, chunks[0])
        for upload in (under_way, trickles):
            upload.send(10)
        until("hetsyn_requests_in_flight", 2, replica.url)
        replica.process.send_signal(signal.SIGTERM)
        until("hetsyn_ready", 0, replica.url)
        replica.process.send_signal(signal.SIGTERM)  # the second does not wait
        deadline_s = time.monotonic() + TIMEOUT_S
        while send(replica.url, "c", 0, chunks).status_code != 503:  # from now on it takes no more
            assert time.monotonic() < deadline_s
        status, reply = under_way.answer()
        assert (status, reply["seq"]) == (200, 1), reply
        trickles.send(10)
        status, problem = trickles.hear()
        assert (status, problem["type"]) == (503, "urn:hetsyn:problem:shutting-down")
        assert replica.process.wait(timeout=30) in (0, -signal.SIGTERM)
        replica.restart()
        assert persist(lambda: send(replica.url, "a", 1, chunks)) == reply  # it was committed
        assert send(replica.url, "b", 1, chunks).status_code == 404
    finally:
        replica.kill()
