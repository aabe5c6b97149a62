"""The rules of a session, step by step, without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hetsyn_client.errors import ServiceProblem, ServiceUnreachable, SessionLost
from hetsyn_client.protocol.calls import Calls, SessionOptions
from hetsyn_client.protocol.session_steps import SessionSteps
from hetsyn_client.protocol.steps import Broken, Now, Pause, Request, Response, Step, Steps, T
from hetsyn_client.sources.bodies import Body

CHUNK = Body(b"\x01\x00", "audio/pcm;encoding=pcm_s16le;rate=8000")


def ok(**members: Any) -> Response:
    return Response(200, "OK", {}, json.dumps(members).encode())


def refused(status: int, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    return Response(status, "Refused", dict(headers or {}), json.dumps(members).encode())


class Script:
    """Answers steps in order. Pauses need no answer. ``now_s`` is the time, which pauses let pass."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.now_s = 0.0
        self.steps: list[Step] = []

    def run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                self.steps.append(step)
                if isinstance(step, Pause):
                    self.now_s += step.seconds
                    answer: object = None
                else:
                    answer = self.now_s if isinstance(step, Now) else self._answers.pop(0)
                if isinstance(answer, Broken):
                    step = steps.throw(answer)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            assert not self._answers
            result: T = end.value
            return result

    @property
    def pauses(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Pause)]

    @property
    def targets(self) -> list[str]:
        return [step.target for step in self.steps if isinstance(step, Request)]


def session(
    name: str | None = None,
    *,
    repeats: int = 2,
    patience_s: float = 5.0,
    options: SessionOptions | None = None,
) -> SessionSteps:
    calls = Calls("http://server", repeats, patience_s)
    return SessionSteps(calls, name, options or {})


def begun(one: SessionSteps) -> SessionSteps:
    """After its first chunk."""
    Script(ok(seq=0)).run(one.send(CHUNK))
    return one


def test_the_end_goes_to_infer() -> None:
    one = begun(session())
    script = Script(ok(seq=1))
    script.run(one.end())
    assert script.targets == [f"/infer?end=true&session={one.id}&seq=1"]
    assert Script().run(one.leave()) is None  # the session has ended: nothing to delete


def test_a_session_that_was_named_begins_where_the_server_says() -> None:
    one = session("mine")
    script = Script(ok(expected_seq=7), ok(seq=7))
    assert (script.run(one.send(CHUNK))["seq"], one.seq) == (7, 8)
    assert script.targets == ["/sessions/mine", "/infer?end=false&session=mine&seq=7"]
    assert Script().run(one.leave()) is None
    ended = session("mine")
    script = Script(ok(expected_seq=7), ok(seq=7))
    assert script.run(ended.end())["seq"] == 7
    assert script.targets == ["/sessions/mine", "/infer?end=true&session=mine&seq=7"]
    other = session("new")
    Script(refused(404, detail="no session"), ok(seq=0)).run(other.send(CHUNK))
    assert other.seq == 1
    failing = session("new")
    with pytest.raises(ServiceProblem, match="down"):
        Script(refused(500, detail="down")).run(failing.send(CHUNK))
    assert failing.seq is None


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_that_has_begun_and_is_there_no_more_is_lost(status: int) -> None:
    one = session()
    Script(ok(seq=0)).run(one.send(CHUNK))
    with pytest.raises(SessionLost, match="gone"):
        Script(refused(status, detail="gone")).run(one.send(CHUNK))
    new = session()
    with pytest.raises(ServiceProblem) as caught:  # its model is missing
        Script(refused(404, detail="no model")).run(new.send(CHUNK))
    assert not isinstance(caught.value, SessionLost)


def test_a_session_that_has_begun_waits_for_its_server_as_long_as_it_was_told_to() -> None:
    one = session()
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
    one = begun(session())
    script = Script(*[Broken("silent", waited_s=30.0)] * 3)
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))
    assert len(script.pauses) == 2


def test_no_repeats_are_no_repeats() -> None:
    one = begun(session(repeats=0))
    script = Script(Broken("refused"))
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))


def test_a_certificate_that_is_not_trusted_has_a_sentence_of_its_own() -> None:
    with pytest.raises(ServiceUnreachable, match=r"its certificate is not trusted .* with --ca-file"):
        Script(Broken("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")).run(Calls("https://s", 0).describe("m"))


def test_a_server_that_says_later_and_means_now_is_not_asked_without_a_pause() -> None:
    one = begun(session(repeats=1, patience_s=3.0))
    script = Script(*[refused(503, {"Retry-After": "0"})] * 6)
    with pytest.raises(ServiceProblem):
        script.run(one.send(CHUNK))
    assert script.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_it_is_repeated_as_often_as_somebody_likes() -> None:
    one, script = session(repeats=1_200), Script(*[Broken("x")] * 1_201)
    with pytest.raises(ServiceUnreachable):
        script.run(one.send(CHUNK))
    assert len(script.pauses) == 1_200


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}])
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_a_server_is_asked_again(status: int, headers: Mapping[str, str]) -> None:
    one = begun(session())
    script = Script(refused(status, headers), ok(seq=1))
    assert script.run(one.send(CHUNK))["seq"] == 1
    assert script.pauses == [1.0 if headers else 0.1]
