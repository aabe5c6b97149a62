"""The end of a real server process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.support.paths import ROOT
from tests.support.servers.server_process import ENDED, free_port, serve_command, wait_until_ready

pytestmark = pytest.mark.process

DRAIN_S = 1.0
REQUESTS = 60


def test_a_client_that_reads_nothing_does_not_keep_a_server_from_its_end(tmp_path: Path) -> None:
    port, database, log = free_port(), tmp_path / "sessions.db", tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    command = serve_command(port, f"--store=file://{database}", f"--drain-s={DRAIN_S}")
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)
    try:
        wait_until_ready(url, process)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.settimeout(30.0)
            client.sendall(REQUESTS * long_answer())
            answered, before = 0.0, -1.0
            # the answers fill the sockets, and then no further request is answered
            while answered != before or not answered:
                time.sleep(0.5)
                answered, before = applied(url), answered
            assert 0 < answered < REQUESTS
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=DRAIN_S + 30.0) in ENDED
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert "Application shutdown complete" in text
    assert "Traceback" not in text
    assert database.exists()
    assert not database.with_name("sessions.db-wal").exists()  # SQLite removes it when the last connection is closed


def long_answer() -> bytes:
    spikes = {"kind": "events", "steps": 20_000, "times": [], "units": []}
    body = json.dumps({"model": "pattern-generation", "end": True, "input": spikes}).encode()
    head = f"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def applied(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith('hetsyn_chunks_total{outcome="applied"}'))
