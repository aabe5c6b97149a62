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

A request can also begin a session explicitly, whatever was there: it is not decided here.

Once the engine has computed the chunk of Apply(n), ``applied`` gives the new progress: (n + 1, this chunk, its end
flag). A chunk that fails changes nothing: progress is a value, and the old one stays valid. A request that names
another model than the session's gets ModelMismatch in every state but none. If the model has other content than when
the session began, the request gets ModelChanged; if the server lacks the model's version, ModelAbsent.

Time changes a session's state too, by ``status``; nothing is written for it:

    open      idle for idle_s, or older than age_s         none
    ended     for ended_keep_s                             none

A session that has expired, or that its store has lost, is as one that never was.

Replicas. If replicas share a store, a replica may have cached a session that another replica has since advanced. The
cached session is *not authoritative*, and two rules make that harmless:

    1. An Apply is acknowledged only after a commit that compares the store's revision with the one that the
       decision was made on. The commit succeeds (acknowledge), is refused (decide again on the store's record),
       or has an unknown outcome (no acknowledgement; the next chunk decides on the store's record).
    2. Anything but an Apply is decided on the store's own record: on any other, ``decide`` returns Reload.

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

EXPIRED_RECORD_S = 300.0  # that a store keeps an expired session, so that a server which had it can count and delete it


class Answered(NamedTuple, Generic[R]):
    """A chunk that was applied.

    Attributes:
        seq: its number.
        digest: of its content and end flag.
        reply: to the chunk.
    """

    seq: int
    digest: bytes
    reply: R


class Progress(NamedTuple, Generic[R]):
    """How far a session is.

    Attributes:
        expected_seq: number of the next chunk.
        total_steps: network steps of all chunks so far.
        ended: whether the last chunk ended the session.
        last: the last chunk that was applied; None before the first.
    """

    expected_seq: int = 0
    total_steps: int = 0
    ended: bool = False
    last: Answered[R] | None = None


class Known(NamedTuple, Generic[R]):
    """What the protocol knows of a session.

    Attributes:
        progress: how far it is.
        created_s: when it began, in seconds of any one clock.
        used_s: when a chunk was last applied, in seconds of the same clock.
    """

    progress: Progress[R]
    created_s: float
    used_s: float


@dataclass(frozen=True)
class Lifetimes:
    """How long a session lasts.

    Attributes:
        idle_s: time without use after which an open session expires.
        age_s: age at which an open session expires.
        ended_keep_s: time for which the last reply of an ended session is remembered.
        first_idle_s: time without use after which a session of one chunk makes room for another, where a full server
            lacks it.
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
    """The state of a session at a time; None is a session of which nothing is known."""
    if known is None:
        return "none"
    if known.progress.ended:
        return "ended" if now_s - known.used_s < lifetimes.ended_keep_s else "none"
    idle_over_s, age_over_s = known.used_s + lifetimes.idle_s, known.created_s + lifetimes.age_s
    return "open" if now_s < idle_over_s and now_s < age_over_s else "none"


def are_next(known: Sequence[Known[R]], seqs: Sequence[int | None], now_s: float, lifetimes: Lifetimes) -> bool:
    """Whether ``decide`` applies each of some chunks for being the next one of an open session: the usual case.

    Args:
        known: of the sessions.
        seqs: numbers of the chunks.
        now_s: time, by the clock of ``known``.
        lifetimes: of sessions.
    """
    progress, created_s, used_s = zip(*known, strict=True)
    expected, _, ended, _ = zip(*progress, strict=True)
    is_open = True not in ended and now_s < min(used_s) + lifetimes.idle_s and now_s < min(created_s) + lifetimes.age_s
    return is_open and tuple(seqs) == expected


def keep_s(known: Known[R], lifetimes: Lifetimes) -> float:
    """Time from its last use for which a session's record has to be stored: at least until its status is none."""
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
    """Decide what to do with a chunk; see the tables above.

    Args:
        session: its id, for messages.
        known: of the session; None if it does not exist.
        seq: number of the chunk; None takes the next number.
        digest: of the chunk's content and end flag.
        now_s: time, by the clock of ``known``.
        lifetimes: of sessions.
        authoritative: ``known`` is the store's record, not one that a replica has cached.

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
    """The error for a session that does not exist."""
    return NotFound(
        f"no session {client_id(session)!r}: it has not begun, has expired, was deleted, ended a while ago, or was "
        "lost with its server (--store keeps sessions). A session begins with seq 0, with begin=true "
        "(sequence_start), or without an id"
    )


def check_import(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes, *, replace: bool) -> None:
    """Check that a session may be imported under an id.

    Args:
        session: the id.
        known: of the session of this id; None if there is none.
        now_s: time, by the clock of ``known``.
        lifetimes: of sessions.
        replace: whether the import may replace a session.

    Raises:
        SessionExists: there is a session of this id, and not ``replace``.
    """
    if replace or status(known, now_s, lifetimes) == "none":
        return
    raise SessionExists(
        f"session {client_id(session)!r} exists: delete it first, import with replace=true, or use another id"
    )


def check_delete(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes) -> None:
    """Check that there is a session to describe, export or delete.

    Raises:
        NotFound: there is no such session.
    """
    if status(known, now_s, lifetimes) == "none":
        raise unknown(session)


def admit(progress: Progress[R], seq: int | None, digest: bytes) -> Apply | Replay[R]:
    """Decide on a chunk of an open or ended session; see the first table above.

    Args:
        progress: of the session.
        seq: number of the chunk; None takes the next number.
        digest: of the chunk's content and end flag.

    Raises:
        OutOfOrder, ConflictingChunk, SessionEnded: the chunk is refused.
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
    """Progress after a chunk; arguments and errors as of ``all_applied``."""
    return next(all_applied([progress], [Answered(seq, digest, reply)], [steps], [end]))


def all_applied(
    before: Sequence[Progress[R]], chunks: Sequence[Answered[R]], steps: Iterable[int], ends: Iterable[bool]
) -> Iterator[Progress[R]]:
    """Progress of several sessions after a chunk each.

    Args:
        before: the progress before the chunk.
        chunks: with the number from ``Apply``.
        steps: network steps of the chunk.
        ends: whether the chunk ends the session.

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
_progress: Callable[[Iterable[Any]], Progress[Any]] = partial(tuple.__new__, Progress)  # in half of its own time
