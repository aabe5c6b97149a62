"""A WebSocket without a network: bytes in, frames out."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from hetsyn_client.loadtest.target import Address, Response
from hetsyn_client.loadtest.websocket import BINARY, CLOSE, PONG, TEXT, WebSocket, handshake, masked

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.ended = "aborted"

    def close(self) -> None:
        self.ended = "closed"


class Events:
    def __init__(self) -> None:
        self.opened_count = 0
        self.frames: list[tuple[int, bytes]] = []
        self.responses: list[Response] = []

    def opened(self, socket: WebSocket) -> None:
        assert socket.is_open
        self.opened_count += 1

    def received(self, socket: WebSocket, opcode: int, content: bytes) -> None:  # noqa: ARG002
        self.frames.append((opcode, content))

    def refused(self, socket: WebSocket, response: Response) -> None:  # noqa: ARG002
        self.responses.append(response)

    def closed(self, socket: WebSocket) -> None: ...


def connected() -> tuple[WebSocket, Events, Wire]:
    events, wire = Events(), Wire()
    socket = WebSocket(events, b"GET")
    socket.connection_made(wire)
    assert wire.written == [b"GET"]
    wire.written.clear()
    return socket, events, wire


def parsed(frames: bytes) -> list[Frame]:
    """What a server reads."""
    server = Protocol(Side.SERVER)
    server.receive_data(frames)
    assert server.parser_exc is None
    return [event for event in server.events_received() if isinstance(event, Frame)]


@given(st.binary(max_size=300) | st.sampled_from([bytes(125), bytes(126), bytes(65_535), bytes(65_536), b"x" * 70_001]))
def test_a_server_reads_the_frames_of_the_client(content: bytes) -> None:
    frames = parsed(masked(BINARY, content) + masked(BINARY, content))
    assert [(frame.opcode, bytes(frame.data)) for frame in frames] == [(Opcode.BINARY, content)] * 2


@given(st.lists(st.binary(max_size=200) | st.just(b"y" * 66_000), max_size=4), st.data())
def test_frames_of_a_server_are_read_however_they_are_cut(contents: list[bytes], data: st.DataObject) -> None:
    sent = ACCEPTED + b"".join(Frame(Opcode.TEXT, content).serialize(mask=False) for content in contents)
    socket, events, _ = connected()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        socket.data_received(sent[begin:end])
    assert events.opened_count == 1
    assert events.frames == [(TEXT, content) for content in contents]


def test_a_ping_gets_a_pong_and_a_close_frame_its_answer() -> None:
    socket, _, wire = connected()
    socket.data_received(ACCEPTED + Frame(Opcode.PING, b"abc").serialize(mask=False))
    socket.data_received(Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=False))
    pong, close = parsed(b"".join(wire.written))
    assert (pong.opcode, bytes(pong.data)) == (PONG, b"abc")
    assert (close.opcode, bytes(close.data)) == (CLOSE, b"\x03\xe8")
    assert (wire.ended, socket.is_open) == ("closed", False)


@pytest.mark.parametrize("cut", [10, 40, 90])
def test_a_refusal_is_a_response(cut: int) -> None:
    answer = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\nRetry-After: 2\r\n\r\nfull"
    socket, events, wire = connected()
    socket.data_received(answer[:cut])
    socket.data_received(answer[cut:])
    assert events.responses == [Response(503, b"full", 2.0)]
    assert (events.opened_count, wire.ended) == (0, "aborted")


def test_a_masked_frame_of_a_server_ends_the_connection() -> None:
    socket, events, wire = connected()
    socket.data_received(ACCEPTED + masked(TEXT, b"abc"))
    assert (events.frames, wire.ended) == ([], "aborted")


def test_a_handshake_names_its_path_and_host() -> None:
    lines = handshake(Address("h", 1, path="/p"), "/stream?x=1").decode().split("\r\n")
    assert lines[:2] == ["GET /p/stream?x=1 HTTP/1.1", "Host: h:1"]
    assert "Sec-WebSocket-Protocol: hetsyn.v1" in lines
