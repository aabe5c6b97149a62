"""Workers that call each other's applications and hand connections over: two in one process, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.admission.presence import presence_of
from service.errors import Overloaded
from service.observe.counters import Counters
from service.workers.messages import Call
from service.workers.routing import Routing
from service.workers.siblings import PASSED_ON, Siblings


class EchoApplication:
    """Answers with what it was asked; the path ``/wait`` waits until the client leaves, ``/fail`` fails."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        if scope["path"] == "/fail":
            raise ValueError("broken")
        if scope["path"] == "/wait":
            self.waits.set()
            try:
                with presence_of(scope):
                    await asyncio.Event().wait()
            finally:
                self.left.set()
        said = {name: scope[name] for name in ("method", "path", "client", PASSED_ON)} | {"body": body.decode()}
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        content = json.dumps(said | {"query": scope["query_string"].decode(), "headers": headers}).encode()
        await send({"type": "http.response.start", "status": 207, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": content[:5], "more_body": True})
        await send({"type": "http.response.body", "body": content[5:]})


class Echo(asyncio.Protocol):
    """Says who has the connection, and repeats what comes."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._name + b" got " + data)


def siblings(folder: Path, index: int, *, has_store: bool = False) -> Siblings:
    return Siblings(Routing(index, 2, 3), folder, has_store=has_store, counters=Counters())


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Siblings, EchoApplication]]:
    """The first of two workers, and the application of the second."""
    first, second, application = siblings(folder, 0), siblings(folder, 1), EchoApplication()
    await second.listen(application)
    second.take_connections(lambda: Echo(b"second"))
    try:
        yield first, application
    finally:
        await second.close()
        await first.close()


async def test_a_request_and_its_reply_are_passed_on(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        call = Call("POST", "/infer", b"seq=1", b"audio/wav", ("10.0.0.1", 99))
        reply = await first.call(1, call, b"sound")
        assert reply is not None
        assert (reply.status, reply.headers) == (207, [(b"x-a", b"b")])
        said = json.loads(reply.body)
        assert said["headers"] == {"host": "worker", "content-length": "5", "content-type": "audio/wav"}
        assert (said["method"], said["path"], said["query"], said["body"]) == ("POST", "/infer", "seq=1", "sound")
        assert said["client"] == ["10.0.0.1", 99]
        assert said[PASSED_ON] is True


async def test_many_calls_share_a_connection(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        replies = await asyncio.gather(*(first.call(1, Call("GET", f"/{n}"), bytes(n)) for n in range(200)))
        assert [json.loads(reply.body)["path"] for reply in replies if reply] == [f"/{n}" for n in range(200)]


async def test_a_client_that_leaves_is_reported(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, application):
        task = asyncio.create_task(first.call(1, Call("GET", "/wait")))
        await application.waits.wait()
        task.cancel()
        await application.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_failure_is_a_500_and_harms_no_other_call(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        failed = await first.call(1, Call("GET", "/fail"))
        assert failed is not None
        assert failed.status == 500
        after = await first.call(1, Call("GET", "/after"))
        assert after is not None
        assert after.status == 207


async def test_a_worker_that_is_away_is_said_or_stood_in_for(tmp_path: Path) -> None:
    with pytest.raises(Overloaded, match="worker 1, which has this session, is being started"):
        await siblings(tmp_path, 0).call(1, Call("GET", "/"))
    assert await siblings(tmp_path, 0, has_store=True).call(1, Call("GET", "/")) is None
    assert await siblings(tmp_path, 0).ask_all("/metrics") == [None]


async def test_a_worker_that_dies_ends_its_calls(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, application):
        task = asyncio.create_task(first.call(1, Call("GET", "/wait")))
        await application.waits.wait()
        first._callers[1]._transport.abort()  # type: ignore[union-attr]
        with pytest.raises(Overloaded, match="may be applied"):
            await task
        again = await first.call(1, Call("GET", "/again"))  # over a new connection
        assert again is not None


def test_a_request_goes_to_the_worker_of_its_session_once(tmp_path: Path) -> None:
    first = siblings(tmp_path, 0)
    mine = next(f"s{n}" for n in range(99) if first.routing.worker_of(f"s{n}") == 0)
    other = next(f"s{n}" for n in range(99) if first.routing.worker_of(f"s{n}") == 1)
    assert first.other(mine, {}) is None
    assert first.other(None, {}) is None
    assert first.other(other, {}) == 1
    assert first.other(other, {PASSED_ON: True}) is None
    first.check_stream(mine)
    with pytest.raises(Overloaded, match="worker 1"):
        first.check_stream(other)
    siblings(tmp_path, 0, has_store=True).check_stream(other)


async def test_a_connection_moves_with_what_has_come(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        other = next(f"s{n}" for n in range(99) if first.routing.worker_of(f"s{n}") == 1)
        for n in range(40):  # more than the queue of a datagram socket takes
            ours, theirs = socket.socketpair()
            head = f"POST /infer?session={other} HTTP/1.1\r\n\r\n{n}".encode()
            assert first.moves(ours.fileno(), head) is True
            ours.close()
            reader, writer = await asyncio.open_connection(sock=theirs)
            expected = b"second got " + head
            assert await reader.readexactly(len(expected)) == expected
            writer.write(b"more")
            assert await reader.readexactly(15) == b"second got more"
            writer.close()


async def test_a_burst_of_connections_moves_in_order(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        pairs = [socket.socketpair() for _ in range(100)]
        for n, (ours, _theirs) in enumerate(pairs):
            assert first.move(1, ours.fileno(), b"%d" % n)
            ours.close()
        for n, (_ours, theirs) in enumerate(pairs):
            reader, writer = await asyncio.open_connection(sock=theirs)
            assert await reader.readexactly(len(b"second got %d" % n)) == b"second got %d" % n
            writer.close()


async def test_connections_stay_where_they_cannot_move(tmp_path: Path) -> None:
    first = siblings(tmp_path, 0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert first.move(1, ours.fileno(), b"x") is False  # the worker is away
        assert first.move(0, ours.fileno(), b"x") is False  # it is here
        assert first.moves(ours.fileno(), b"GET /metrics HTTP/1.1\r\n") is None
        assert first.move(1, ours.fileno(), bytes(2**20)) is False  # too much has come


async def test_connections_that_begin_sessions_go_to_each_worker_in_turn(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        moved = []
        for _ in range(6):
            ours, theirs = socket.socketpair()
            moved.append(first.moves(ours.fileno(), b"POST /infer?model=m HTTP/1.1\r\n\r\n"))
            ours.close()
            theirs.close()
        assert moved == [False, True] * 3
