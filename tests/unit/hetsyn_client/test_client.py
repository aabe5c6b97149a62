from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import ServiceProblem, ServiceUnreachable
from hetsyn_client.sources.files import recording_chunks
from tests.support.data.signals import sound
from tests.support.data.wav import wav

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, pauses: list[float] | None = None) -> StreamingClient:
    sleep = pauses.append if pauses is not None else lambda _: None
    return StreamingClient("http://server", network=httpx.MockTransport(handler), sleep=sleep)


class EchoServer:
    """Answers every request with its query, after so many broken connections."""

    def __init__(self, breaks: int = 0) -> None:
        self.breaks = breaks
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if len(self.requests) <= self.breaks:
            raise httpx.ReadError("cut", request=request)
        return httpx.Response(200, json=dict(request.url.params))


def test_a_recording_is_streamed_in_numbered_chunks(tmp_path: Path) -> None:
    samples = sound(2100)
    (tmp_path / "a.wav").write_bytes(wav(samples.tobytes()))
    server = EchoServer()
    replies = []
    for reply in client(server).stream_file(tmp_path / "a.wav", 0.1, model="digits"):
        replies.append(reply)
        assert len(server.requests) == len(replies)  # each is sent when its reply is asked for
    assert [str(reply["seq"]) for reply in replies] == ["0", "1", "2"]
    assert [str(reply["end"]) for reply in replies] == ["false", "false", "true"]
    assert len({reply["session"] for reply in replies}) == 1
    assert [chunk.until_s for chunk in recording_chunks(tmp_path / "a.wav")] == pytest.approx([0.1, 0.2, 0.2625])
    sent = b"".join(request.content for request in server.requests)
    np.testing.assert_array_equal(np.frombuffer(sent, "<i2"), samples)


def test_a_numbered_chunk_is_sent_again_when_the_connection_breaks() -> None:
    server, pauses = EchoServer(breaks=2), list[float]()
    client(server, pauses).infer_chunk(np.zeros(3, np.int16), 8000, session="a", seq=1)
    assert len({request.content for request in server.requests}) == 1
    assert len({request.url for request in server.requests}) == 1
    assert len(server.requests) == 3
    assert pauses == [0.1, 0.2]


@pytest.mark.parametrize(
    ("session", "seq", "tries"), [("a", 1, 6), ("a", None, 1), (None, 0, 1)], ids=["numbered", "unnumbered", "unnamed"]
)
def test_it_gives_up(session: str | None, seq: int | None, tries: int) -> None:
    server = EchoServer(breaks=99)
    with pytest.raises(ServiceUnreachable, match=r"http://server: cut.*hetsyn serve"):
        client(server).infer_chunk(np.zeros(3, np.int16), 8000, session=session, seq=seq)
    assert len(server.requests) == tries


def test_a_problem_carries_what_the_server_said() -> None:
    problem = {"detail": "send seq 4 next", "expected_seq": 4}

    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(409, content=json.dumps(problem), headers={"Retry-After": "2"})

    with pytest.raises(ServiceProblem, match=r"refused \(409\): send seq 4 next") as caught:
        client(refuse).infer_chunk(np.zeros(3, np.int16), 8000, session="a", seq=9)
    assert (caught.value.status, caught.value.expected_seq, caught.value.retry_after_s) == (409, 4, 2.0)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b""])
def test_a_reply_of_something_else_is_a_problem_too(content: bytes) -> None:
    with pytest.raises(ServiceProblem, match=r"\(502\): Bad Gateway"):
        client(lambda _: httpx.Response(502, content=content)).infer_chunk(np.zeros(3, np.int16), 8000)


@pytest.mark.parametrize(("seq", "tries"), [(1, 6), (None, 1)], ids=["numbered", "unnumbered"])
def test_a_numbered_chunk_is_sent_again_when_the_server_says_later(seq: int | None, tries: int) -> None:
    requests, pauses = list[httpx.Request](), list[float]()

    def busy(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(503, json={"detail": "the session store failed"}, headers={"Retry-After": "2"})

    with pytest.raises(ServiceProblem, match="store failed") as caught:
        client(busy, pauses).infer_chunk(np.zeros(3, np.int16), 8000, session="a", seq=seq)
    assert caught.value.retry_after_s == 2
    assert len(requests) == tries
    assert pauses == [2.0] * (tries - 1)


def test_a_server_that_is_full_for_minutes_is_a_problem_at_once() -> None:
    pauses = list[float]()
    full = httpx.Response(503, json={"detail": "10000 sessions are open"}, headers={"Retry-After": "540"})
    with pytest.raises(ServiceProblem, match="sessions are open") as caught:
        client(lambda _: full, pauses).infer_chunk(np.zeros(3, np.int16), 8000, session="a", seq=0)
    assert (caught.value.retry_after_s, pauses) == (540, [])


@pytest.mark.parametrize("status", [502, 504])
def test_a_server_that_a_proxy_lost_is_a_broken_connection(status: int) -> None:
    bad_gateway, pauses = httpx.Response(status, content=b"<html>"), list[float]()
    answers = [bad_gateway, bad_gateway, httpx.Response(200, json={"seq": 1})]
    with client(lambda _: answers.pop(0), pauses) as streaming:
        assert streaming.infer_chunk(np.zeros(3, np.int16), 8000, session="a", seq=1)["seq"] == 1
    assert pauses == [0.1, 0.2]


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"", b"\xff"])
def test_a_success_that_no_server_of_ours_sends_says_so(content: bytes) -> None:
    with client(lambda _: httpx.Response(200, content=content)) as other:
        with pytest.raises(ServiceUnreachable, match="not as 'hetsyn serve' does"):
            other.infer_chunk(np.zeros(3, np.int16), 8000)
        with pytest.raises(ServiceUnreachable, match="not as 'hetsyn serve' does"):
            other.describe()


def test_a_body_that_cannot_be_unpacked_is_a_broken_connection() -> None:
    def damaged(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"none"))

    with pytest.raises(ServiceUnreachable, match="decompressing"):
        client(damaged).infer_chunk(np.zeros(3, np.int16), 8000)
