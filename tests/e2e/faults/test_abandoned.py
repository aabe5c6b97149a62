"""A burst of long chunks whose clients go at once, against a real server process."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import struct
import subprocess
import time

import httpx
import pytest

from hetsyn_client.events import MEDIA_TYPE
from tests.support.clients.http_calls import metric
from tests.support.paths import ROOT
from tests.support.servers.server_process import ENDED, free_port, serve_command, wait_until_ready

pytestmark = pytest.mark.process

BURST = 200
LONG_STEPS = 20_000
SLOW = {**os.environ, "HETSYN_OPERATORS": "off"}  # such a chunk takes seconds
SOON_S = 60.0  # on a busy machine; that the burst was dropped, and not computed, its steps show


def events(steps: int) -> bytes:
    """A chunk without a spike: 12 bytes."""
    return struct.pack("<4sII", b"HSE1", steps, 0)


def long_request(session: str) -> bytes:
    head = (
        f"POST /infer?session={session}&seq=0&model=shd-size&end=true HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: 12\r\n\r\n"
    )
    return head.encode() + events(LONG_STEPS)


def send(port: int, session: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(long_request(session))
    return connection


def until(client: httpx.Client, in_flight: int) -> None:
    deadline_s = time.monotonic() + SOON_S
    while metric(client.get("/metrics").text, "hetsyn_requests_in_flight") != in_flight:
        assert time.monotonic() < deadline_s, f"not {in_flight} requests in flight"
        time.sleep(0.01)


def test_a_burst_of_abandoned_chunks_leaves_nothing_behind() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = serve_command(port, "--client-share=1", "--set=max_waiting_steps=10000000")
    process = subprocess.Popen(command, cwd=ROOT, env=SLOW)
    try:
        wait_until_ready(url, process)
        with httpx.Client(base_url=url) as client:
            for number in range(BURST):
                send(port, f"x{number}").close()
            until(client, 0)
            took_s = []
            for _ in range(20):
                began_s = time.monotonic()
                reply = client.post(
                    "/infer?session=good&seq=0", content=events(1), headers={"Content-Type": MEDIA_TYPE}
                )
                assert reply.status_code == 200
                took_s.append(time.monotonic() - began_s)
            assert statistics.median(took_s) < 2.0  # a chunk of the burst takes longer
            text = client.get("/metrics").text
            assert metric(text, 'hetsyn_chunks_total{outcome="abandoned"}') > BURST / 2
            assert metric(text, "hetsyn_steps_total") < BURST * LONG_STEPS / 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SOON_S) in ENDED
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", ["time is over", "second signal"])
def test_a_server_that_ends_refuses_what_it_does_not_finish_in_time(how: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    finish_s = "0.2" if how == "time is over" else "3600"
    options = (f"--finish-s={finish_s}", "--client-share=1", "--set=max_waiting_steps=10000000")
    process = subprocess.Popen(serve_command(port, *options), cwd=ROOT, env=SLOW)
    try:
        wait_until_ready(url, process)
        connections = [send(port, f"x{number}") for number in range(BURST)]  # a minute of work
        with httpx.Client(base_url=url) as client:
            until(client, BURST)
        process.send_signal(signal.SIGTERM)
        if how == "second signal":
            while httpx.get(f"{url}/health/ready").status_code == 200:  # the first one has not been handled yet
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
        answers = []
        for connection in connections:
            connection.settimeout(SOON_S)
            answers.append(connection.recv(4096))
            connection.close()
        assert process.wait(timeout=SOON_S) in ENDED
        refused = [answer for answer in answers if b"urn:hetsyn:problem:shutting-down" in answer]
        assert len(refused) > BURST / 2
        assert all(answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")) for answer in answers)
    finally:
        process.kill()
        process.wait()
