"""Judges every reply, and counts. No I/O.

A reply is compared with that of an undisturbed server byte for byte, except for the session's id. The comparison covers
the label, all probabilities, and the steps since the session began. A chunk that was lost or applied twice therefore
shows in the reply to it or to the next one, whatever the server claims.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

NAME = "SESSION"  # stands for the id in the reference replies
EXAMPLES = 20


class ChunkVerdict(Enum):
    """The meaning of an answer for the client that sent the chunk."""

    acknowledged = "acknowledged"
    skipped = "skipped"  # applied, but its reply is lost: the next chunk, sent early, was applied after it
    later = "later"  # unknown; send it again
    broken = "broken"  # the session is lost or wrong: give it up


class Probe(Enum):
    """A request that must change nothing, with the answer that it must get."""

    repeated = "duplicate of the last chunk"  # the stored reply
    stale = "an older chunk"  # 409, out of order
    early = "a chunk too early"  # 409, out of order; 404 before the first
    conflicting = "the last number with other content"  # 409, conflicting


_WANTED = {
    Probe.repeated: (),
    Probe.stale: ("out-of-order", "session-ended"),
    Probe.early: ("out-of-order",),
    Probe.conflicting: ("conflicting-chunk", "session-ended"),
}
_AFTER_EARLY = ("out-of-order", "conflicting-chunk", "session-ended")


@dataclass
class ClientSession:
    """A session, as its client sees it.

    Attributes:
        session: its id.
        replies: of the undisturbed server to its chunks, in order.
        acknowledged: number of acknowledged chunks.
        sent: number of chunks that may be applied, including those that were sent early without an answer.
        broken: whether the session is lost or wrong.
        token: of the last reply, if the client carries the session.
    """

    session: str
    replies: tuple[bytes, ...]
    acknowledged: int = 0
    sent: int = 0
    broken: bool = False
    token: bytes = b""

    def reply(self, seq: int) -> bytes:
        return self.replies[seq].replace(NAME.encode(), self.session.encode(), 1)


@dataclass
class Tally:
    """Counts of all answers.

    Attributes:
        acknowledged: chunks acknowledged.
        lost: acknowledged chunks that are not applied.
        noticed: of these, by the answer that told it: the kind of refusal, or the number in the reply to a chunk that
            had none.
        twice: chunks that were applied again, or that must not be applied.
        wrong: answers that differ from the undisturbed server's.
        skipped: chunks applied without a reply.
        sessions: sessions begun.
        finished: sessions answered to their end.
        broken: sessions given up.
        unsure: sessions left after an unnumbered chunk without an answer, which must not be repeated. The session has
            applied it once or not at all.
        manners: chunks by the way in which they were sent.
        probes: requests that changed nothing and got the right answer, by kind.
        errors: requests that failed, by reason.
        violations: examples of what must not happen.
    """

    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    skipped: int = 0
    sessions: int = 0
    finished: int = 0
    broken: int = 0
    unsure: int = 0
    manners: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.wrong or self.broken)

    @property
    def is_honest(self) -> bool:
        """Whether nothing is wrong but losses that clients were told of, and sessions given up because of them."""
        return not (self.twice or self.wrong) and self.noticed.total() == self.lost and self.broken <= self.lost

    def failed(self, why: str) -> None:
        """A request got no answer."""
        self.errors[why] += 1

    def failed_check(self, what: str) -> None:
        """Another check failed."""
        self.wrong += 1
        self.violations.append(what)

    def unanswered(self, stream: ClientSession, seq: int) -> None:
        """A client gave a chunk up."""
        self._blame(stream, seq, "is not answered, however often it is sent")
        self._give_up(stream)

    def chunk(self, stream: ClientSession, seq: int, status: int, body: bytes) -> ChunkVerdict:
        """The answer to a session's next chunk, which may have been sent before."""
        if stream.broken:
            return ChunkVerdict.broken
        if status == 200:
            if not self._matches(stream, seq, body):
                return self._give_up(stream)
            if seq == stream.acknowledged:
                stream.acknowledged += 1
                self.acknowledged += 1
            return ChunkVerdict.acknowledged
        kind, expected = _problem(body)
        if status == 503:
            self.errors[f"503 {kind}"] += 1
            return ChunkVerdict.later
        if self._contradicts(stream, seq, status, kind, expected):
            return ChunkVerdict.broken
        # only a chunk that was sent early can be after it
        after = stream.sent if kind == "session-ended" else expected
        if status == 409 and after is not None and seq + 1 < after:
            self.skipped += 1
            stream.acknowledged = seq + 1
            return ChunkVerdict.skipped
        return self._refused(stream, seq, status, kind)

    def resumed(self, stream: ClientSession, next_seq: int) -> bool:
        """The number with which a session goes on. False if chunks are lost, or more are applied than were sent."""
        if next_seq < stream.acknowledged:
            self._lost(stream, next_seq, stream.acknowledged - next_seq, f"it goes on with {next_seq}")
        elif next_seq > stream.sent:
            self.twice += next_seq - stream.sent
            self._blame(stream, next_seq, f"it goes on with {next_seq}, {stream.sent} were sent")
            self._give_up(stream)
        else:
            self.skipped += next_seq - stream.acknowledged
            stream.acknowledged = next_seq
        return not stream.broken

    def result(
        self,
        stream: ClientSession,
        seq: int,
        expected_seq: int,
        label: str | None,
        probabilities: list[float] | None,
        total_steps: int,
    ) -> bool:
        """A result of ``/stream`` or ``/streams``. False if it is not the one that is expected.

        Args:
            stream: the session.
            seq: number in the result.
            expected_seq: of the next chunk that has no result.
            label: in the result.
            probabilities: in the result.
            total_steps: in the result.
        """
        reference = json.loads(stream.replies[expected_seq])
        wanted = reference["label"], reference["probabilities"], reference["total_steps"]
        if seq == expected_seq and (label, probabilities, total_steps) == wanted:
            stream.acknowledged = seq + 1
            self.acknowledged += 1
            return True
        if total_steps > wanted[2] or seq < expected_seq:
            self.twice += 1
        elif total_steps < wanted[2] or seq > expected_seq:
            self.lost += 1
        else:
            self.wrong += 1
        got = f"{seq}, {label}, {total_steps} steps, {str(probabilities)[:100]}"
        self._blame(stream, expected_seq, f"{got} instead of {str(wanted)[:200]}")
        self._give_up(stream)
        return False

    def gone(self, stream: ClientSession, why: str) -> None:
        """A session cannot be opened again."""
        self._lost(stream, stream.acknowledged, max(1, stream.acknowledged), why)

    def inspected(self, stream: ClientSession, status: int, body: bytes) -> ChunkVerdict:
        """The state of a session whose last chunk had no number and no answer."""
        if status == 503:
            self.errors[f"503 {_problem(body)[0]}"] += 1
            return ChunkVerdict.later
        expected = _json(body).get("expected_seq") if status == 200 else 0 if status == 404 else None
        if not isinstance(expected, int):
            return self._refused(stream, stream.sent, status, _problem(body)[0])
        if expected < stream.acknowledged:
            self._lost(stream, stream.sent, stream.acknowledged - expected, f"GET {status}, {expected} is expected")
            return ChunkVerdict.broken
        if expected > stream.sent:
            self.twice += expected - stream.sent
            self._blame(stream, stream.sent, f"{expected} is expected, {stream.sent} were sent")
            return self._give_up(stream)
        self.unsure += 1
        return ChunkVerdict.acknowledged

    def probe(self, stream: ClientSession, probe: Probe, seq: int, status: int, body: bytes) -> ChunkVerdict:
        """The answer to a request that must change nothing."""
        if stream.broken:
            return ChunkVerdict.broken
        if status == 200 and probe is Probe.repeated:
            if not self._matches(stream, seq, body):
                return self._give_up(stream)
            self.probes[probe.value] += 1
            return ChunkVerdict.acknowledged
        if status == 200:
            self.twice += 1
            self._blame(stream, seq, f"{probe.value} was applied")
            return self._give_up(stream)
        kind, expected = _problem(body)
        if status == 503:
            self.errors[f"503 {kind}"] += 1
            return ChunkVerdict.later
        if not (status == 404 and probe is Probe.early and stream.acknowledged == 0):
            if self._contradicts(stream, seq, status, kind, expected):
                return ChunkVerdict.broken
            # if a chunk that was sent early has been applied by now, any of these answers is right
            wanted = _WANTED[probe] if stream.sent == stream.acknowledged else _AFTER_EARLY
            if status != 409 or kind not in wanted:
                return self._refused(stream, seq, status, kind)
        self.probes[probe.value] += 1
        return ChunkVerdict.acknowledged

    def _contradicts(self, stream: ClientSession, seq: int, status: int, kind: str, expected: int | None) -> bool:
        """Whether a refusal shows that chunks are lost, or that more are applied than were sent. Counts them."""
        if status == 404:
            self._lost(stream, seq, stream.acknowledged, f"{status} {kind}")
        elif expected is not None and expected < stream.acknowledged:
            self._lost(stream, seq, stream.acknowledged - expected, f"{status} {kind}, {expected} is expected")
        elif (expected is not None and expected > stream.sent) or (
            kind == "session-ended" and stream.sent < len(stream.replies)
        ):
            self.twice += 1
            self._blame(stream, seq, f"{status} {kind}, {expected} is expected, {stream.sent} were sent")
            self._give_up(stream)
        return stream.broken

    def _matches(self, stream: ClientSession, seq: int, body: bytes) -> bool:
        expected = stream.reply(seq)
        if body == expected:
            return True
        steps, expected_steps = _total_steps(body), _total_steps(expected)
        if steps is None or expected_steps is None or steps == expected_steps:
            self.wrong += 1
        elif steps > expected_steps:
            self.twice += 1
        else:
            self.lost += 1
            if _json(body).get("seq") != seq:
                self.noticed["the number in the reply"] += 1
        self._blame(stream, seq, f"{body[:300]!r} instead of {expected[:300]!r}")
        return False

    def _lost(self, stream: ClientSession, seq: int, chunks: int, why: str) -> None:
        self.lost += chunks
        self.noticed[why.partition(",")[0]] += chunks
        self._blame(stream, seq, f"{chunks} acknowledged chunks are lost: {why}")
        self._give_up(stream)

    def _refused(self, stream: ClientSession, seq: int, status: int, kind: str) -> ChunkVerdict:
        self.wrong += 1
        self._blame(stream, seq, f"{status} {kind}, with {stream.acknowledged} acknowledged and {stream.sent} sent")
        return self._give_up(stream)

    def _give_up(self, stream: ClientSession) -> ChunkVerdict:
        stream.broken = True
        self.broken += 1
        return ChunkVerdict.broken

    def _blame(self, stream: ClientSession, seq: int, what: str) -> None:
        if len(self.violations) < EXAMPLES:
            self.violations.append(f"{stream.session} chunk {seq}: {what}")


def as_reference(body: bytes, session: str) -> bytes:
    """A reply without the session's id.

    Raises:
        ValueError: the id does not occur exactly once.
    """
    if body.count(session.encode()) != 1:
        raise ValueError(f"the reply does not name its session once: {body[:300]!r}")
    return body.replace(session.encode(), NAME.encode())


def _problem(body: bytes) -> tuple[str, int | None]:
    """The kind of problem, and the number of the expected chunk, if the answer has one."""
    problem = _json(body)
    expected = problem.get("expected_seq")
    return str(problem.get("type", "no problem")).rpartition(":")[2], expected if isinstance(expected, int) else None


def _total_steps(body: bytes) -> int | None:
    steps = _json(body).get("total_steps")
    return steps if isinstance(steps, int) else None


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
