"""``StreamingClient.session``: the numbers of chunks, ends, and what a session leaves on the server."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from hetsyn_client.carried_frame import MEDIA_TYPE as CARRIED_TYPE
from hetsyn_client.carried_frame import pack_frame, unpack_frame
from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import InputError, ServiceProblem

SILENCE = np.zeros(800, np.int16)


class ScriptedServer:
    """Answers a chunk with its query, and a carried one with a token that counts; ``answers`` come first."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self._answers:
            return self._answers.pop(0)
        if request.method == "DELETE":
            return httpx.Response(204)
        query = dict(request.url.params)
        if request.headers["Content-Type"] == CARRIED_TYPE:
            token = unpack_frame(request.content).token + b"+"
            body = httpx.Response(200, json=query).content
            return httpx.Response(200, content=pack_frame(token, "application/json", body))
        return httpx.Response(200, json=query)

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Method, number and end of each request."""
        return [(r.method, r.url.params.get("seq", ""), r.url.params.get("end", "")) for r in self.requests]


def client(server: ScriptedServer) -> StreamingClient:
    return StreamingClient("http://server", network=httpx.MockTransport(server), sleep=lambda _: None)


def test_chunks_are_numbered_and_the_end_sends_nothing_more() -> None:
    server = ScriptedServer()
    with client(server).session(model="digits", version="2") as session:
        reply = session.send(SILENCE, 8000)
        session.send(SILENCE, 8000)
        session.end()
    named = {"session": session.id, "model": "digits", "version": "2"}
    assert dict(reply) == named | {"seq": "0", "end": "false"}
    assert server.calls == [("POST", "0", "false"), ("POST", "1", "false"), ("POST", "2", "true")]
    assert [len(request.content) for request in server.requests] == [1600, 1600, 0]
    assert {request.headers["Content-Type"] for request in server.requests} == {
        "audio/pcm;encoding=pcm_s16le;rate=8000"
    }
    assert session.seq == 3


def test_values_are_sent_as_arrays_or_lists() -> None:
    server = ScriptedServer()
    with client(server).session() as session:
        session.send_values(np.array([[1, -2.5]]))
        session.send_values([[0.5, 3], [4, 5]])
        session.end()
    sent = [np.frombuffer(request.content, "<f4").tolist() for request in server.requests]
    assert sent == [[1, -2.5], [0.5, 3, 4, 5], []]
    assert {request.headers["Content-Type"] for request in server.requests} == {
        "application/vnd.hetsyn.values;channels=2"
    }


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1.0, 2.0], r"have shape \[2\].*send numbers \[steps, channels\]"),
        (np.zeros((3, 0)), "have shape"),
        ([["1", "2"]], "send numbers"),
        ([[1, 2], [3]], "send one row a step"),
        ([[1j]], "no matrix of numbers|send numbers"),
        ([[0, 1], [2, float("nan")]], r"values\[1\]\[1\] is nan: send finite numbers"),
        ([[1e39]], r"values\[0\]\[0\] is 1e\+39: send finite numbers that float32 can hold"),
    ],
)
def test_values_that_are_no_matrix_of_numbers_are_not_sent(values: Any, sentence: str) -> None:
    server = ScriptedServer()
    with client(server).session() as session, pytest.raises(InputError, match=sentence):
        session.send_values(values)
    assert not server.requests


def fail_within_a_session(server: ScriptedServer) -> None:
    with client(server).session() as session:
        session.send(SILENCE, 8000)
        raise KeyError(session.id)


@pytest.mark.parametrize("status", [204, 500])
def test_a_session_left_before_its_end_is_deleted_and_hides_no_error(status: int) -> None:
    server = ScriptedServer(httpx.Response(200, json={}), httpx.Response(status))
    with pytest.raises(KeyError) as caught:
        fail_within_a_session(server)
    assert [call[0] for call in server.calls] == ["POST", "DELETE"]
    assert server.requests[1].url.path == f"/sessions/{caught.value.args[0]}"


def test_a_session_without_a_chunk_was_never_opened() -> None:
    server = ScriptedServer()
    with client(server).session() as session, pytest.raises(InputError, match="no chunk yet"):
        session.end()
    assert server.requests == []


def test_a_chunk_that_was_refused_keeps_its_number() -> None:
    server = ScriptedServer(httpx.Response(422, json={"detail": "too long"}))
    with client(server).session() as session:
        with pytest.raises(ServiceProblem, match="too long"):
            session.send(SILENCE, 8000)
        assert session.seq == 0
        session.send(SILENCE, 8000, end=True)
    assert server.calls == [("POST", "0", "false"), ("POST", "0", "true")]


def test_a_carried_session_takes_its_token_along_and_leaves_nothing() -> None:
    server = ScriptedServer()
    with client(server).session(carry=True) as session:
        replies = [session.send(SILENCE, 8000) for _ in range(3)]
    assert [reply["token"] for reply in replies] == [b"+", b"++", b"+++"]
    assert [unpack_frame(request.content).token for request in server.requests] == [b"", b"+", b"++"]


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.array([0.5]), "32767"),
        (np.array([40_000]), "more than 16 bits"),
        (np.array([40_000], np.uint16), "more than 16 bits"),
        (np.zeros((5, 2), np.int16), r"shape \[5, 2\]: give one channel"),
        (np.array(["1"]), "give 16-bit integers"),
        (np.array([True]), "give 16-bit integers"),
    ],
)
def test_samples_that_would_become_noise_are_refused(samples: NDArray[Any], sentence: str) -> None:
    with client(ScriptedServer()).session() as session, pytest.raises(InputError, match=sentence):
        session.send(samples, 8000)
