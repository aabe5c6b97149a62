"""What a session may answer, whatever happens: apart from all product code but the hash and how a reply shows it.

Every content that was ever sent under a number makes possible histories: chains of chunks. A reply shows the hash of
one history, so it says which chunks the server has counted. The rules:

- a reply is that of a possible history, and its numbers are that history's;
- an acknowledged chunk stays: every later reply is of a history that has it, and a repeat gets the same reply;
- what a refusal claims (the next number, that there is no such session) agrees with what was acknowledged;
- a session may begin again only after something that may end it: its deletion, a restart without a store, its age.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

FIRST_STATE = bytes(12)
PASSING = (429, 503)  # statuses of refusals that say "later"
LATE_S = 40.0  # the longest time that a request without an answer may still be carried out
Spikes = tuple[tuple[int, ...], ...]
"""The spikes of each step, in ascending order."""


class Content(NamedTuple):
    """What a client sends under a number."""

    spikes: Spikes
    end: bool


def _float32(numbers: Sequence[float]) -> bytes:
    """Return numbers as float32, whose digits JSON has."""
    return struct.pack(f"{len(numbers)}f", *numbers)


@dataclass(eq=False)
class History:
    """A possible history of a session: a chunk after another history."""

    parent: History | None
    seq: int
    content: Content
    state: bytes
    total_steps: int
    made_s: float
    begun_s: float
    children: dict[Content, History] = field(default_factory=dict)

    def has(self, other: History) -> bool:
        """Return whether another history is this one, or its beginning."""
        mine: History | None = self
        while mine is not None and mine.seq > other.seq:
            mine = mine.parent
        return mine is other


class Sent(NamedTuple):
    """A chunk that was sent, with what was known then.

    Attributes:
        acknowledged: the longest history that was acknowledged.
        endings: how often the session may have ended.
        at_s: when.
        is_late: the session must have expired then.
    """

    seq: int
    content: Content
    acknowledged: History | None
    endings: int
    at_s: float
    is_late: bool


class SessionOracle:
    """Judges what one session answers.

    Args:
        step, shown: the network, and what a reply shows of its state.
        tail_steps: silent steps that the network takes at the end.
        now_s: the time.
        lives_s: least time that a session stays after a chunk, and after its end.
        expires_s: the most, if it may have ended, and if not.
        age_s: at which a session expires, least and most.
        complain: is told each violation.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[bytes, Sequence[int]], bytes],
        shown: Callable[[bytes], list[float]],
        tail_steps: int,
        now_s: Callable[[], float],
        lives_s: Callable[[bool], float],
        expires_s: Callable[[bool], float],
        age_s: Callable[[], tuple[float, float]],
        complain: Callable[[str], None],
    ) -> None:
        self.name = name
        self._now_s, self._lives_s, self._expires_s, self._age_s = now_s, lives_s, expires_s, age_s
        self._step, self._shown, self._tail_steps = step, shown, tail_steps
        self._complain = complain
        self._sent: dict[int, dict[Content, float]] = {}  # by number; when each was sent first
        self._roots: dict[Content, History] = {}
        self._by_reply: dict[tuple[int, bytes], History] = {}
        self._acknowledged: History | None = None  # the longest
        self._replies: dict[History, tuple[object, ...]] = {}
        self._endings = 0
        self._ends_until_s = 0.0
        self._applied_s = 0.0  # when the last chunk was sent that was acknowledged; before, the first of all
        self._used_s = 0.0  # when the session was used last, for all that is known
        self._begun_s = 0.0  # when it was asked last to begin
        self._born_s: float | None = None  # when it is known to have begun, if it cannot have begun later
        self._first_reply_s = inf  # when chunk 0 was last acknowledged; before, a client may repeat it by itself
        self._unanswered: list[Sent] = []

    @property
    def has_ended(self) -> bool:
        """Return whether the session may have been lost or deleted, or have expired."""
        self._grows_old()
        return self._endings > 0

    def may_end(self, for_s: float = 0.0) -> None:
        """Note that the session may have been lost or deleted for a reason, so that it may begin again.

        Args:
            for_s: how long it may still happen.
        """
        self._may_have_ended()
        self._begun_s, self._born_s = self._now_s(), None
        self._ends_until_s = max(self._ends_until_s, self._begun_s + for_s)
        self._used_s = max(self._used_s, self._begun_s + for_s)

    def _may_have_ended(self) -> None:
        self._endings += 1
        one, self._acknowledged = self._acknowledged, None
        unnumbered = [sent.content for sent in self._unanswered if sent.seq < 0 and sent.content.spikes]
        while one is not None and unnumbered:  # such a chunk may go on with an older record, if a store has lost some
            for content in unnumbered:
                self._add(one, one.seq + 1, content)
            one = one.parent

    def _grows_old(self) -> None:
        """Let the session end by its age."""
        longest, now_s = self._acknowledged, self._now_s()
        if now_s < self._ends_until_s:
            self._may_have_ended()
        elif longest is not None:
            sent_s = self._sent.get(longest.seq, {}).get(longest.content, longest.made_s)
            lasts = [(longest.content, sent_s)]
            for seq, sent in self._sent.items():
                if seq > longest.seq:  # may have ended it, for all that we were told
                    lasts += [item for item in sent.items() if item[0].end]
            if now_s >= longest.begun_s + self._age_s()[0] or any(
                now_s >= at_s + self._lives_s(content.end) for content, at_s in lasts
            ):
                self._may_have_ended()

    def asks(self, content: Content) -> Sent:
        """Note that something is asked which has no number."""
        self._grows_old()
        return self._noted(-1, content)

    def _noted(self, seq: int, content: Content) -> Sent:
        now_s = self._now_s()
        used_s = max([self._used_s, *(sent.at_s + LATE_S for sent in self._unanswered)])
        is_late = 0.0 < used_s < now_s - self._expires_s(self._is_asked_to_end)
        if self._born_s is not None and not self._is_asked_to_end:  # the last reply outlives it
            is_late |= now_s > self._born_s + self._age_s()[1]
        if seq == 0:
            self._begun_s, self._born_s = now_s, None
        self._applied_s = self._applied_s or now_s
        sent = Sent(seq, content, self._acknowledged, self._endings, now_s, is_late)
        self._unanswered.append(sent)
        return sent

    @property
    def is_fresh(self) -> bool:
        """Return whether a chunk is known to count, and the session will not expire soon."""
        longest, now_s = self._acknowledged, self._now_s()
        if longest is None or longest.content.end or now_s < self._ends_until_s:
            return False
        sent_s = self._sent.get(longest.seq, {}).get(longest.content, longest.made_s)
        return now_s < min(sent_s + self._lives_s(False) / 2, longest.begun_s + self._age_s()[0] / 2)

    @property
    def silent_s(self) -> float:
        """Return for how long the session may have had no chunk; 0 if none was sent."""
        return self._now_s() - self._applied_s if self._applied_s else 0.0

    @property
    def _is_asked_to_end(self) -> bool:
        return any(content.end for contents in self._sent.values() for content in contents)

    def _answered(self, sent: Sent) -> None:
        self._grows_old()
        self._used_s = max(self._used_s, self._now_s())
        if sent in self._unanswered:  # only once, by its first answer
            self._unanswered.remove(sent)

    @property
    def is_known(self) -> bool:
        """Return whether a chunk is known to count."""
        self._grows_old()
        return self._acknowledged is not None

    def sends_unnumbered(self, content: Content) -> Sent:
        """Note that a chunk is sent which counts as the next one, whatever that is. Call it if ``is_known``."""
        longest = self._acknowledged
        assert longest is not None
        for one in [one for one in self._by_reply.values() if one.has(longest)]:
            self._add(one, one.seq + 1, content)
        return self.asks(content)

    def sends(self, seq: int, content: Content, first_s: float | None = None) -> Sent:
        """Note that a chunk is sent, for the first time or again. It was sent first at ``first_s``, by default now."""
        self._grows_old()
        contents = self._sent.setdefault(seq, {})
        if content not in contents:
            unnumbered = (one.made_s for one in self._by_reply.values() if (one.seq, one.content) == (seq, content))
            contents[content] = min([self._now_s() if first_s is None else first_s, *unnumbered])
            parents = [None] if seq == 0 else [one for one in self._by_reply.values() if one.seq == seq - 1]
            for parent in parents:
                self._add(parent, seq, content)
        return self._noted(seq, content)

    def _add(self, parent: History | None, seq: int, content: Content) -> None:
        siblings = self._roots if parent is None else parent.children
        if content in siblings or (parent is not None and parent.content.end):
            return
        state = FIRST_STATE if parent is None else parent.state
        for units in content.spikes:
            state = self._step(state, units)
        for _ in range(self._tail_steps if content.end else 0):
            state = self._step(state, ())
        steps = len(content.spikes) + (self._tail_steps if content.end else 0)
        total = steps + (0 if parent is None else parent.total_steps)
        now_s = self._now_s()
        begun_s = self._sent[0][content] if parent is None else parent.begun_s
        history = siblings[content] = History(parent, seq, content, state, total, now_s, begun_s)
        self._by_reply[seq, _float32(self._shown(state))] = history
        for later in self._sent.get(seq + 1, ()):
            self._add(history, seq + 1, later)

    def acknowledges(self, sent: Sent, total_steps: int, probabilities: Sequence[float], *rest: object) -> None:
        """Judge the reply to a chunk. ``rest`` are other members, which a repeat gets again."""
        self._answered(sent)
        self._applied_s = max(self._applied_s, sent.at_s)
        seq, content = sent.seq, sent.content
        if seq == 0:
            self._first_reply_s = self._now_s()
        elif sent.is_late and max(self._begun_s, self._first_reply_s) < sent.at_s:
            self._complain(f"{self.name}: chunk {seq} got a reply, long after the session has expired")
        history = self._by_reply.get((seq, _float32(probabilities)))
        if history is None:
            self._complain(f"{self.name}: the reply to chunk {seq} is of no possible history: {probabilities}")
            return
        if history.content != content:
            self._complain(f"{self.name}: chunk {seq} got the reply to other content")
        if history.total_steps != total_steps:
            self._complain(f"{self.name}: chunk {seq} has {total_steps} steps, not {history.total_steps}")
        if sent.endings != self._endings:
            return  # the session of this reply may be another one
        longest = self._acknowledged
        if longest is not None and not (history.has(longest) or longest.has(history)):
            self._complain(f"{self.name}: the reply to chunk {seq} leaves out what was acknowledged")
        said = (total_steps, *rest)
        if self._replies.setdefault(history, said) != said:
            self._complain(f"{self.name}: chunk {seq} got {said}, and before {self._replies[history]}")
        if seq == 0 and sent.at_s == self._begun_s and not any(other.seq == 0 for other in self._unanswered):
            self._born_s = self._now_s()
        if longest is None or history.seq > longest.seq:
            self._acknowledged = history

    def stores(self, sent: Sent) -> None:
        """Note that a chunk is acknowledged without a reply."""
        self._answered(sent)
        found = [one for one in self._by_reply.values() if (one.seq, one.content) == (sent.seq, sent.content)]
        longest = self._acknowledged
        if len(found) == 1 and sent.endings == self._endings and (longest is None or longest.seq < sent.seq):
            self._acknowledged = found[0]

    def is_described(self, sent: Sent, expected_seq: int, total_steps: int) -> None:
        """Judge a session's description, which was asked for when ``sent`` was made."""
        self._answered(sent)
        if not any(
            one.seq + 1 == expected_seq
            and one.total_steps == total_steps
            and (sent.endings != self._endings or sent.acknowledged is None or one.has(sent.acknowledged))
            for one in self._by_reply.values()
        ):
            self._complain(f"{self.name}: is described with {expected_seq} chunks, {total_steps} steps")

    def refuses(self, sent: Sent, status: int, problem: str, expected_seq: int | None) -> None:
        """Judge the refusal of a chunk, by what was acknowledged before it was sent."""
        self._answered(sent)
        seq, longest = sent.seq, sent.acknowledged
        if sent.endings != self._endings:
            longest = None
        if status in PASSING or problem == "later":
            return
        forgotten = ("conflicting-chunk", *(["session-ended"] if sent.content.end else []))
        if problem in ("not-found", "token-expired"):
            now = self._acknowledged  # another request may have ended it meanwhile
            if now is not None and now.content.end:
                self.may_end()  # its last reply may make room for others
            elif longest is not None:
                self._complain(f"{self.name}: chunk {seq} was refused: no session, after chunk {longest.seq}")
        elif longest is not None and (seq, sent.content) == (longest.seq, longest.content) and problem in forgotten:
            self._complain(f"{self.name}: chunk {seq}, repeated, was refused as {problem}")
        elif problem == "model-mismatch":
            is_alone = self._acknowledged is None and not any(other.seq == 0 for other in self._unanswered)
            is_alone &= self._first_reply_s < sent.at_s
            if sent.is_late and is_alone and self._begun_s <= sent.at_s and (seq > 0 or self._begun_s == sent.at_s):
                self._complain(f"{self.name}: chunk {seq} was refused: another model's session, after it has expired")
        elif problem in ("out-of-order", "conflicting-chunk"):
            least = 0 if longest is None else longest.seq + 1
            most = 1 + max((one.seq for one in self._by_reply.values()), default=-1)
            if problem == "out-of-order" and expected_seq == seq:
                self._complain(f"{self.name}: chunk {seq} was refused as out of order, and is the next one")
            elif expected_seq is None or not least <= expected_seq <= most:
                self._complain(f"{self.name}: chunk {seq}: expected_seq is {expected_seq}, not {least} to {most}")
        elif problem == "session-ended":
            if not self._is_asked_to_end:
                self._complain(f"{self.name}: chunk {seq} was refused: ended, and nobody has ended it")
        elif problem == "session-taken":
            pass  # by another connection of the same client
        elif problem or not self._endings:  # our client has none of its own, for a session that lost chunks
            self._complain(f"{self.name}: chunk {seq} was refused with {status} {problem}")
