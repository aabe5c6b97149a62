"""The limits of a key, over every transport, and what becomes of open streams when keys change."""

from __future__ import annotations

import asyncio
import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

import grpc
import tritonclient.grpc as triton

from hetsyn_client import AsyncStreamingClient, LiveStream, StreamingClient
from hetsyn_client.columns import pack_chunks, pack_sessions, unpack_opened, unpack_results
from hetsyn_client.events import pack_events
from service.grpc import servicer
from service.keys.caller import Scope
from tests.support.clients.json_input import events
from tests.support.clients.open_inference import Live
from tests.support.clients.sync_websocket import connect
from tests.support.data.signals import sound
from tests.support.servers.keyed import add_key, bearer, keyed_server, revoke
from tests.support.servers.socket_server import keeps
from tests.support.stores.memory_store import MemoryStore

CHUNK = pack_events(5, np.array([0]), np.array([1]))


in_each_store = pytest.mark.parametrize("keyed", ["memory", "store"], indirect=True)


class Keyed:
    """A server, and its keys file."""

    def __init__(self, folder: Path, live: Live) -> None:
        self.path = folder / "keys.json"
        self.live = live
        self.url = live.url

    def key(self, name: str, **limits: float) -> str:
        """A key that the server knows."""
        key = add_key(self.path, name, Scope, **limits)
        self.refresh()
        return key

    def refresh(self) -> None:
        async def read_again() -> None:
            self.live.app.state.server.access_keys.refresh()

        asyncio.run_coroutine_threadsafe(read_again(), self.live.app.state.loop).result(60)
        httpx.get(f"{self.url}/health/live")

    def send(self, key: str, session: str, seq: int, **more: object) -> httpx.Response:
        body = {"session": session, "seq": seq, "input": events(9), **more}
        return httpx.post(f"{self.url}/infer", json=body, headers=bearer(key))

    def stream(self, key: str, session: str) -> ClientConnection:
        url = f"{self.url.replace('http', 'ws')}/stream?encoding=events&model=digits&session={session}"
        return connect(url, additional_headers=bearer(key))


@pytest.fixture
def keyed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyed]:
    add_key(tmp_path / "keys.json", "other")
    with keyed_server(tmp_path, tmp_path / "keys.json", MemoryStore() if keeps(request) == "store" else None) as live:
        yield Keyed(tmp_path, live)


def limited(response: httpx.Response, sentence: str) -> None:
    assert response.status_code == 429, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["type"] == "urn:hetsyn:problem:key-limit"
    assert sentence in response.json()["detail"]


@in_each_store
def test_sessions(keyed: Keyed) -> None:
    alice, bob = keyed.key("alice", max_sessions=2), keyed.key("bob", max_sessions=1)
    for session in ("a", "b"):
        assert keyed.send(alice, session, 0).status_code == 200
    limited(keyed.send(alice, "c", 0), "2 sessions of key 'alice' are open")
    assert keyed.send(alice, "a", 1).status_code == 200
    assert keyed.send(bob, "a", 0).status_code == 200
    limited(keyed.send(bob, "b", 0), "1 sessions of key 'bob' are open")
    assert keyed.send(alice, "a", 2, end=True).status_code == 200
    assert keyed.send(alice, "c", 0).status_code == 200
    with keyed.stream(alice, "d") as stream:
        stream.recv()
        stream.send(CHUNK)
        refused = json.loads(stream.recv())
    assert (refused["type"], refused["status"], refused["retryable"]) == ("Error", 429, True)
    assert httpx.delete(f"{keyed.url}/sessions/b", headers=bearer(alice)).status_code == 204
    assert keyed.send(alice, "d", 0).status_code == 200


