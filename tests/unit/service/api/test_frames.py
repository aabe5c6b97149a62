"""Frames of a WebSocket, in pieces of every size; what breaks a bound or RFC 6455 is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from service.api.streaming.frames import MOST_FRAGMENTS, FrameReader, Message, accept_key, text_frame
from service.live.protocol import MOST_TEXT_BYTES
from tests.support.clients.live import BINARY, CLOSE, CONT, PING, TEXT, by_length, received, sent


def read(reader: FrameReader, content: bytes, size: int = 1000) -> list[Message]:
    messages = []
    for start in range(0, len(content), size):
        reader.feed(content[start : start + size])
        while reader.has_frame():
            if (message := reader.read()) is not None:
                messages.append(message)
    return messages


def test_the_key_is_that_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200), st.integers(1, 4)), max_size=8), st.integers(1, 50))
def test_messages_are_those_that_were_sent(messages: list[tuple[bool, bytes, int]], size: int) -> None:
    content, expected, pings = b"", [], 0
    for is_text, data, parts in messages:
        data = data.hex().encode() if is_text else data
        expected.append(Message(data.decode(), b"") if is_text else Message(None, data))
        step = max(1, -(-len(data) // parts))
        pieces = [data[start : start + step] for start in range(0, len(data), step)] or [b""]
        for index, piece in enumerate(pieces):
            opcode = CONT if index else TEXT if is_text else BINARY
            content += sent(opcode, piece, fin=index == len(pieces) - 1) + sent(PING, b"p")
            pings += 1
    reader = FrameReader(10_000)
    assert read(reader, content, size) == expected
    assert reader.violation is None
    assert reader.held_bytes == 0
    assert received(reader.take_answer()) == [(10, b"p")] * pings
    assert reader.take_answer() == b""


def test_incomplete_messages_are_counted() -> None:
    reader = FrameReader(10_000)
    read(reader, sent(BINARY, bytes(300), fin=False) + sent(CONT, bytes(200))[:-50])
    assert reader.held_bytes == 300 + len(sent(CONT, bytes(200))) - 50


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (sent(BINARY, bytes(1001)), 413, 1009),
        (sent(BINARY, bytes(600), fin=False) + sent(CONT, bytes(600)), 413, 1009),
        (sent(TEXT, b"x" * (MOST_TEXT_BYTES + 1)), 413, 1009),
        (sent(BINARY, b"", fin=False) + MOST_FRAGMENTS * sent(CONT, b"", fin=False), 413, 1009),
        (sent(TEXT, b"\xff"), 400, 1007),
        (sent(CLOSE, b"\x03\xe8\xff"), 400, 1007),
        (text_frame(b"{}"), 400, 1002),  # not masked
        (b"\xc2" + sent(BINARY, b"a")[1:], 400, 1002),  # compressed
        (b"\x83" + sent(BINARY, b"a")[1:], 400, 1002),  # no such opcode
        (sent(CONT, b"a"), 400, 1002),
        (sent(BINARY, b"a", fin=False) + sent(BINARY, b"a"), 400, 1002),
        (b"\x09" + sent(PING, bytes(10))[1:], 400, 1002),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, 1002),
    ],
    ids=by_length,
)
def test_what_breaks_a_bound_or_the_rfc_is_refused(content: bytes, status: int, code: int) -> None:
    reader = FrameReader(1000 if status == 413 and len(content) < 4000 else 100_000)
    assert read(reader, content + sent(BINARY, b"later"), 7) == []
    assert reader.violation is not None
    assert (reader.violation.status, reader.violation.close_code) == (status, code)
    assert reader.take_answer() == b""


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_the_bytes_of_a_message_in_fragments_are_counted_until_it_ends(opcode: Opcode) -> None:
    reader = FrameReader(10_000)
    assert read(reader, sent(opcode, b"ab", fin=False)) == []
    for n in range(1, 1023):
        assert read(reader, sent(CONT, b"c", fin=False)) == []
        assert reader.held_bytes == 2 + n
    (message,) = read(reader, sent(CONT, b"d"))
    assert len(message.content or message.text or "") == 2 + 1022 + 1
    assert reader.held_bytes == 0


def test_a_close_frame_is_answered_and_ends_everything() -> None:
    reader = FrameReader(1000)
    assert read(reader, sent(CLOSE, b"\x03\xe9") + sent(BINARY, b"later")) == []
    assert reader.is_closed
    assert received(reader.take_answer()) == [(8, b"\x03\xe9")]


def test_frames_without_a_chunk_are_counted() -> None:
    reader = FrameReader(1000)
    read(reader, sent(PING, b"") * 3 + sent(TEXT, b"{}") + sent(BINARY, b"a") + sent(BINARY, b"", fin=False))
    assert (reader.frames, reader.controls) == (6, 5)
