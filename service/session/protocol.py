"""The session protocol: a state machine without input, output, event loop or clock.

A session's progress is (expected, last, ended): the number of the next chunk, the last applied chunk with
its number, content digest and reply, and whether that one ended the session. A chunk comes with a number
or without one, and with the digest of its content and end flag.

    state     number            content    outcome
    -------   ---------------   --------   ---------------------------------------------------------
    none      0                 any        Apply(0): the session begins
    none      none, n > 0       any        NotFound: begin with 0
    open      none              any        Apply(expected)
    open      expected          any        Apply(expected)
    open      last              same       Replay: the stored reply; nothing is applied
    open      last              other      ConflictingChunk(expected)
    open      < last            any        OutOfOrder(expected)
    open      > expected        any        OutOfOrder(expected): a gap
    ended     last              same       Replay
    ended     last              other      ConflictingChunk(expected)
    ended     any other, none   any        SessionEnded

A request can also begin a session explicitly, even over an existing one: that is not decided here.

After the engine has computed the chunk of Apply(n), ``applied`` gives the new progress: (n + 1, this chunk, its end
flag). A failed chunk changes nothing: progress is a value, and the old one stays valid. A request that names another
model than the session's gets ModelMismatch in every state but none. If the model's content has changed since the
session began, the request gets ModelChanged; if the server lacks the model's version, ModelAbsent.

Time changes a session's state too, by ``status``; nothing is written for it:

    open      idle for idle_s, or older than age_s         none
    ended     for ended_keep_s                             none

A session that has expired, or that its store has lost, counts as one that never existed.

Replicas. If replicas share a store, a replica may have cached a session that another replica has since advanced. The
cached session is *not authoritative*, and two rules make that harmless:

    1. An Apply is acknowledged only after a commit that compares the store's revision with the one that the
       decision was made on. The commit succeeds (acknowledge), is refused (decide again on the store's record),
       or has an unknown outcome (no acknowledgement; the next chunk decides on the store's record).
    2. Everything but an Apply is decided on the store's own record: on a cached one, ``decide`` returns Reload.

State, number and reply are one record and change in one commit. So if two replicas apply chunk n at the same time, one
is refused, decides again, and finds a duplicate.

Import and removal are decided on the store's record and committed in the same way:

    state     import                   delete
    -------   ----------------------   -----------
    none      as imported              NotFound
    open      SessionExists; replace   none
    ended     SessionExists; replace   none
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from operator import add, attrgetter
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from service.errors import ConflictingChunk, HetsynError, NotFound, OutOfOrder, SessionEnded, SessionExists
from service.keys.ids import client_id

R = TypeVar("R")

EXPIRED_RECORD_S = 300.0  # a store keeps an expired session for this time, so that its server can count and delete it


class Answered(NamedTuple, Generic[R]):
    """An applied chunk."""

    seq: int
    digest: bytes
    reply: R


class Progress(NamedTuple, Generic[R]):
    """The progress of a session.

    Attributes:
        expected_seq: number of the next chunk.
        total_steps: network steps of all chunks so far.
        ended: the last chunk ended the session.
        last: the last applied chunk; None before the first.
    """

    expected_seq: int = 0
    total_steps: int = 0
    ended: bool = False
    last: Answered[R] | None = None


class Known(NamedTuple, Generic[R]):
    """The protocol's knowledge of a session.

    Attributes:
        created_s: when it began, in seconds of any clock.
        used_s: when a chunk was last applied, in seconds of the same clock.
    """

    progress: Progress[R]
    created_s: float
    used_s: float


@dataclass(frozen=True)
class Lifetimes:
    """The lifetimes of sessions.

    Attributes:
        idle_s: time without use after which an open session expires.
        age_s: age at which an open session expires.
        ended_keep_s: time that the last reply of an ended session is kept.
        first_idle_s: idle time after which a session of one chunk makes room for another in a full server.
    """

    idle_s: float
    age_s: float
    ended_keep_s: float
    first_idle_s: float = inf


NO_EXPIRY = Lifetimes(inf, inf, inf)


Status = Literal["none", "open", "ended"]


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply the chunk under this number."""

    seq: int


@dataclass(frozen=True, slots=True)
class Replay(Generic[R]):
    """Send this reply again: the chunk was applied before."""

    reply: R


@dataclass(frozen=True)
class Reload:
    """Decide again, on the store's record."""


def status(known: Known[R] | None, now_s: float, lifetimes: Lifetimes) -> Status:
    """Return the state of a session at a time. None: nothing is known of it."""
    if known is None:
        return "none"
    if known.progress.ended:
        return "ended" if now_s - known.used_s < lifetimes.ended_keep_s else "none"
    idle_over_s, age_over_s = known.used_s + lifetimes.idle_s, known.created_s + lifetimes.age_s
    return "open" if now_s < idle_over_s and now_s < age_over_s else "none"