def test_no_refusal_tells_of_others(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alice, bob, carol = (add_key(path, name) for name in ("alice", "bob", "carol"))
    with keyed_server(tmp_path, path, max_sessions=14, client_share=1.0) as live:
        keyed = Keyed(tmp_path, live)
        for session in range(7):
            assert keyed.send(alice, f"s{session}", 0).status_code == 200
            assert keyed.send(bob, f"s{session}", 0).status_code == 200
        limited(keyed.send(alice, "more", 0), "7 sessions of key 'alice' are open")
        full = keyed.send(carol, "a", 0)
        assert full.status_code == 503
        assert full.json()["detail"].startswith("the server has as many sessions as it takes: end some, or try again")
        assert not {"14", "7", "alice", "bob"} & set(full.json()["detail"].replace("'", " ").split())


def test_requests_a_second(keyed: Keyed) -> None:
    alice = keyed.key("alice", requests_per_s=3)
    answers = [keyed.send(alice, "a", 0)]
    while answers[-1].status_code == 200 and len(answers) < 50:  # a busy machine may send less than 3 a second at first
        answers.append(keyed.send(alice, "a", len(answers)))
    assert len(answers) > 3
    limited(answers[-1], "may send 3 requests a second")


def test_streams_are_read_more_slowly(keyed: Keyed) -> None:
    alice = keyed.key("alice", requests_per_s=20)
    with keyed.stream(alice, "a") as stream:
        stream.recv()
        begun_s = time.monotonic()
        for _ in range(40):
            stream.send(CHUNK)
        results = [json.loads(stream.recv(timeout=60)) for _ in range(40)]
    took_s = time.monotonic() - begun_s
    assert [result["seq"] for result in results] == list(range(40))
    assert took_s > 0.7, took_s  # 20 at once, 20 at 20 a second


def test_each_chunk_of_a_frame_counts(keyed: Keyed) -> None:
    alice = keyed.key("alice", requests_per_s=20)
    url = f"{keyed.url.replace('http', 'ws')}/streams?encoding=events&model=digits"
    handles = list(range(10))
    with connect(url, additional_headers=bearer(alice)) as stream:
        stream.recv()
        begun_s = time.monotonic()
        stream.send(pack_sessions(handles, [f"s{handle}" for handle in handles]))
        assert unpack_opened(stream.recv(decode=False)).status.tolist() == [200] * 10
        for seq in range(3):
            stream.send(pack_chunks(handles, np.full(10, seq), 0, b"", 5))
            assert unpack_results(stream.recv(decode=False, timeout=60)).status.tolist() == [200] * 10
    took_s = time.monotonic() - begun_s
    assert took_s > 0.4, took_s  # the third frame waits for the second one, at 20 a second


def test_grpc_is_limited(keyed: Keyed) -> None:
    alice = keyed.key("alice", requests_per_s=2)
    with triton.InferenceServerClient(keyed.live.grpc) as client:
        key = {"authorization": f"Bearer {alice}"}
        with pytest.raises(triton.InferenceServerException, match="may send 2 requests a second") as caught:  # noqa: PT012
            for _ in range(5):
                client.get_server_metadata(headers=key)
        assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_a_revoked_key_ends_its_streams(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alice, bob = add_key(path, "alice"), add_key(path, "bob")
    # a stream looks at its key at least as often as at a frame that is under way
    with keyed_server(tmp_path, path, body_timeout_s=0.3) as live:
        keyed = Keyed(tmp_path, live)
        with keyed.stream(alice, "a") as stream, keyed.stream(bob, "a") as other:
            for one in (stream, other):
                one.recv()
                one.send(CHUNK)
                assert json.loads(one.recv())["seq"] == 0
            revoke(path, "alice")
            keyed.refresh()
            refused = json.loads(stream.recv(timeout=60))
            assert (refused["problem"], refused["status"]) == ("key-refused", 401)
            with pytest.raises(ConnectionClosed):
                stream.recv(timeout=60)
            other.send(CHUNK)
            assert json.loads(other.recv())["seq"] == 1
        assert keyed.send(alice, "a", 1).status_code == 401


def test_a_revoked_key_ends_its_streams_of_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "CHECK_S", 0.1)
    path = tmp_path / "keys.json"
    metadata = [("authorization", f"Bearer {add_key(path, 'alice')}")]
    with keyed_server(tmp_path, path) as live, grpc.insecure_channel(live.grpc) as channel:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = call(iter(requests.get, None), metadata=metadata, timeout=60)
        requests.put(b"")
        assert next(answers)  # the stream is open
        revoke(path, "alice")
        Keyed(tmp_path, live).refresh()
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        requests.put(None)


def test_our_clients_wait_until_they_may(keyed: Keyed) -> None:
    alice = keyed.key("alice", requests_per_s=10)
    audio = sound(800)
    with StreamingClient(keyed.url, key=alice) as client, client.session() as session:
        for _ in range(12):
            reply = session.send(audio, 8000)
        assert reply["seq"] == 11
        session.end()
    with LiveStream(keyed.url, key=alice, sample_rate_hz=8000) as live:
        for _ in range(12):
            live.send(audio)
        live.end()
        assert live.seq == 12

    async def stream() -> None:
        async with AsyncStreamingClient(keyed.url, key=alice) as client, client.session() as session:
            for _ in range(10):
                reply = await session.send(audio, 8000)
            assert reply["seq"] == 9
            await session.end()

    asyncio.run(stream())
