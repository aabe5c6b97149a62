"""Reads and writes the frames of a WebSocket at the server's end (RFC 6455).

``websockets`` parses and checks the frames. There are no extensions and so no compression: few bytes never become many.
Messages, their fragments and texts have bounds.
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
except ImportError:  # it was installed without a compiler
    from websockets.utils import apply_mask

from service.errors import BadFrame, TooLarge
from service.live.protocol import MOST_TEXT_BYTES
from service.problem import Problem

MOST_FRAGMENTS = 1_024  # limit of a message's fragments
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
PROTOCOL_ERROR, INVALID_TEXT, POLICY, TOO_BIG = 1002, 1007, 1008, 1009

TEXT, WHOLE = 0x81, 0x82  # first bytes of a whole text and of a whole binary message
PING = Frame(Opcode.PING, b"").serialize(mask=False)


class Message(NamedTuple):
    """A client's message. ``text`` is None if it is binary."""

    text: str | None
    content: bytes


class FrameReader:
    """Parses a client's frames: each one when it is complete and requested.

    Attributes:
        violation: the reason if nothing more is read, else None.
        answer: bytes to send: pongs, and the answer to a close frame.
        frames: number of frames that were read.
        bytes: their bytes.
        controls: number of frames without a chunk.
        is_closed: the client has sent its close frame.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._protocol = Protocol(Side.SERVER, max_size=max_bytes)
        self._come = bytearray()
        self._next: tuple[int, int] | None = None  # lengths of the next frame, if they are known
        self._fragments: list[bytes] = []
        self._fragment_bytes = 0
        self._is_text = False
        self.violation: Problem | None = None
        self.answer = b""
        self.frames = self.bytes = 0
        self.controls = 0
        self.is_closed = False

    @property
    def held_bytes(self) -> int:
        """Count the bytes of unread frames, and of fragments of incomplete messages."""
        return self._fragment_bytes + len(self._come)

    def feed(self, data: bytes) -> None:
        self._come += data
        self._next = None

    def has_frame(self) -> bool:
        """Return whether a whole frame has come, or the beginning of one that will be refused."""
        if not self._come:
            return False
        if self._next is None:
            self._next = self._head_and_length()
        return 0 < self._next[1] <= len(self._come)

    def read(self) -> Message | None:
        """Read the next frame, and return the message that it completes."""
        head, length = self._next or self._head_and_length()
        self._next = None
        self.frames += 1
        self.bytes += length
        come = self._come
        if head and come[0] == WHOLE and not self._fragments:  # the usual case, four times as fast
            if length == head:
                self.controls += 1
            content = apply_mask(come[head:length], come[head - 4 : head])
            del come[:length]
            return tuple.__new__(Message, (None, content))
        frame = bytes(come[:length])
        del come[:length]
        protocol = self._protocol
        protocol.receive_data(frame)
        events, writes = protocol.events_received(), protocol.data_to_send()
        message = None
        for event in events:
            if isinstance(event, Frame):
                message = self._message(event)
        if protocol.parser_exc is not None:
            self.violation = self._explained(protocol.parser_exc)
        if self.violation is not None:
            return None
        self.answer += b"".join(writes)
        return message

    def take_answer(self) -> bytes:
        """Take the bytes to send; they are forgotten here."""
        answer, self.answer = self.answer, b""
        return answer

    def _head_and_length(self) -> tuple[int, int]:
        """Return the lengths of the next frame's head and of the frame (RFC 6455, section 5.2).

        The frame's length is 0 if the head is not complete. The head's length is 0 if the frame is not masked, or too
        long: the frame's length is then all that has come, which ``websockets`` refuses.
        """
        come = self._come
        if len(come) < 2 or self.violation is not None or self.is_closed:
            return 0, 0
        length, head = come[1] & 127, 6
        if length > 125:
            head = 8 if length == 126 else 14
            if len(come) < head:
                return 0, 0
            length = int.from_bytes(come[2 : head - 4], "big")
        if come[1] < 128 or length > self._max_bytes:
            return 0, len(come)
        return head, head + length

    def _message(self, frame: Frame) -> Message | None:
        """Return the message that a frame completes, if any."""
        opcode = frame.opcode
        self.is_closed = opcode is Opcode.CLOSE
        self.controls += opcode is Opcode.PING or opcode is Opcode.PONG or opcode is Opcode.TEXT or not frame.data
        if opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
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
                return Message(None, content)
            try:
                return Message(content.decode(), b"")
            except UnicodeDecodeError:
                detail = "the text frame is not UTF-8: send JSON in UTF-8"
                self.violation = Problem.of(BadFrame(detail, INVALID_TEXT))
        return None

    def _explained(self, error: Exception) -> Problem:
        if isinstance(error, PayloadTooBig):
            detail = f"the frame is longer than {self._max_bytes} bytes: cut the input into several chunks"
            return Problem.of(TooLarge(detail))._replace(close_code=TOO_BIG)
        if isinstance(error, UnicodeDecodeError):
            return Problem.of(BadFrame("the reason of the close frame is not UTF-8", INVALID_TEXT))
        detail = f"these bytes are no frame of RFC 6455 ({error}): send masked frames without extensions"
        return Problem.of(BadFrame(detail, PROTOCOL_ERROR))


def text_frame(content: bytes) -> bytes:
    """Write a text frame of the server."""
    return _head_of(TEXT, len(content)) + content


def binary_frame(content: bytes) -> bytes:
    """Write a binary frame of the server."""
    return _head_of(WHOLE, len(content)) + content


def _head_of(first: int, length: int) -> bytes:
    """Write the head of a whole frame of the server (RFC 6455, section 5.2)."""
    if length < 126:
        return bytes((first, length))
    return pack("!BBH", first, 126, length) if length < 65_536 else pack("!BBQ", first, 127, length)


def close_frame(code: int, reason: str) -> bytes:
    """Write a close frame of the server."""
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False)


def accept_key(key: str) -> str:
    """Compute ``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
