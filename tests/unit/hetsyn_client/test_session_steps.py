"""The rules of a session, step by step, without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hetsyn_client.bodies import Body
from hetsyn_client.calls import LONGEST_PAUSE_S, Calls, SessionOptions
from hetsyn_client.errors import InputError, ServiceProblem, ServiceUnreachable
from hetsyn_client.session_steps import SessionSteps, TransportName
from hetsyn_client.steps import (
    Broken,
    CloseSocket,
    OpenSocket,
    Pause,
    ReadFrame,
    Request,
    Response,
    SendFrame,
    Step,
    Steps,
    T,
)

CHUNK = Body(b"\x01\x00", "audio/pcm;encoding=pcm_s16le;rate=8000")
BEGIN = {
    "type": "Begin", "model": "digits", "version": "1", "form": "bank", "labels": ["a"], "next_seq": 0,
    "step_ms": 10.0, "max_inflight": 16,
}  # fmt: skip
RESULT = {
    "type": "Result", "seq": 0, "utterance": 0, "duration": 0.1, "total_steps": 10, "label": "a",
    "probabilities": [1.0],
}  # fmt: skip
SOCKET = object()


def ok(**members: Any) -> Response:
    return Response(200, "OK", {}, json.dumps(members).encode())


def refused(status: int, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    return Response(status, "Refused", dict(headers or {}), json.dumps(members).encode())


class Script:
    """Answers steps in order; a dict is the text of a frame. Pauses, sent frames and closings need no answer."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.steps: list[Step] = []

    def run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                self.steps.append(step)
                answer = None if isinstance(step, Pause | SendFrame | CloseSocket) else self._answers.pop(0)
                if isinstance(answer, Broken):
                    step = steps.throw(answer)
                else:
                    step = steps.send(json.dumps(answer) if isinstance(answer, dict) else answer)
        except StopIteration as end:
            assert not self._answers
            result: T = end.value
            return result

    @property
    def kinds(self) -> list[str]:
        return [type(step).__name__ for step in self.steps]

    @property
    def pauses(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Pause)]

    @property
    def targets(self) -> list[str]:
        return [step.target for step in self.steps if isinstance(step, Request | OpenSocket)]


def session(
    transport: TransportName = "websocket",
    name: str | None = None,
    *,
    repeats: int = 2,
    patience_s: float = 5.0,
    options: SessionOptions | None = None,
) -> SessionSteps:
    calls = Calls("http://server", repeats, patience_s)
    return SessionSteps(calls, name, transport, options or {})


def begun(one: SessionSteps) -> SessionSteps:
    """After its first chunk."""
    if one.transport == "http":
        Script(ok(seq=0)).run(one.send(CHUNK))
    else:
        Script(SOCKET, BEGIN, RESULT).run(one.send(CHUNK))
    return one


def test_a_frame_has_the_samples_of_the_body() -> None:
    one, script = session(), Script(SOCKET, BEGIN, RESULT)
    reply = script.run(one.send(CHUNK))
    assert script.kinds == ["OpenSocket", "ReadFrame", "SendFrame", "ReadFrame"]
    assert script.targets == [f"/stream?session={one.id}&encoding=pcm_s16le&sample_rate=8000&endpointing=off"]
    assert script.steps[2] == SendFrame(SOCKET, b"\x01\x00")
    assert reply == {
        "session": one.id, "model": "digits", "version": "1", "form": "bank", "seq": 0, "steps": 10,
        "total_steps": 10, "label": "a", "labels": ["a"], "probabilities": [1.0], "end": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "lost",
    [[Broken("x")], [SOCKET, Broken("x")], [SOCKET, BEGIN, Broken("x")], [Broken("x", status=503)]],
    ids=["no connection", "no begin", "no result", "full"],
)
def test_a_chunk_without_a_result_goes_to_infer_under_its_number(lost: list[object]) -> None:
    one = session()
    script = Script(*lost, ok(seq=0))
    assert script.run(one.send(CHUNK))["seq"] == 0
    assert script.targets[-1] == f"/infer?end=false&session={one.id}&seq=0"
    assert ("CloseSocket" in script.kinds) == (lost[0] is SOCKET)
    again = Script(SOCKET, {**BEGIN, "next_seq": 1}, {**RESULT, "seq": 1})
    assert again.run(one.send(CHUNK))["seq"] == 1  # over another connection
    assert one.transport == "websocket"


