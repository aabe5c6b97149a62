"""The frames of a WebSocket at the server's end (RFC 6455): bytes to messages, and texts to bytes.

``websockets`` parses and checks the frames. There are no extensions, so nothing is compressed: a few bytes never become
many. Messages, their fragments and texts have bounds.
"""

from __future__ import annotations

import base64
import hashlib
from struct import pack
from typing import NamedTuple

from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side

try:
    from websockets.speedups import apply_mask
except ImportError:  # where it was installed without a compiler
    from websockets.utils import apply_mask

from service.errors import BadFrame, TooLarge
from service.live.protocol import MOST_TEXT_BYTES
from service.problem import Problem

MOST_FRAGMENTS = 1_024  # of a message
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
PROTOCOL_ERROR, INVALID_TEXT, POLICY, TOO_BIG = 1002, 1007, 1008, 1009

TEXT, WHOLE = 0x81, 0x82  # first bytes of a whole message, of text and binary
PING = Frame(Opcode.PING, b"").serialize(mask=False)


class Message(NamedTuple):
    """What a client has sent.

    Attributes:
        text: of a text message; None of a binary one.
        content: of a binary message.
    """

    text: str | None
    content: bytes


class FrameReader:
    """The frames that a client sends.

    Args:
        max_bytes: of a message.

    Attributes:
        partial_bytes: of a message that is not complete.
        wanted_bytes: that complete the frame that has begun; 0 if none has, or if its head is not complete.
        violation: why nothing more is read; None if it is.
        answer: bytes to send: pongs, and the answer to a close frame.
        frames: number of frames that have come.
        controls: those that carry no chunk.
        is_closed: the client has sent its close frame.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._protocol = Protocol(Side.SERVER, max_size=max_bytes)
        self._fragments: list[bytes] = []
        self._fragment_bytes = 0
        self._is_text = False
        self._head = b""  # of the frame that has begun, where even that is not complete
        self.partial_bytes = 0
        self.wanted_bytes = 0
        self.violation: Problem | None = None
        self.answer = b""
        self.frames = 0
        self.controls = 0
        self.is_closed = False

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes, and return the messages that they complete."""
        if self.violation is not None or self.is_closed:
            return []
        if (content := self._whole(data)) is not None:
            self.frames += 1
            self.controls += not content
            return [Message(None, content)]
        protocol = self._protocol
        self._measure(data)
        protocol.receive_data(data)
        events, writes = protocol.events_received(), protocol.data_to_send()
        messages: list[Message] = []
        for frame in events:
            if isinstance(frame, Frame):
                self._take(frame, messages)
        self.frames += len(events)
        if protocol.parser_exc is not None and self.violation is None:
            self.violation = self._explained(protocol.parser_exc)
        if self.violation is None:
            self.answer += b"".join(writes)
        self.partial_bytes = self._fragment_bytes + len(protocol.reader.buffer)
        return messages

    def take_answer(self) -> bytes:
        """What is to be sent; it is forgotten here."""
        answer, self.answer = self.answer, b""
        return answer

    def _whole(self, data: bytes) -> bytes | None:
        """The content, where ``data`` is one whole binary message: as most chunks come. ``websockets`` parses the rest.

        It does the same in four times the time.
        """
        if self.wanted_bytes or self._head or self._fragments or len(data) < 6 or data[0] != WHOLE or data[1] < 128:
            return None
        length = _frame_bytes(data, 0)
        head = 6 if data[1] < 254 else 8 if data[1] == 254 else 14
        if length != len(data) or length - head > self._max_bytes:
            return None
        return apply_mask(data[head:], data[head - 4 : head])

    def _measure(self, data: bytes) -> None:
        """Find how much is missing of the frame in which ``data`` ends."""
        at = self.wanted_bytes
        if self._head:
            data, at, self._head = self._head + data, 0, b""
        while at < len(data):
            length = _frame_bytes(data, at)
            if not length:
                self._head, self.wanted_bytes = data[at:], 0
                return
            at += length
        self.wanted_bytes = at - len(data)

    def _take(self, frame: Frame, messages: list[Message]) -> None:
        opcode = frame.opcode
        if opcode is Opcode.CLOSE:
            self.is_closed = True
        self.controls += opcode is Opcode.PING or opcode is Opcode.PONG or opcode is Opcode.TEXT or not frame.data
        if opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT) or self.violation is not None:
            return
        if opcode is not Opcode.CONT:
            self._is_text = opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        self._fragment_bytes += len(frame.data)
        if len(self._fragments) > MOST_FRAGMENTS:
            detail = f"the message has more than {MOST_FRAGMENTS} fragments: send it in one frame"
            self.violation = Problem.of(TooLarge(detail))._replace(close_code=TOO_BIG)
        elif self._is_text and self._fragment_bytes > MOST_TEXT_BYTES:
            detail = f"the text frame is longer than {MOST_TEXT_BYTES} bytes: send input in binary frames"
            self.violation = Problem.of(TooLarge(detail))._replace(close_code=TOO_BIG)
        elif frame.fin:
            content, self._fragments, self._fragment_bytes = b"".join(self._fragments), [], 0
            if not self._is_text:
                messages.append(Message(None, content))
                return
            try:
                messages.append(Message(content.decode(), b""))
            except UnicodeDecodeError:
                detail = "the text frame is not UTF-8: send JSON in UTF-8"
                self.violation = Problem.of(BadFrame(detail, INVALID_TEXT))

    def _explained(self, error: Exception) -> Problem:
        if isinstance(error, PayloadTooBig):
            detail = f"the frame is longer than {self._max_bytes} bytes: cut the input into several chunks"
            return Problem.of(TooLarge(detail))._replace(close_code=TOO_BIG)
        detail = f"these bytes are no frame of RFC 6455 ({error}): send masked frames without extensions"
        return Problem.of(BadFrame(detail, PROTOCOL_ERROR))


def _frame_bytes(data: bytes, at: int) -> int:
    """Length of the masked frame that begins there (RFC 6455, section 5.2); 0 where its head is not complete."""
    if len(data) < at + 2:
        return 0
    length = data[at + 1] & 127
    if length < 126:
        return 6 + length
    more = 2 if length == 126 else 8
    return 6 + more + int.from_bytes(data[at + 2 : at + 2 + more], "big") if len(data) >= at + 2 + more else 0


def text_frame(content: bytes) -> bytes:
    """A text frame of the server."""
    return _head_of(TEXT, len(content)) + content


def binary_frame(content: bytes) -> bytes:
    """A binary frame of the server."""
    return _head_of(WHOLE, len(content)) + content


def _head_of(first: int, length: int) -> bytes:
    """The head of a whole frame of the server (RFC 6455, section 5.2)."""
    if length < 126:
        return bytes((first, length))
    return pack("!BBH", first, 126, length) if length < 65_536 else pack("!BBQ", first, 127, length)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame of the server."""
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False)


def accept_key(key: str) -> str:
    """``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
