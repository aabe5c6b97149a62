"""The connection without a network: bytes in, responses out."""

from __future__ import annotations

import asyncio

import pytest

from hetsyn_client.loadtest.connection import Connection
from hetsyn_client.loadtest.target import Response


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True


class ConnectionEvents:
    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.losses = 0

    def responded(self, connection: Connection, response: Response) -> None:  # noqa: ARG002
        self.responses.append(response)

    def closed(self, connection: Connection) -> None:  # noqa: ARG002
        self.losses += 1


@pytest.fixture
def owner() -> ConnectionEvents:
    return ConnectionEvents()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def connection(owner: ConnectionEvents, wire: Wire) -> Connection:
    made = Connection(owner)
    made.connection_made(wire)
    made.send(b"request")
    return made


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_a_response_may_come_byte_by_byte(connection: Connection, owner: ConnectionEvents, wire: Wire) -> None:
    assert wire.written == b"request"
    for byte in OK:
        assert owner.responses == []
        connection.data_received(bytes([byte]))
    assert owner.responses == [Response(200, b"hello", None)]
    assert connection.is_reusable
    assert connection.answers == 1


def test_one_connection_takes_many_requests(connection: Connection, owner: ConnectionEvents) -> None:
    connection.data_received(OK)
    connection.send(b"next")
    assert not connection.has_begun
    connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    connection.send(b"next")
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert [(r.status, r.body) for r in owner.responses] == [(200, b"hello"), (204, b""), (200, b"abc")]


def test_retry_after_is_kept_for_its_response_alone(connection: Connection, owner: ConnectionEvents) -> None:
    full = b"HTTP/1.1 503 Full\r\nretry-after: 2\r\nContent-Length: 0\r\n\r\n"
    connection.data_received(full)
    connection.send(b"next")
    connection.data_received(OK)
    connection.send(b"next")
    connection.data_received(full.replace(b" 2", b" Wed, 21 Oct 2015 07:28:00 GMT"))
    assert [r.retry_after_s for r in owner.responses] == [2.0, None, 1.0]


def test_what_comes_before_the_response_is_skipped(connection: Connection, owner: ConnectionEvents) -> None:
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert owner.responses == [Response(200, b"hello", None)]


def test_a_server_that_wants_to_close_gets_no_more(connection: Connection, owner: ConnectionEvents, wire: Wire) -> None:
    connection.data_received(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert len(owner.responses) == 1
    assert not connection.is_reusable
    assert wire.aborted


def test_nonsense_closes_the_connection(connection: Connection, owner: ConnectionEvents, wire: Wire) -> None:
    connection.data_received(b"SSH-2.0-OpenSSH\r\n")
    assert wire.aborted
    connection.connection_lost(None)
    assert (owner.responses, owner.losses) == ([], 1)


def test_so_does_what_nobody_asked_for(connection: Connection, owner: ConnectionEvents, wire: Wire) -> None:
    connection.data_received(OK)
    connection.data_received(OK)
    assert wire.aborted
    assert len(owner.responses) == 1