def are_next(known: Sequence[Known[R]], seqs: Sequence[int | None], now_s: float, lifetimes: Lifetimes) -> bool:
    """Return whether each chunk is the next one of an open session, so that ``decide`` applies it: the usual case."""
    progress, created_s, used_s = zip(*known, strict=True)
    expected, _, ended, _ = zip(*progress, strict=True)
    is_open = True not in ended and now_s < min(used_s) + lifetimes.idle_s and now_s < min(created_s) + lifetimes.age_s
    return is_open and tuple(seqs) == expected


def keep_s(known: Known[R], lifetimes: Lifetimes) -> float:
    """Compute the seconds from its last use that a record must be stored: at least until its status is none."""
    return lifetimes.ended_keep_s if known.progress.ended else lifetimes.idle_s + EXPIRED_RECORD_S


@overload
def decide(
    session: str,
    known: Known[R] | None,
    seq: int | None,
    digest: bytes,
    now_s: float,
    lifetimes: Lifetimes,
    *,
    authoritative: Literal[True] = True,
) -> Apply | Replay[R]: ...


@overload
def decide(
    session: str,
    known: Known[R] | None,
    seq: int | None,
    digest: bytes,
    now_s: float,
    lifetimes: Lifetimes,
    *,
    authoritative: bool,
) -> Apply | Replay[R] | Reload: ...


def decide(
    session: str,
    known: Known[R] | None,
    seq: int | None,
    digest: bytes,
    now_s: float,
    lifetimes: Lifetimes,
    *,
    authoritative: bool = True,
) -> Apply | Replay[R] | Reload:
    """Decide what to do with a chunk, by the tables above.

    Args:
        session: its id, for messages.
        known: None if the session does not exist.
        seq: number of the chunk; None takes the next number.
        digest: digest of the chunk's content and end flag.
        authoritative: ``known`` is the store's record, not a cached one.

    Raises:
        NotFound, OutOfOrder, ConflictingChunk, SessionEnded: the chunk is refused.
    """
    try:
        if known is None or status(known, now_s, lifetimes) == "none":
            if seq != 0:
                raise unknown(session)
            decision: Apply | Replay[R] = Apply(0)
        else:
            decision = admit(known.progress, seq, digest)
    except HetsynError:
        if authoritative:
            raise
        return Reload()
    return decision if authoritative or isinstance(decision, Apply) else Reload()


def unknown(session: str) -> NotFound:
    return NotFound(
        f"no session {client_id(session)!r}: it has not begun, has expired, was deleted, ended a while ago, or was "
        "lost with its server (--store keeps sessions). A session begins with seq 0, with begin=true "
        "(sequence_start), or without an id"
    )


def check_import(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes, *, replace: bool) -> None:
    """Raise SessionExists if there is a session of this id, and the import may not replace it."""
    if replace or status(known, now_s, lifetimes) == "none":
        return
    raise SessionExists(
        f"session {client_id(session)!r} exists: delete it first, import with replace=true, or use another id"
    )


def check_delete(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes) -> None:
    """Raise NotFound if there is no session to describe, export or delete."""
    if status(known, now_s, lifetimes) == "none":
        raise unknown(session)


def admit(progress: Progress[R], seq: int | None, digest: bytes) -> Apply | Replay[R]:
    """Decide on a chunk of an open or ended session, by the first table above. Arguments and errors as ``decide``."""
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
    """Compute the progress after a chunk. Arguments and errors as ``all_applied``."""
    return next(all_applied([progress], [Answered(seq, digest, reply)], [steps], [end]))


def all_applied(
    before: Sequence[Progress[R]], chunks: Sequence[Answered[R]], steps: Iterable[int], ends: Iterable[bool]
) -> Iterator[Progress[R]]:
    """Compute the progress of several sessions after a chunk each, with the number from ``Apply``.

    Raises:
        OutOfOrder: another chunk was applied since the decision.
    """
    seqs = list(map(_seq_of, chunks))
    if seqs != (expected := list(map(_expected_of, before))):
        seq, right = next(pair for pair in zip(seqs, expected, strict=True) if pair[0] != pair[1])
        raise OutOfOrder(f"seq {seq} is not the expected {right}", right)
    totals = map(add, map(_total_of, before), steps)
    return map(_progress, zip(map((1).__add__, seqs), totals, ends, chunks, strict=False))


_seq_of, _expected_of, _total_of = attrgetter("seq"), attrgetter("expected_seq"), attrgetter("total_steps")
_progress: Callable[[Iterable[Any]], Progress[Any]] = partial(
    tuple.__new__, Progress
)  # twice as fast as ``Progress()``
