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
    expired   any               any        SessionGone
    missing   none              any        SessionGone: a new beginning would be a silent one
    missing   any               any        as none

Apply(n), once the engine has done the chunk, leads by ``applied`` to (n + 1, this chunk, its end flag). A
chunk that fails leads nowhere: progress is a value, and the old one still holds. Another model than the
session's is ModelMismatch in every state but none; another content of the model, ModelChanged; a version that is not
here, ModelAbsent.

Time moves a session too, by ``status``; nothing needs to be written for it:

    open      idle for idle_s, or older than age_s         expired
    expired   for expired_keep_s                           none
    ended     for ended_keep_s                             none

Replicas. Where a store is shared, a replica may hold a session that another one has moved on. What it
holds is then *not authoritative*, and two rules make that harmless:

    1. An Apply is acknowledged only after a commit that compares the store's revision with the one that
       the decision was made on. It is committed (acknowledge), refused (decide again on what the store
       holds), or its outcome is unknown (no acknowledgement; the next chunk decides on what the store
       holds).
    2. Anything but an Apply is decided on the store's own record: on any other, ``decide`` says Reload.

State, number and reply are one record and change in one commit, so of two replicas that apply chunk n at
the same time one is refused, decides again, and finds a duplicate. *Missing* is a session that this
replica has seen and that the store has no more.

Import and removal are decided on the store's record and committed in the same way:

    state     import                   delete
    -------   ----------------------   -----------
    none      as imported              NotFound
    open      SessionExists; replace   none
    ended     SessionExists; replace   none
    expired   SessionGone; replace     SessionGone
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Generic, Literal, TypeVar, overload

from service.errors import ConflictingChunk, HetsynError, NotFound, OutOfOrder, SessionEnded, SessionExists, SessionGone

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Answered(Generic[R]):
    """A chunk that was applied."""

    seq: int
    digest: bytes
    reply: R


@dataclass(frozen=True, slots=True)
class Progress(Generic[R]):
    """How far a session is.

    Attributes:
        expected_seq: number of the next chunk.
        total_steps: network steps of all its chunks.
        ended: its last chunk ended it.
        last: the last chunk that was applied.
    """

    expected_seq: int = 0
    total_steps: int = 0
    ended: bool = False
    last: Answered[R] | None = None


@dataclass(frozen=True, slots=True)
class Known(Generic[R]):
    """What is known of a session.

    Attributes:
        progress: how far it is.
        created_s: when it began, in seconds of one clock.
        used_s: when a chunk was last applied, likewise.
        dropped: it was found idle or too old, and its stream was thrown away.
    """

    progress: Progress[R]
    created_s: float
    used_s: float
    dropped: bool = False


@dataclass(frozen=True)
class Lifetimes:
    """How long things of a session last.

    Attributes:
        idle_s: a session is open without use.
        age_s: a session is open in all.
        ended_keep_s: the last reply of an ended session is kept.
        expired_keep_s: it is remembered that a session was dropped.
    """

    idle_s: float
    age_s: float
    ended_keep_s: float
    expired_keep_s: float


NO_EXPIRY = Lifetimes(inf, inf, inf, inf)


Status = Literal["none", "open", "ended", "expired"]


@dataclass(frozen=True, slots=True)
class Apply:
    """The chunk counts, under this number."""

    seq: int


@dataclass(frozen=True, slots=True)
class Replay(Generic[R]):
    """The chunk was applied before, with this reply."""

    reply: R


@dataclass(frozen=True)
class Reload:
    """Decide again, on what the store holds."""


def status(known: Known[R] | None, now_s: float, lifetimes: Lifetimes) -> Status:
    """What a session is at a time."""
    if known is None:
        return "none"
    if known.progress.ended:
        return "ended" if now_s - known.used_s < lifetimes.ended_keep_s else "none"
    idle_over_s, age_over_s = known.used_s + lifetimes.idle_s, known.created_s + lifetimes.age_s
    over_s = idle_over_s if idle_over_s < age_over_s else age_over_s
    if now_s < over_s and not known.dropped:
        return "open"
    return "expired" if now_s - over_s < lifetimes.expired_keep_s else "none"


def keep_s(known: Known[R], lifetimes: Lifetimes) -> float:
    """For how long from its last use a record has to be kept: until its status is none."""
    if known.progress.ended:
        return lifetimes.ended_keep_s
    return lifetimes.idle_s + lifetimes.expired_keep_s


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
    missing_from_store: bool = False,
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
    missing_from_store: bool = False,
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
    missing_from_store: bool = False,
) -> Apply | Replay[R] | Reload:
    """What is to be done with a chunk; see the tables above.

    Args:
        seq: the chunk's number; None is the next, whichever that is.
        authoritative: ``known`` is what the store holds, not what a replica remembers of it.
        missing_from_store: the replica has seen the session, and the store has none.

    Raises:
        NotFound, OutOfOrder, ConflictingChunk, SessionEnded, SessionGone: nothing is to be done.
    """
    try:
        decision = _decide(session, known, seq, digest, now_s, lifetimes, missing_from_store)
    except HetsynError:
        if authoritative:
            raise
        return Reload()
    return decision if authoritative or isinstance(decision, Apply) else Reload()


def _decide(
    session: str,
    known: Known[R] | None,
    seq: int | None,
    digest: bytes,
    now_s: float,
    lifetimes: Lifetimes,
    missing_from_store: bool,
) -> Apply | Replay[R]:
    state = status(known, now_s, lifetimes)
    if state == "expired":
        raise expired(session, lifetimes)
    if known is None or state == "none":
        if missing_from_store and seq is None:
            raise SessionGone(
                f"session {session!r} is no longer in the store: it was deleted, or the store lost it. "
                "Begin another, under a new id"
            )
        progress: Progress[R] = opening(session, seq)
        return admit(progress, seq, digest)
    return admit(known.progress, seq, digest)


def expired(session: str, lifetimes: Lifetimes) -> SessionGone:
    """The session was dropped, as an error."""
    return SessionGone(
        f"session {session!r} was dropped after {lifetimes.idle_s:g} s idle, or at the age of {lifetimes.age_s:g} s: "
        "begin another, under a new id"
    )


def unknown(session: str) -> NotFound:
    """There is no session of this id, as an error."""
    return NotFound(f"no session {session!r}: it has not begun, was deleted, or ended a while ago")


def check_import(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes, *, replace: bool) -> None:
    """Whether a session may be imported under an id.

    Raises:
        SessionExists, SessionGone: not without ``replace``.
    """
    state = status(known, now_s, lifetimes)
    if replace or state == "none":
        return
    if state == "expired":
        raise expired(session, lifetimes)
    raise SessionExists(f"session {session!r} exists: delete it first, import with replace=true, or use another id")


def check_delete(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes) -> None:
    """Whether there is a session to be looked at or deleted.

    Raises:
        NotFound, SessionGone: there is none.
    """
    state = status(known, now_s, lifetimes)
    if state == "none":
        raise unknown(session)
    if state == "expired":
        raise expired(session, lifetimes)


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
