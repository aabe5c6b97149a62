"""Replicas, clients, crashes and a failing store in any order, against a plain model of what must come of it.

A replica here is ``protocol`` and a memory of what it committed last, as in ``sessions``; its engine is a list of
contents. Every request is cut into its steps (look, decide, compute, commit, hear of it), and the steps of all
requests are interleaved at random. The model is the list of chunks whose commit the store accepted.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from service.errors import ConflictingChunk, HetsynError, NotFound, OutOfOrder, SessionEnded
from service.session.protocol import (
    Apply,
    Known,
    Lifetimes,
    Progress,
    Reload,
    Replay,
    Status,
    applied,
    check_delete,
    decide,
    keep_s,
    status,
)
from service.store.base import NO_REVISION, Change, CommitResult, Stored, new_revision
from tests.support.stores.memory_store import MemoryStore

LIFETIMES = Lifetimes(idle_s=10, age_s=40, ended_keep_s=5)
RARELY = st.sampled_from([False, False, False, True])
T = TypeVar("T")

Reply = tuple[str, ...]  # of a chunk: all contents so far, so that no two states give the same


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waited")


@dataclass(frozen=True)
class StoredSession:
    """What a record holds; the store sees bytes, and here the number of an entry of ``Replicas.records``."""

    known: Known[Reply]
    state: Reply


@dataclass(frozen=True)
class SeenRecord:
    """A session as a replica last saw it in the store."""

    revision: int = NO_REVISION
    session: StoredSession | None = None


@dataclass
class Replica:
    """A process in front of the store.

    Attributes:
        memory: records as last seen, by session.
        lives: how often it has crashed; a request of an earlier life is nobody's.
    """

    memory: dict[str, SeenRecord] = field(default_factory=dict)
    lives: int = 0


@dataclass(frozen=True)
class Sent:
    """A request under way, decided and computed: what it will try to commit, and what it will answer."""

    replica: int
    life: int
    session: str
    seq: int | None
    digest: bytes
    end: bool
    seen: SeenRecord
    after: StoredSession
    reply: Reply


class Replicas(RuleBasedStateMachine):
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0
        self.store = MemoryStore(lambda: self.now_s)
        self.replicas = [Replica(), Replica(), Replica()]
        self.records: list[StoredSession] = []
        # the model: of each session, the contents applied in its present life, and the times that matter
        self.log: dict[str, list[tuple[str, bool]]] = {}
        self.busy: set[tuple[int, int, str]] = set()

    # steps

    @rule(
        target=sent,
        replica=st.integers(0, 2),
        session=st.sampled_from(["a", "b"]),
        number=st.sampled_from(["none", "first", "last", "next", "next", "gap"]),
        content=st.sampled_from(["x", "y"]),
        end=st.sampled_from([False, False, False, True]),
    )
    def send(self, replica: int, session: str, number: str, content: str, end: bool) -> Any:
        """A client sends a chunk; the replica decides, and computes if it is to be applied."""
        applied = len(self.log.get(session, []))
        seq = {"none": None, "first": 0, "last": max(0, applied - 1), "next": applied, "gap": applied + 1}[number]
        request = (replica, self.replicas[replica].lives, session)
        if request in self.busy:
            return multiple()  # one chunk of a session at a time, in each replica
        sent = self._decide(replica, session, seq, content, end)
        if sent is None:
            return multiple()
        self.busy.add(request)
        return sent

    @rule(sent=consumes(sent), fate=st.sampled_from(["well", "well", "well", "deaf", "down", "crash"]))
    def commit(self, sent: Sent, fate: str) -> None:
        """The commit, and whether the replica hears of it. ``crash``: it dies in between."""
        replica = self.replicas[sent.replica]
        alive = replica.lives == sent.life
        self.busy.discard((sent.replica, sent.life, sent.session))
        # what a dead replica had sent may still arrive
        verdict = None if fate == "down" else self._commit(sent)
        if not alive:
            return
        replica.memory.pop(sent.session, None)
        if fate == "crash":
            self.crash(sent.replica)
        elif fate == "well" and verdict is not None and verdict[0] is CommitResult.committed:
            replica.memory[sent.session] = SeenRecord(verdict[1], sent.after)
            self._acknowledged(sent.session, len(sent.after.state) - 1, sent.reply)
        elif fate == "well":  # fenced: decide again
            again = self._decide(sent.replica, sent.session, sent.seq, sent.reply[-1], sent.end, is_first=False)
            if again is not None:
                self.commit(again, "well")

    @rule(replica=st.integers(0, 2), happens=RARELY)
    def fail(self, replica: int, happens: bool) -> None:
        if happens:
            self.crash(replica)

    def crash(self, replica: int) -> None:
        """It loses all that it remembers; what it was doing is heard of no more."""
        lives = self.replicas[replica].lives
        self.replicas[replica] = Replica(lives=lives + 1)

    @rule(by_s=st.sampled_from([0.1, 0.1, 0.1, 0.5, 3.0, 6.0, 12.0, 31.0]))
    def wait(self, by_s: float) -> None:
        self.now_s += by_s
        for session in list(self.log):
            if self._stored(session).session is None:
                del self.log[session]

    @rule(replica=st.integers(0, 2), session=st.sampled_from(["a", "b"]), happens=RARELY)
    def delete(self, replica: int, session: str, happens: bool) -> None:
        if not happens:
            return
        seen = self._stored(session)
        try:
            check_delete(session, seen.session.known if seen.session else None, self.now_s, LIFETIMES)
        except HetsynError:
            return
        (verdict,) = at_once(self.store.commit([Change(session, seen.revision, 1, None, 0.0)]))
        assert verdict is CommitResult.committed
        self.replicas[replica].memory.pop(session, None)
        del self.log[session]

    # what must hold

    @invariant()
    def the_store_holds_what_was_applied_in_order(self) -> None:
        for session in ("a", "b"):
            stored = self._stored(session).session
            log = self.log.get(session, [])
            if stored is None:
                continue
            progress = stored.known.progress
            assert stored.state == tuple(content for content, _ in log)
            assert progress.expected_seq == len(log)
            assert progress.total_steps == len(log)
            assert progress.ended == log[-1][1]
            assert progress.last is not None
            assert progress.last.reply == stored.state

    # within

    def _decide(
        self, number: int, session: str, seq: int | None, content: str, end: bool, *, is_first: bool = True
    ) -> Sent | None:
        replica = self.replicas[number]
        digest = content.encode() + bytes([end])
        assume_new = is_first and session not in replica.memory and seq == 0
        for _ in range(3):
            authoritative = False
            if assume_new:
                seen = SeenRecord()
            elif session in replica.memory:
                seen = replica.memory[session]
            else:
                seen, authoritative = self._stored(session), True
                if seen.session is not None:
                    replica.memory[session] = seen
            assume_new = False
            known = seen.session.known if seen.session else None
            try:
                decision = decide(session, known, seq, digest, self.now_s, LIFETIMES, authoritative=authoritative)
            except HetsynError as error:
                self._refused(session, seq, content, end, error)
                return None
            if isinstance(decision, Replay):
                assert seq is not None
                assert self.log[session][seq] == (content, end)
                self._acknowledged(session, seq, decision.reply)
                return None
            if isinstance(decision, Apply):
                return self._computed(number, session, seq, digest, content, end, seen, decision)
            assert decision == Reload()
            replica.memory.pop(session, None)
        raise AssertionError("what the store holds was not enough to decide")

    def _computed(
        self,
        number: int,
        session: str,
        seq: int | None,
        digest: bytes,
        content: str,
        end: bool,
        seen: SeenRecord,
        decision: Apply,
    ) -> Sent:
        goes_on = seen.session is not None and decision.seq > 0
        before = (
            seen.session if goes_on and seen.session else StoredSession(Known(Progress(), self.now_s, self.now_s), ())
        )
        reply = (*before.state, content)
        progress = applied(before.known.progress, seq=decision.seq, digest=digest, steps=1, end=end, reply=reply)
        after = StoredSession(Known(progress, before.known.created_s, self.now_s), reply)
        life = self.replicas[number].lives
        return Sent(number, life, session, seq, digest, end, seen, after, reply)

    def _commit(self, sent: Sent) -> tuple[CommitResult, int]:
        self.records.append(sent.after)
        revision = new_revision()
        record = (len(self.records) - 1).to_bytes(4, "big")
        before, kept_s = self._status(sent.session), keep_s(sent.after.known, LIFETIMES)
        (verdict,) = at_once(self.store.commit([Change(sent.session, sent.seen.revision, revision, record, kept_s)]))
        assert isinstance(verdict, CommitResult)
        if verdict is CommitResult.committed:
            # the model: what is committed follows what was applied before, whoever computed it and when
            log = self.log.setdefault(sent.session, [])
            if len(sent.after.state) == 1:
                assert before == "none"  # a session that is there does not begin anew
                log.clear()
            log.append((sent.reply[-1], sent.end))
            assert tuple(content for content, _ in log) == sent.after.state
        return verdict, revision

    def _acknowledged(self, session: str, seq: int, reply: Reply) -> None:
        """A reply is that of a run without faults, and its chunk is applied."""
        assert reply == tuple(content for content, _ in self.log[session][: seq + 1])

    def _refused(self, session: str, seq: int | None, content: str, end: bool, error: HetsynError) -> None:
        """Every refusal is decided on what the store holds, and is true."""
        log = self.log.get(session, [])
        state = self._status(session)
        if isinstance(error, NotFound):
            assert seq != 0
            assert state == "none"
            return
        assert state in ("open", "ended")
        if isinstance(error, ConflictingChunk):
            assert seq == len(log) - 1
            assert log[-1] != (content, end)
        elif isinstance(error, SessionEnded):
            assert log[-1][1]
            assert seq != len(log) - 1
        else:
            assert isinstance(error, OutOfOrder)
            assert error.expected_seq == len(log)
            assert seq not in (None, len(log) - 1, len(log))

    def _status(self, session: str) -> Status:
        """What a session is by its record in the store."""
        stored = self._stored(session).session
        return status(stored.known if stored else None, self.now_s, LIFETIMES)

    def _stored(self, session: str) -> SeenRecord:
        (stored,) = at_once(self.store.load([session]))
        if not isinstance(stored, Stored):
            return SeenRecord()
        return SeenRecord(stored.revision, self.records[int.from_bytes(stored.record, "big")])


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=200, stateful_step_count=60)
