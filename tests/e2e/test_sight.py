"""What a real server tells: lines of JSON from its start to its end, and metrics."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.clients.http_calls import metric
from tests.support.clients.json_input import events
from tests.support.paths import ROOT
from tests.support.servers.server_process import ENDED, free_port, serve_command, wait_until_ready

pytestmark = pytest.mark.process

SESSIONS = 12
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_every_line_of_a_server_is_json_and_names_its_request(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    command = serve_command(port, "--log-format=json", "--log-level=debug")
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(url, process)
        with httpx.Client(base_url=url, timeout=60) as client:
            for number in range(SESSIONS):
                body = {"model": "pattern-generation", "session": f"s{number}", "seq": 0, "input": events(3)}
                headers = {"X-Request-ID": f"r{number}", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
                response = client.post("/infer", json=body, headers=headers)
                assert response.status_code == 200, response.text
                assert response.headers.get_list("x-request-id") == [f"r{number}"]
            text = client.get("/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in ENDED
    finally:
        process.kill()
        process.wait()
    labels = '{model="pattern-generation",transport="http"}'
    for part in ("request", "queue", "engine"):
        assert metric(text, f"hetsyn_{part}_seconds_count{labels}") == SESSIONS
    assert (
        metric(text, 'hetsyn_request_seconds_bucket{le="+Inf",model="pattern-generation",transport="http"}') == SESSIONS
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    answered_lines = [line for line in lines if '"POST /infer' in line["message"]]
    assert [(line["request_id"], line["trace_id"]) for line in answered_lines] == [
        (f"r{number}", TRACE) for number in range(SESSIONS)
    ]
    assert any(line["message"].startswith("models: ") for line in lines)
