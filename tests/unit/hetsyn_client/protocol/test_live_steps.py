"""The rules of one stream, step by step, without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hetsyn_client.access import access_of
from hetsyn_client.errors import ServiceProblem
from hetsyn_client.protocol.live_steps import LiveOptions, LiveSteps
from hetsyn_client.protocol.steps import Broken, CloseSocket, Now, OpenSocket, Pause, ReadFrame, SendFrame, Steps

BEGIN = {"type": "Begin", "session": "s", "next_seq": 0, "max_inflight": 16, "step_ms": 10.0, "resumed": False}
TAKEN = {
    "type": "Error", "problem": "session-taken", "status": 409, "detail": "another connection has taken it",
    "retryable": False, "retry_after_s": None, "expected_seq": None,
}  # fmt: skip


def test_an_opening_that_is_cancelled_leaves_no_connection_behind() -> None:
    stream, socket = LiveSteps(access_of("http://host", {}), LiveOptions(session="s")), object()
    opening = stream.begin_once()
    assert isinstance(next(opening), OpenSocket)
    assert isinstance(opening.send(socket), ReadFrame)
    opening.close()
    again = stream.begin_once()
    assert next(again) == CloseSocket(socket)
    assert isinstance(again.send(None), OpenSocket)


def test_a_refusal_is_raised_that_comes_while_chunks_are_sent_again() -> None:
    """The second connection is taken over as it opens: its server sends an error, and closes."""
    stream = LiveSteps(access_of("http://host", {}), LiveOptions(session="s"))
    sockets, sent = iter("ab"), iter([Broken("closed"), Broken("closed")])
    frames = {"a": iter([BEGIN]), "b": iter([BEGIN, TAKEN])}

    def answer(step: object) -> Any:
        match step:
            case OpenSocket():
                return next(sockets)
            case SendFrame():
                raise next(sent)
            case ReadFrame(socket):
                frame = next(frames[str(socket)], None)
                if frame is None:
                    raise Broken("closed")
                return json.dumps(frame)
            case Now():
                return 0.0
        assert isinstance(step, Pause | CloseSocket)
        return None

    with pytest.raises(ServiceProblem, match="another connection has taken it"):
        _carry_out(stream.send(b"a chunk"), answer)


def _carry_out(steps: Steps[Any], answer: Any) -> None:
    step = next(steps)
    while True:
        try:
            result = answer(step)
        except Broken as error:
            step = steps.throw(error)
        else:
            step = steps.send(result)
