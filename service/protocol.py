"""The session protocol: a state machine without input, output, event loop or clock.

A session's progress is (expected, last, ended): the number of the next chunk, the last applied chunk with
its number, content digest and reply, and whether that one ended the session. A chunk comes with a number
or without one, and with the digest of its content and end flag.

    state     number            content    outcome
    -------   ---------------   --------   ---------------------------------------------------------
    none      none, 0           any        Apply(0): the session opens
    none      n > 0             any        NotFound: begin with 0
    open      none              any        Apply(expected)
    open      expected          any        Apply(expected)
    open      last              same       Replay: the stored reply; nothing is applied
    open      last              other      ConflictingChunk(expected)
    open      < last            any        OutOfOrder(expected)
    open      > expected        any        OutOfOrder(expected): a gap
    ended     last              same       Replay
    ended     last              other      ConflictingChunk(expected)
    ended     any other, none   any        SessionEnded

Apply(n), once the engine has done the chunk, leads by ``applied`` to (n + 1, this chunk, its end flag). A
chunk that fails leads nowhere: progress is a value, and the old one still holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import ConflictingChunk, NotFound, OutOfOrder, SessionEnded

R = TypeVar("R")


@dataclass(frozen=True)
class Answered(Generic[R]):
    """A chunk that was applied."""

    seq: int
    digest: bytes
    reply: R


@dataclass(frozen=True)
class Progress(Generic[R]):
    """How far a session is. total_steps: network steps of all its chunks."""

    expected_seq: int = 0
    total_steps: int = 0
    ended: bool = False
    last: Answered[R] | None = None


@dataclass(frozen=True)
class Apply:
    """The chunk counts, under this number."""

    seq: int


@dataclass(frozen=True)
class Replay(Generic[R]):
    """The chunk was applied before, with this reply."""

    reply: R


def opening(session: str, seq: int | None) -> Progress[R]:
    """Progress of a session that does not exist yet and is sent a chunk.

    Raises:
        NotFound: the chunk is not a session's first.
    """
    if seq:
        raise NotFound(f"no session {session!r}: begin it with seq 0 (seq {seq} was sent)")
    return Progress()


def admit(progress: Progress[R], seq: int | None, digest: bytes) -> Apply | Replay[R]:
    """What is to be done with a chunk; see the table above.

    Args:
        seq: the chunk's number; None is the next, whichever that is.

    Raises:
        OutOfOrder, ConflictingChunk, SessionEnded: nothing is to be done.
    """
    last, expected = progress.last, progress.expected_seq
    if last is not None and seq == last.seq:
        if digest == last.digest:
            return Replay(last.reply)
        raise ConflictingChunk(
            f"chunk {seq} was applied with other content: send new content as seq {expected}", expected
        )
    if progress.ended:
        raise SessionEnded("the session has ended: begin another one under a new id")
    if seq is None or seq == expected:
        return Apply(expected)
    if seq > expected:
        raise OutOfOrder(f"seq {seq} leaves a gap: send seq {expected} next", expected)
    raise OutOfOrder(f"seq {seq} was applied long ago: send seq {expected} next", expected)


def applied(progress: Progress[R], *, seq: int, digest: bytes, steps: int, end: bool, reply: R) -> Progress[R]:
    """Progress after the chunk that ``admit`` let in under ``seq``.

    Raises:
        OutOfOrder: it is not the expected one; another was applied since.
    """
    if seq != progress.expected_seq:
        raise OutOfOrder(f"seq {seq} is not the expected {progress.expected_seq}", progress.expected_seq)
    return Progress(seq + 1, progress.total_steps + steps, end, Answered(seq, digest, reply))
