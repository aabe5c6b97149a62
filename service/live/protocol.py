"""The protocol of ``WS /stream``: a state machine without input, output, event loop or clock.

Inputs are the client's messages, the outcomes of works, and the end of the server. Outputs are actions, in order: a
frame to send, a work to do, or the end of the stream. A work is a chunk to apply, the end of its utterance, or the
session's end. One work runs at a time, so the chunks of a stream stay in order, every acknowledged chunk is stored, and
each number is applied once.

    state      event                    actions
    --------   ----------------------   --------------------------------------------------------------------
    open       chunk                    Work, once the works before it are done
    open       its outcome              SpeechStarted, UtteranceEnd; then Result, or Ack
    open       Finalize                 Work (finalize); then UtteranceEnd
    open       Configure                none; the next chunk carries it
    open       KeepAlive                none
    open       unknown or bad text      Error
    open       CloseStream              Work (end) after the works before: the stream is ending
    ending     outcome of the end       UtteranceEnd, Termination, Close 1000
    open       drain                    after the works before: Error, Close 1012
    any        refusal                  Error, Close
    closed     any                      none

The ends of utterances are sent before the acknowledgement of their chunk, so they are sent again if it is lost.
``begin`` repeats the last ends too: a client that comes back may not know of chunks that were applied.

The stream is not read (``reads``) while it has ``max_inflight`` works or ``max_bytes`` bytes, and when it is ending,
drains or is closed. Unread frames stay with the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from hetsyn_client.results import Classified, Heard, More, Outcome, UtteranceEnd, classified
from service.contract.endpointing import EndpointingChange
from service.errors import OutOfOrder
from service.live.actions import Action, Close, Opening, Send, Work
from service.live.machine import LONGEST, NORMAL, Machine, bad_frame
from service.live.text_frames import Ack, Begin, Result, Termination
from service.problem import Problem
from service.wire.explain import explain_invalid

NANOSECONDS = 1e9  # of a second: times have nine digits, without those that a product of floats adds
MAX_INFLIGHT = 16
MAX_BYTES = 64 * 1024
MOST_TEXT_BYTES = 4 * 1024

SHARED = (*Classified.__annotations__, *More.__annotations__)
"""Members of an outcome that its frame has too."""
MORE = tuple(More.__annotations__)

NOTHING_YET = cast(
    UtteranceEnd,
    {
        "type": "UtteranceEnd",
        "utterance": 0,
        "start": 0.0,
        "end": 0.0,
        **classified(None, None),
        "trigger": "forced",
    },
)


class LiveStream(Machine[Work]):
    """One connection's stream of one session.

    Args:
        interim: answer each chunk with its result, not with ``Ack``.
    """

    def __init__(
        self, opening: Opening, *, interim: bool = True, max_inflight: int = MAX_INFLIGHT, max_bytes: int = MAX_BYTES
    ) -> None:
        super().__init__(max_inflight, max_bytes)
        self._opening = opening
        self._interim = interim
        self._next_seq = opening.next_seq  # number of the next incoming chunk
        self._total_steps = opening.total_steps
        self._unacknowledged = 0
        self._endpointing: EndpointingChange | None = None  # for the next chunk

    def begin(self) -> Sequence[Action]:
        opening = self._opening
        frame: Begin = {
            "type": "Begin",
            "session": opening.session,
            "model": opening.model,
            "version": opening.version,
            "labels": list(opening.labels),
            "next_seq": opening.next_seq,
            "step_ms": _seconds(1000, opening.step_s),
            "max_inflight": self._max_inflight,
            "resumed": opening.resumed,
            "expires_at": opening.expires_at,
        }
        return [Send(frame), *map(Send, opening.ends)]

    def chunk(self, content: bytes) -> Sequence[Action]:
        """Take a binary frame."""
        if self._state != "open":
            return []
        seq, endpointing = self._next_seq, self._endpointing
        self._next_seq, self._endpointing = seq + 1, None
        return self._add(tuple.__new__(Work, ("chunk", seq, content, endpointing)))  # in half the time of ``Work()``

    def applied(self, outcome: Outcome) -> Sequence[Action]:
        """Answer the current work, a chunk or the end, after it was applied and stored."""
        work = self._done()
        if work is None or self.is_closed:
            return []
        self._total_steps = outcome["total_steps"]
        events = outcome.get("events", ())
        heard: list[Action] = [Send(frame) for frame in events] if events else []
        if work.kind == "end":
            if events and (last := events[-1])["type"] == "UtteranceEnd":
                heard[-1] = Send(_with({**last}, outcome, MORE))
            if (utterances := outcome.get("utterance")) is None:
                return [Send(self._utterance_end(outcome)), *self._terminate(work.seq, 1)]
            return [*heard, *self._terminate(work.seq, utterances)]
        if self._interim:
            answer: list[Action] = [Send(self._result(work.seq, outcome))]
        else:
            self._unacknowledged += 1
            is_last = not self._queue or self._queue[0].kind != "chunk"
            is_due = is_last or 2 * self._unacknowledged >= self._max_inflight
            answer = [Send(self._ack(work.seq))] if is_due else []
        return [*heard, *answer, *self._proceed()]

    def finalized(self, heard: Sequence[Heard]) -> Sequence[Action]:
        """Answer the current work, the end of an utterance, after it was stored.

        Args:
            heard: the events of the last chunk; the last one is this end. Empty if no chunk was applied yet.
        """
        if self._done() is None or self.is_closed:
            return []
        answer = heard[-1] if heard else NOTHING_YET
        return [Send(answer), *self._proceed()]

    def _told(self, kind: str, frame: dict[str, Any]) -> Sequence[Action]:
        if kind == "CloseStream":
            return self._close_stream(frame)
        if kind == "Finalize":
            return self._add(Work("finalize", self._next_seq))
        if kind == "Configure":
            return self._configure(frame)
        detail = f"there is no frame of type {kind[:LONGEST]!r}"
        return [bad_frame(f"{detail}: send Finalize, Configure, KeepAlive or CloseStream")]

    def _size(self, work: Work) -> tuple[int, int]:
        return 1, len(work.content)

    def _all_done(self) -> Sequence[Action]:
        return self._terminate(0, 0) if self._state == "ending" else super()._all_done()

    def _close_stream(self, frame: dict[str, Any]) -> Sequence[Action]:
        last = frame.get("last_seq")
        if last is not None:
            if not isinstance(last, int) or isinstance(last, bool):
                return [bad_frame("CloseStream: last_seq is no whole number: send that of the last chunk, or none")]
            if last != self._next_seq - 1:
                detail = (
                    f"the last chunk that came has the number {self._next_seq - 1}, not {str(last)[:LONGEST]}: open "
                    "the stream again, and go on with the number that Begin names"
                )
                return self.refuse(Problem.of(OutOfOrder(detail, self._next_seq)))
        self._state = "ending"
        if not self._next_seq:  # the session has not begun, so nothing ends it
            return self._proceed()
        return self._add(Work("end", self._next_seq))

    def _configure(self, frame: dict[str, Any]) -> Sequence[Action]:
        if not self._opening.has_endpointing:
            return [bad_frame("this session has no endpointing: open one with endpointing=on, and then configure it")]
        try:
            change = EndpointingChange.model_validate(frame.get("endpointing"))
        except ValidationError as error:
            settings = f"a setting: send some of {', '.join(EndpointingChange.model_fields)}"
            within = ("endpointing", "settings")  # pydantic's location of it in a body
            return [bad_frame(str(explain_invalid(error, "endpointing", settings, within=within)))]
        self._endpointing = change if self._endpointing is None else self._endpointing.followed_by(change)
        return []

    def _result(self, seq: int, outcome: Outcome) -> Result:
        step_s, steps, total_steps = self._opening.step_s, outcome["steps"], outcome["total_steps"]
        frame = {
            "type": "Result",
            "seq": seq,
            "utterance": outcome.get("utterance", 0),
            "is_final": False,
            "speech_final": False,
            "start": _seconds(total_steps - steps, step_s),
            "duration": _seconds(steps, step_s),
            "total_steps": total_steps,
        }
        result: Result = _with(frame, outcome, SHARED)
        return result

    def _ack(self, seq: int) -> Ack:
        self._unacknowledged = 0
        return {"type": "Ack", "seq": seq}

    def _utterance_end(self, outcome: Outcome) -> UtteranceEnd:
        frame = {
            "type": "UtteranceEnd",
            "utterance": 0,
            "start": 0.0,
            "end": _seconds(outcome["total_steps"], self._opening.step_s),
            "trigger": "end",
        }
        end: UtteranceEnd = _with(frame, outcome, SHARED)
        return end

    def _terminate(self, chunks: int, utterances: int) -> Sequence[Action]:
        audio_s = _seconds(self._total_steps, self._opening.step_s) if chunks else 0.0
        frame: Termination = {
            "type": "Termination",
            "chunks": chunks,
            "audio_s": audio_s,
            "utterances": utterances,
        }
        self.leave()
        return [Send(frame), Close(NORMAL, "")]


def _seconds(steps: int, step_s: float) -> float:
    """Return the duration of steps; a fifth of the time of ``round(seconds, 9)``."""
    return round(steps * step_s * NANOSECONDS) / NANOSECONDS


def _with(frame: dict[str, Any], members: Mapping[str, object], names: Sequence[str]) -> Any:
    """Add an outcome's members of these names to a frame."""
    for name in filter(members.__contains__, names):
        frame[name] = members[name]
    return frame