def test_the_server_may_ask_for_a_pause_first() -> None:
    error = {"type": "Error", "problem": "overloaded", "status": 503, "detail": "full", "retryable": True}
    script = Script(SOCKET, BEGIN, error | {"retry_after_s": 7, "expected_seq": None}, ok(seq=0))
    script.run(session().send(CHUNK))
    assert script.pauses == [7]
    script = Script(Broken("x", status=503, retry_after_s=99), ok(seq=0))
    script.run(session().send(CHUNK))
    assert script.pauses == [LONGEST_PAUSE_S]


def test_where_no_websocket_passes_the_session_goes_on_over_http() -> None:
    one = session()
    Script(Broken("no upgrade", status=400), ok(seq=0)).run(one.send(CHUNK))
    script = Script(ok(seq=1))
    script.run(one.send(CHUNK))
    assert (one.transport, script.kinds) == ("http", ["Request"])


def test_a_server_that_knows_another_number_is_asked_over_http() -> None:
    lost = begun(session())
    Script(Broken("x"), ok(seq=1)).run(lost.send(CHUNK))
    script = Script(SOCKET, BEGIN, refused(409, detail="send seq 0 next", expected_seq=0))
    with pytest.raises(ServiceProblem, match="send seq 0 next"):
        script.run(lost.send(CHUNK))
    assert "SendFrame" not in script.kinds  # it would have got the wrong number


def test_a_refusal_that_another_try_does_not_mend_is_raised() -> None:
    one = begun(session())
    error = {"type": "Error", "problem": "session-taken", "status": 409, "detail": "taken", "retryable": False}
    script = Script(error | {"retry_after_s": None, "expected_seq": None})
    with pytest.raises(ServiceProblem, match="taken") as caught:
        script.run(one.send(CHUNK))
    assert (caught.value.problem, one.seq) == ("session-taken", 1)


def test_ends_that_are_told_again_are_told_once() -> None:
    one = session(options={"endpointing": True})
    end = {"type": "UtteranceEnd", "utterance": 0, "start": 0.0, "end": 0.1, "label": "a"}
    reply = Script(SOCKET, BEGIN, end, {**RESULT, "utterance": 1}).run(one.send(CHUNK))
    assert (reply["utterance"], reply["events"]) == (1, [end])
    Script(Broken("x"), ok(seq=1, utterance=1, events=[])).run(one.send(CHUNK))
    second = end | {"utterance": 1}
    reply = Script(SOCKET, {**BEGIN, "next_seq": 2}, end, second, {**RESULT, "utterance": 2}).run(one.send(CHUNK))
    assert reply["events"] == [second]


def test_the_end_goes_to_infer() -> None:
    one = begun(session())
    script = Script(ok(seq=1))
    script.run(one.end())
    assert script.kinds == ["CloseSocket", "Request"]
    assert script.targets == [f"/infer?end=true&session={one.id}&seq=1"]
    assert Script().run(one.leave()) is None  # the session has ended: nothing to delete


def test_a_session_that_was_named_begins_where_the_server_says() -> None:
    one = session("http", "mine")
    script = Script(ok(expected_seq=7), ok(seq=7))
    assert (script.run(one.send(CHUNK))["seq"], one.seq) == (7, 8)
    assert script.targets == ["/sessions/mine", "/infer?end=false&session=mine&seq=7"]
    assert Script().run(one.leave()) is None
    other = session("http", "new")
    Script(refused(404, detail="no session"), ok(seq=0)).run(other.send(CHUNK))
    assert other.seq == 1
    failing = session("http", "new")
    with pytest.raises(ServiceProblem, match="gone"):
        Script(refused(410, detail="gone")).run(failing.send(CHUNK))
    assert failing.seq is None


