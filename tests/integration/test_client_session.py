"""``StreamingClient.session`` against a real server, and the example that the README shows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import ServiceProblem
from tests.support.paths import MODELS, RECORDINGS, ROOT
from tests.support.socket_server import running


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(MODELS) as url:
        yield url


def recording(name: str) -> np.ndarray:
    return np.frombuffer((RECORDINGS / name).read_bytes()[44:], "<i2")


def test_a_session_ends_with_the_answer_to_the_whole_recording(url: str) -> None:
    with StreamingClient(url) as client:
        whole = client.infer_chunk(recording("seven.wav"), 8000, end=True, model="speech-digits")
        with client.session(model="speech-digits") as session:
            for chunk in np.array_split(recording("seven.wav"), 3):
                session.send(chunk, 8000)
            reply = session.end()
    assert (reply["seq"], reply["end"], reply["label"]) == (3, True, "seven")
    assert reply["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-6)
    assert reply["total_steps"] == whole["total_steps"]


def test_a_session_of_events_ends(url: str) -> None:
    with StreamingClient(url) as client, client.session(model="shd-size") as session:
        session.send_events(25, np.array([0, 3]), np.array([17, 204]))
        reply = session.end()
    assert (reply["seq"], reply["end"], reply["total_steps"]) == (1, True, 25)


def test_a_session_that_is_left_is_gone_from_the_server(url: str) -> None:
    with StreamingClient(url) as client, client.session(model="speech-digits") as session:
        session.send(recording("seven.wav"), 8000)
        assert httpx.get(f"{url}/sessions/{session.id}").json()["expected_seq"] == 1
    assert httpx.get(f"{url}/sessions/{session.id}").status_code == 404


def test_a_session_that_does_not_exist_cannot_be_dropped(url: str) -> None:
    with StreamingClient(url) as client, pytest.raises(ServiceProblem) as caught:
        client.drop("a/../b")
    assert caught.value.status == 404


def test_the_example_of_two_chunks(url: str) -> None:
    command = [sys.executable, str(ROOT / "examples/stream_two_chunks.py"), str(RECORDINGS / "seven.wav"), url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("after chunk 1: seven (")
