"""Bodies of requests while they are read: their length, their time, and the room that they take."""

from __future__ import annotations

import asyncio
import json
import threading

import h11
import httpx
import pytest

from service.api import infer
from service.ingress import LARGE_DECODES
from service.wire.decode import decode_json
from service.wire.schema import InferRequest
from service.wire.sound import SoundLimit
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, ok
from tests.support.clients.json_input import Json, audio, events
from tests.support.clients.wire import Wire
from tests.support.data.signals import sound
from tests.support.servers.in_process import HttpServer, ServeHttp

HEAD = (
    b"POST /infer?session=a&begin=true HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: audio/pcm;encoding=pcm_s16le;rate=8000\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PCM = {"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=8000"}


class Trickle:
    """A request to ``/infer`` whose body comes part by part, and the response to it."""

    def __init__(self, server: HttpServer, *first: bytes) -> None:
        self.wire = Wire(server.app)
        self.wire.connection.data_received(HEAD)
        for part in first:
            self.send(part)
        self.request = asyncio.create_task(self._response())

    def send(self, part: bytes) -> None:
        """Some of it; nothing is its end."""
        self.wire.connection.data_received(b"%x\r\n%b\r\n" % (len(part), part))

    async def _response(self) -> None:
        answer = h11.Connection(h11.CLIENT)
        answer.send(h11.Request(method="POST", target="/infer", headers=[("Host", "x")]))
        answer.send(h11.EndOfMessage())
        body = b""
        while not isinstance(event := answer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                answer.receive_data(await self.wire.read())
            elif isinstance(event, h11.Response):
                self.status, self.headers = event.status_code, dict(event.headers)
            else:
                assert isinstance(event, h11.Data)
                body += event.data
        self.problem: Json = json.loads(body)


async def test_a_body_without_a_declared_length_is_limited_too(server: HttpServer) -> None:
    upload, sent = Trickle(server), 0
    while not upload.wire.has_written:
        upload.send(bytes(1000))
        sent += 1000
    await upload.request
    assert (upload.status, sent) == (413, 61_000)


async def test_a_client_that_leaves_within_its_body_applies_nothing(
    server: HttpServer, client: httpx.AsyncClient
) -> None:
    upload = Trickle(server, bytes(1000))
    upload.wire.close()
    is_problem(await client.get("/sessions/a"), 404, "no session 'a'")
    parts = server.app.state.server
    assert (parts.counters.chunks_abandoned, parts.uploads.under_way, parts.uploads.bytes) == (1, 0, 0)
    upload.request.cancel()


async def test_compressed_bodies_are_refused(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    is_problem(await client.post("/infer", content=b"x", headers=headers), 415, "content encoding 'gzip'")
    headers["Content-Encoding"] = "identity"
    content = json.dumps({"input": events(3)}).encode()
    assert (await client.post("/infer", content=content, headers=headers)).status_code == 200


async def test_json_has_a_limit_of_its_own(serve: ServeHttp) -> None:
    client = (await serve()).client
    refused = await client.post("/infer", json={"input": audio(sound(100_000))})
    is_problem(refused, 413, "longer than 262144 bytes: send spikes as application/vnd.hetsyn.events, values as")
    content = sound(100_000).astype("<i2").tobytes()
    assert (await client.post("/infer", content=content, headers=PCM)).status_code == 200


async def test_an_upload_holds_no_permit(gate: Gate, serve: ServeHttp) -> None:
    server = await serve(max_waiting=1)
    client = server.client
    first, second = Trickle(server, bytes(100)), Trickle(server, bytes(100))
    assert (await client.post("/infer", content=bytes(20), headers=PCM)).status_code == 200
    gate.opened.clear()
    first.send(bytes(1000))
    first.send(b"")
    await server.entered()
    refused = await client.post("/infer", content=bytes(20), headers=PCM)
    is_problem(refused, 503, "as many requests as it takes")
    second.send(b"")
    await second.request
    assert second.status == 503  # its body came, and the only permit is taken
    gate.opened.set()
    await first.request
    assert first.status == 200
    assert (await client.post("/infer", content=bytes(20), headers=PCM)).status_code == 200


@pytest.mark.parametrize("came", [(), (bytes(1000),)])
async def test_a_full_server_does_not_wait_for_the_body(gate: Gate, serve: ServeHttp, came: tuple[bytes, ...]) -> None:
    server = await serve(max_waiting=1)
    gate.opened.clear()
    running = Trickle(server, bytes(1000), b"")
    await server.entered()
    refused = Trickle(server, *came)
    await refused.request
    assert refused.status == 503
    gate.opened.set()
    await running.request
    assert running.status == 200


@pytest.mark.parametrize("sent", [(), (bytes(100),)])
async def test_a_body_that_does_not_come_is_waited_for_no_longer_than_it_may_take(
    sent: tuple[bytes, ...], serve: ServeHttp
) -> None:
    server = await serve(body_timeout_s=0.05, max_waiting=1)
    client = server.client
    upload = Trickle(server, *sent)
    await upload.request
    assert upload.status == 408
    assert upload.problem["type"].endswith("too-slow")
    assert "after 0.05 s: send it faster" in upload.problem["detail"]
    assert upload.headers[b"connection"] == b"close"
    assert (await client.post("/infer", content=bytes(20), headers=PCM)).status_code == 200
    is_problem(await client.get("/sessions/a"), 404, "no session 'a'")


async def test_bodies_under_way_have_a_bound_in_all(gate: Gate, serve: ServeHttp) -> None:
    server = await serve(max_body_bytes=100_000, max_held_bytes=150_000, client_share=1.0)
    client = server.client
    uploads = server.app.state.server.uploads
    first = Trickle(server, bytes(80_000))
    assert uploads.bytes == 80_000
    second = Trickle(server, bytes(60_000), bytes(20_000))
    await second.request
    assert second.status == 503
    assert second.problem["type"].endswith("overloaded")
    assert "no room for more bytes of bodies" in second.problem["detail"]
    assert int(second.headers[b"retry-after"]) >= 1
    assert uploads.bytes == 80_000  # what was refused is let go
    # small ones always find room
    assert (await client.post("/infer", content=bytes(20), headers=PCM)).status_code == 200
    refused = await client.put(
        "/sessions/b/state", content=bytes(90_000), headers={"Content-Type": "application/octet-stream"}
    )
    is_problem(refused, 503, "no room for more bytes of bodies")
    gate.opened.clear()
    first.send(b"")
    await server.entered()
    assert uploads.bytes == 80_000  # until it is answered
    gate.opened.set()
    await first.request
    assert (first.status, uploads.bytes) == (200, 0)


async def test_a_body_that_trickles_does_not_keep_a_server_from_its_end(
    monkeypatch: pytest.MonkeyPatch, serve: ServeHttp
) -> None:
    monkeypatch.setattr("service.admission.uploads.ENDING_S", 0.05)
    server = await serve()
    slow, quick = Trickle(server, bytes(100)), Trickle(server, bytes(100))
    stopping = asyncio.create_task(server.app.state.server.admission.stop())
    await asyncio.sleep(0)
    quick.send(b"")  # what comes in time is served to its end
    await stopping
    await asyncio.gather(slow.request, quick.request)
    assert (slow.status, quick.status) == (503, 200)
    assert slow.problem["type"].endswith("shutting-down")


async def test_few_large_bodies_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch, serve: ServeHttp) -> None:
    client = (await serve()).client
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(LARGE_DECODES)  # nobody leaves before as many are in as may be

    def decode(content: bytes, limit: SoundLimit) -> InferRequest:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            together.wait(timeout=60)
            return decode_json(content, limit)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(infer, "decode_json", decode)
    large = audio(sound(30_000))
    await asyncio.gather(*(ok(client, input=large) for _ in range(6)))
    assert most == LARGE_DECODES