def test_a_named_session_with_utterances_asks_infer_for_the_number_of_the_utterance() -> None:
    one = session("websocket", "mine", options={"endpointing": True})
    first = Script(ok(expected_seq=3), ok(seq=3, utterance=5, events=[]))
    first.run(one.send(CHUNK))
    end = {"type": "UtteranceEnd", "utterance": 4}
    then = Script(SOCKET, {**BEGIN, "next_seq": 4}, end, {**RESULT, "utterance": 5})
    assert then.run(one.send(CHUNK))["events"] == []


def test_a_session_that_has_begun_waits_for_its_server_as_long_as_it_was_told_to() -> None:
    one = session("http")
    script = Script(*[Broken("refused")] * 3)
    with pytest.raises(ServiceUnreachable, match="http://server: refused: is 'hetsyn serve' running there"):
        script.run(one.send(CHUNK))  # nothing has answered yet: after the repeats
    assert script.pauses == [0.1, 0.2]
    begun(one)
    script = Script(*[Broken("refused")] * 7)
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))
    assert script.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0])
    script = Script(*[Broken("refused")] * 6, ok(seq=1))
    assert script.run(one.send(CHUNK))["seq"] == 1


def test_time_without_an_answer_counts() -> None:
    one = begun(session("http"))
    script = Script(*[Broken("silent", waited_s=30.0)] * 3)
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))
    assert len(script.pauses) == 2


def test_no_repeats_are_no_repeats() -> None:
    one = begun(session("http", repeats=0))
    script = Script(Broken("refused"))
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))


def test_one_chunk_at_a_time() -> None:
    one = session()
    under_way = one.send(CHUNK)
    next(under_way)
    with pytest.raises(InputError, match="a chunk of this session is under way"):
        Script().run(one.send(CHUNK))
    under_way.close()  # cancelled
    Script(SOCKET, BEGIN, RESULT).run(one.send(CHUNK))


def test_after_a_chunk_that_was_cancelled_another_connection_is_opened() -> None:
    one = begun(session())
    under_way = one.send(CHUNK)
    assert isinstance(next(under_way), SendFrame)
    assert isinstance(next(under_way), ReadFrame)
    under_way.close()
    script = Script(SOCKET, {**BEGIN, "next_seq": 2}, ok(seq=1))  # it was applied, and its reply is kept
    assert script.run(one.send(CHUNK))["seq"] == 1
    assert script.kinds == ["CloseSocket", "OpenSocket", "ReadFrame", "Request"]


def test_a_certificate_that_is_not_trusted_has_a_sentence_of_its_own() -> None:
    with pytest.raises(ServiceUnreachable, match=r"its certificate is not trusted .* with --ca-file"):
        Script(Broken("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")).run(Calls("https://s", 0).describe("m"))


def test_a_server_that_says_later_and_means_now_is_not_asked_without_a_pause() -> None:
    one = begun(session("http", repeats=1, patience_s=3.0))
    script = Script(*[refused(503, {"Retry-After": "0"})] * 6)
    with pytest.raises(ServiceProblem):
        script.run(one.send(CHUNK))
    assert script.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_it_is_repeated_as_often_as_somebody_likes() -> None:
    one, script = session("http", repeats=1_200), Script(*[Broken("x")] * 1_201)
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))
    assert len(script.pauses) == 1_200


def test_a_frame_that_no_server_of_ours_sends_says_so() -> None:
    with pytest.raises(ServiceUnreachable, match="not as 'hetsyn serve' does"):
        Script(SOCKET, "<html>").run(session().send(CHUNK))
