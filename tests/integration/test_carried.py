"""Carried sessions through HTTP: two servers that share nothing but keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hetsyn_client.carried_frame import MEDIA_TYPE, pack_frame, unpack_frame
from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import ServiceProblem
from service.carried.carry_keys import CarryKeys
from service.models.catalog import ModelCatalog
from tests.support.artifacts.fake_graph import load_fake
from tests.support.clients.http_calls import is_problem, metric
from tests.support.clients.json_input import Json, audio, events
from tests.support.clock import Clock
from tests.support.data.signals import sound, spikes
from tests.support.data.sounds import frames, sound_file
from tests.support.data.wav import wav
from tests.support.product import make_app
from tests.support.servers.socket_server import serving

KEYS = [bytes(range(32))]
EVENTS = [events(10, n) for n in range(6)]


@contextmanager
def served(models: Path, keys: list[bytes] | None = KEYS, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server of its own, which shares nothing with others but keys."""
    carry_keys = None if keys is None else CarryKeys(keys)
    app = make_app(ModelCatalog(models, load=load_fake), models=models, keys=carry_keys, **options)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


class Alternating(httpx.BaseTransport):
    """Sends each request to the next of several servers; ``break_after``: and loses the answers to these."""

    def __init__(self, servers: list[httpx.Client], break_after: tuple[int, ...] = ()) -> None:
        self.servers = servers
        self.requests = 0
        self._break_after = break_after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        server = self.servers[self.requests % len(self.servers)]
        self.requests += 1
        path, headers = request.url.raw_path.decode(), dict(request.headers)
        answer = server.request(request.method, path, content=request.read(), headers=headers)
        if self.requests in self._break_after:
            raise httpx.ReadError("cut", request=request)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


def ordinary(server: httpx.Client) -> list[Json]:
    return [
        server.post("/infer", json={"session": "a", "seq": n, "end": n == 5, "input": chunk}).json()
        for n, chunk in enumerate(EVENTS)
    ]


def test_json_chunks_alternate_between_servers(models: Path) -> None:
    with served(models) as one, served(models) as other:
        token = None
        for n, (chunk, expected) in enumerate(zip(EVENTS, ordinary(one), strict=True)):
            body = {"session": "a", "end": n == 5, "input": chunk}
            body |= {"carry": True} if token is None else {"token": token}
            response = (one, other)[n % 2].post("/infer", json=body)
            assert response.status_code == 200, response.text
            reply = response.json()
            token = reply.pop("token")
            assert reply == expected
        assert token is None
        assert other.get("/sessions/a").status_code == 404  # nothing is kept
        text = other.get("/metrics").text
        assert metric(text, 'hetsyn_tokens_total{event="opened"}') == 3
        assert metric(text, 'hetsyn_tokens_total{event="sealed"}') == 2
        assert metric(text, "hetsyn_token_bytes_total") > 500
        assert metric(text, "hetsyn_sessions_held") == 0


def test_a_raw_body_begins_one_and_frames_continue_it(models: Path) -> None:
    samples = sound(3000).astype("<i2").tobytes()
    l16 = "audio/pcm;encoding=pcm_s16le;rate=8000"
    with served(models) as server:
        whole = server.post("/infer", params={"end": True}, content=samples, headers={"Content-Type": l16}).json()
        first = server.post(
            "/infer", params={"carry": "1"}, content=samples[:2000], headers={"Content-Type": l16}
        ).json()
        token = base64.b64decode(first["token"])
        for begin in (2000, 4000):
            content = pack_frame(token, l16, samples[begin : begin + 2000])
            response = server.post("/infer", content=content, headers={"Content-Type": MEDIA_TYPE})
            assert response.headers["content-type"] == MEDIA_TYPE
            token, content_type, body = unpack_frame(response.content)
            assert content_type == "application/json"
            assert json.loads(body)["session"] == first["session"]
        ended = server.post(
            "/infer", params={"end": True}, content=pack_frame(token, "", b""), headers={"Content-Type": MEDIA_TYPE}
        )
        last = unpack_frame(ended.content)
        assert last.token == b""
        reply = json.loads(last.body)
        assert (reply["probabilities"], reply["total_steps"]) == (whole["probabilities"], whole["total_steps"])


def test_the_client_has_no_server_of_its_own(models: Path, tmp_path: Path) -> None:
    """Every chunk goes to another server, and some answers are lost on the way."""
    (tmp_path / "a.wav").write_bytes(wav(sound(2000).tobytes()))
    with served(models) as one, served(models) as two, served(models) as three:
        servers = Alternating([one, two, three], break_after=(2, 5, 6))
        with StreamingClient("http://server", network=servers, sleep=lambda _: None) as client:
            replies = list(client.stream_file(tmp_path / "a.wav", 0.03, carry=True))
        with StreamingClient("http://server", network=Alternating([one])) as client:
            expected = list(client.stream_file(tmp_path / "a.wav", 0.03))
    assert servers.requests == len(replies) + 3
    assert replies[-1]["token"] is None
    assert [reply | {"session": "", "token": None} for reply in replies] == [
        reply | {"session": "", "token": None} for reply in expected
    ]


