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

Once the engine has computed the chunk of Apply(n), ``applied`` gives the new progress: (n + 1, this chunk, its end
flag). A chunk that fails changes nothing: progress is a value, and the old one stays valid. A request that names
another model than the session's gets ModelMismatch in every state but none. If the model has other content than when
the session began, the request gets ModelChanged; if the server lacks the model's version, ModelAbsent.

Time changes a session's state too, by ``status``; nothing is written for it:

    open      idle for idle_s, or older than age_s         expired
    expired   for expired_keep_s                           none
    ended     for ended_keep_s                             none

Replicas. If replicas share a store, a replica may have cached a session that another replica has since advanced. The
cached session is *not authoritative*, and two rules make that harmless:

    1. An Apply is acknowledged only after a commit that compares the store's revision with the one that the
       decision was made on. The commit succeeds (acknowledge), is refused (decide again on the store's record),
       or has an unknown outcome (no acknowledgement; the next chunk decides on the store's record).
    2. Anything but an Apply is decided on the store's own record: on any other, ``decide`` returns Reload.

State, number and reply are one record and change in one commit. So if two replicas apply chunk n at the same time, one
is refused, decides again, and finds a duplicate. *Missing* is a session that this replica has seen and that the store
does not have any more.

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
from typing import Generic, Literal, NamedTuple, TypeVar, overload

from service.errors import ConflictingChunk, HetsynError, NotFound, OutOfOrder, SessionEnded, SessionExists, SessionGone
from service.keys.ids import client_id

R = TypeVar("R")


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
        dropped: whether it has expired and its stream was discarded.
    """

    progress: Progress[R]
    created_s: float
    used_s: float
    dropped: bool = False


@dataclass(frozen=True)
class Lifetimes:
    """How long a session and the memory of it last.

    Attributes:
        idle_s: time without use after which an open session expires.
        age_s: age at which an open session expires.
        ended_keep_s: time for which the last reply of an ended session is remembered.
        expired_keep_s: time for which an expired session is remembered.
        first_idle_s: time without use after which a session of one chunk makes room for another, where a full server
            lacks it.
    """

    idle_s: float
    age_s: float
    ended_keep_s: float
    expired_keep_s: float
    first_idle_s: float = inf


NO_EXPIRY = Lifetimes(inf, inf, inf, inf)


Status = Literal["none", "open", "ended", "expired"]


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
    over_s = idle_over_s if idle_over_s < age_over_s else age_over_s
    if now_s < over_s and not known.dropped:
        return "open"
    return "expired" if now_s - over_s < lifetimes.expired_keep_s else "none"


def keep_s(known: Known[R], lifetimes: Lifetimes) -> float:
    """Time from its last use for which a session's record has to be stored: until its status is none."""
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
    """Decide what to do with a chunk; see the tables above.

    Args:
        session: its id, for messages.
        known: of the session; None if it does not exist.
        seq: number of the chunk; None takes the next number.
        digest: of the chunk's content and end flag.
        now_s: time, by the clock of ``known``.
        lifetimes: of sessions.
        authoritative: ``known`` is the store's record, not one that a replica has cached.
        missing_from_store: the replica has seen the session, and the store has none.

    Raises:
        NotFound, OutOfOrder, ConflictingChunk, SessionEnded, SessionGone: the chunk is refused.
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
                f"session {client_id(session)!r} is no longer in the store: it was deleted, or the store lost it. "
                "Begin another, under a new id"
            )
        progress: Progress[R] = opening(session, seq)
        return admit(progress, seq, digest)
    return admit(known.progress, seq, digest)


def expired(session: str, lifetimes: Lifetimes) -> SessionGone:
    """The error for an expired session."""
    early = ""
    if lifetimes.first_idle_s < lifetimes.idle_s:
        early = f" ({lifetimes.first_idle_s:g} s after a single chunk, if the server is full)"
    return SessionGone(
        f"session {client_id(session)!r} has expired, after {lifetimes.idle_s:g} s without a chunk{early} "
        f"or at the age of {lifetimes.age_s:g} s: begin another, under a new id"
    )


def ended_without_reply(session: str) -> SessionEnded:
    """The error for a session that has ended, and whose last reply is not kept."""
    return SessionEnded(
        f"session {client_id(session)!r} has ended, and its last reply is no longer kept, because many sessions end "
        "here: begin another, under a new id"
    )


def unknown(session: str) -> NotFound:
    """The error for a session that does not exist."""
    return NotFound(f"no session {client_id(session)!r}: it has not begun, was deleted, or ended a while ago")


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
        SessionGone: the session of this id has expired, and not ``replace``.
    """
    state = status(known, now_s, lifetimes)
    if replace or state == "none":
        return
    if state == "expired":
        raise expired(session, lifetimes)
    raise SessionExists(
        f"session {client_id(session)!r} exists: delete it first, import with replace=true, or use another id"
    )


def check_delete(session: str, known: Known[R] | None, now_s: float, lifetimes: Lifetimes) -> None:
    """Check that there is a session to describe, export or delete.

    Raises:
        NotFound: there is no such session.
        SessionGone: the session has expired.
    """
    state = status(known, now_s, lifetimes)
    if state == "none":
        raise unknown(session)
    if state == "expired":
        raise expired(session, lifetimes)


def opening(session: str, seq: int | None) -> Progress[R]:
    """The progress on which a session's first chunk is decided.

    Raises:
        NotFound: the number is not a first chunk's.
    """
    if seq:
        raise NotFound(f"no session {client_id(session)!r}: begin it with seq 0 (seq {seq} was sent)")
    return Progress()


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
    """Progress after a chunk.

    Args:
        progress: before the chunk.
        seq: number of the chunk, from ``Apply``.
        digest: of the chunk's content and end flag.
        steps: network steps of the chunk.
        end: whether the chunk ends the session.
        reply: to the chunk.

    Raises:
        OutOfOrder: another chunk was applied since the decision.
    """
    if seq != progress.expected_seq:
        raise OutOfOrder(f"seq {seq} is not the expected {progress.expected_seq}", progress.expected_seq)
    return Progress(seq + 1, progress.total_steps + steps, end, Answered(seq, digest, reply))