def test_the_client_carries_events(models: Path) -> None:
    with served(models) as one, StreamingClient("http://s", network=Alternating([one])) as client:
        first = client.infer_events(10, *spikes(10), carry=True)
        assert first["token"] is not None
        second = client.infer_events(10, *spikes(10, 1), token=first["token"], seq=1, end=True)
        assert (second["session"], second["total_steps"], second["token"]) == (first["session"], 23, None)
        with pytest.raises(ServiceProblem, match=r"\(422\).*was changed after it was sealed"):
            client.infer_events(10, *spikes(10), token=first["token"][:-1] + bytes([first["token"][-1] ^ 1]))
        samples = np.zeros(80, np.int16)
        with pytest.raises(ServiceProblem, match="spikes"):
            client.infer_chunk(samples, 8000, token=first["token"])


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_every_refusal_has_its_problem(models: Path) -> None:
    with served(models) as server, served(models, [bytes(32)]) as stranger:
        with served(models, None) as without:
            refused = without.post("/infer", json={"carry": True, "input": EVENTS[0]})
            assert is_problem(refused, 501, "--carry-keys")["type"].endswith("carry-unavailable")
        token = base64.b64decode(server.post("/infer", json={"carry": True, "input": EVENTS[0]}).json()["token"])
        for client, sent, status, kind in (
            (server, text(token[:-1] + bytes([token[-1] ^ 1])), 422, "token-forged"),
            (server, text(token[:-1]), 422, "token-forged"),
            (server, "", 422, "token-foreign"),
            (server, text(b"other bytes"), 422, "token-foreign"),
            (server, "no base64", 422, "token-foreign"),
            (server, text(token[:4] + b"\2" + token[5:]), 409, "token-format"),
            (stranger, text(token), 409, "token-key"),
        ):
            refused = client.post("/infer", json={"token": sent, "input": EVENTS[1]})
            assert is_problem(refused, status, "")["type"] == f"urn:hetsyn:problem:{kind}"
        for wrong, status, sentence in (
            ({"token": 7}, 422, "token: send a string"),
            ({"carry": "yes"}, 422, "carry: send true or false"),
            ({"token": text(token), "input": audio(sound(80))}, 422, "spikes"),
            ({"token": text(token), "seq": 7, "input": EVENTS[1]}, 409, "send seq 1 next"),
        ):
            is_problem(server.post("/infer", json=wrong), status, sentence)
        assert (
            server.post("/infer", json={"carry": None, "token": None, "input": EVENTS[0]}).json().get("token") is None
        )
        assert server.post("/infer", json={"token": text(token), "input": EVENTS[1]}).status_code == 200


def test_a_frame_may_have_a_compressed_file(models: Path) -> None:
    content = sound_file("s16.flac", frames(6_000), 8_000)
    with served(models) as server:
        whole = server.post("/infer?end=true", content=content, headers={"Content-Type": "audio/flac"}).json()
        framed = pack_frame(b"", "audio/flac", content)
        reply = server.post("/infer?end=true", content=framed, headers={"Content-Type": MEDIA_TYPE}).content
        assert json.loads(unpack_frame(reply).body)["probabilities"] == whole["probabilities"]


def test_frames_that_are_wrong_have_their_problem(models: Path) -> None:
    with served(models) as server:
        for content, query, status, sentence in (
            (b"HSF0", {}, 422, "does not begin with HSF1"),
            (pack_frame(bytes(99), "audio/wav", b"")[:20], {}, 422, "send all of it"),
            (pack_frame(b"", "", b"body"), {}, 415, "no content type"),
            (pack_frame(b"", "text/plain", b"body"), {}, 415, "'text/plain' is not accepted"),
            (pack_frame(b"", "application/json", b"{}"), {}, 415, "'application/json' is not accepted"),
            (pack_frame(b"", MEDIA_TYPE, b"body"), {}, 415, "is not accepted"),
            (pack_frame(b"", "audio/wav", b""), {}, 422, "the chunk is empty"),
            (pack_frame(b"x", "audio/wav", b""), {"end": True}, 422, "not a token of hetsyn"),
            (pack_frame(b"", "audio/wav", b""), {"token": "x"}, 422, "token is not a query parameter"),
        ):
            refused = server.post("/infer", params=query, content=content, headers={"Content-Type": MEDIA_TYPE})
            is_problem(refused, status, sentence)


def test_a_token_expires(models: Path) -> None:
    clock = Clock(1_000_000.0)
    with served(models, wall=clock, session_idle_s=60) as server:
        token = server.post("/infer", json={"carry": True, "input": EVENTS[0]}).json()["token"]
        clock.now_s += 60
        refused = server.post("/infer", json={"token": token, "input": EVENTS[1]})
        assert is_problem(refused, 410, "begin another session")["type"].endswith("token-expired")
