"""A server keeps the reply to a session's last chunk for longer than our client can send that chunk again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.access import TIMEOUT_S, access_of
from hetsyn_client.errors import HetsynError
from hetsyn_client.protocol.calls import Calls
from hetsyn_client.protocol.live_steps import LiveSteps
from hetsyn_client.protocol.patience import LONGEST_PAUSE_S
from hetsyn_client.protocol.steps import Broken, Now, OpenSocket, Pause, ReadFrame, Request, Response, Steps
from hetsyn_client.sources.bodies import Body
from service.settings import Retention

URL = "http://server"
WAITS = st.floats(0, TIMEOUT_S)


class LostAnswers:
    """A network that takes all that is sent, and answers nothing but "later". Time passes as ``draw`` says.

    Attributes:
        last_s: when something was sent for the last time, in seconds since the first.
    """

    def __init__(self, draw: st.DataObject) -> None:
        self._draw = draw
        self.now_s = self.last_s = 0.0

    def run(self, steps: Steps[Any]) -> None:
        try:
            step = next(steps)
            while True:
                answer = self._answer(step)
                step = steps.throw(answer) if isinstance(answer, Broken) else steps.send(answer)
        except HetsynError:  # it gives up
            return

    def _answer(self, step: object) -> Any:
        if isinstance(step, Now):
            return self.now_s
        if isinstance(step, Pause):
            self.now_s += step.seconds
            return None
        if isinstance(step, Request | OpenSocket):
            self.last_s = self.now_s
            return self._lost(isinstance(step, Request))
        if isinstance(step, ReadFrame) and step.timeout_s:
            self.now_s += step.timeout_s
        return None

    def _lost(self, is_request: bool) -> Any:
        waited_s = self._draw.draw(WAITS)
        self.now_s += waited_s
        if is_request and self._draw.draw(st.booleans()):
            later_s = self._draw.draw(st.integers(0, int(LONGEST_PAUSE_S)))
            return Response(503, "later", {"Retry-After": str(later_s)}, b"{}")
        if not is_request and self._draw.draw(st.booleans()):
            return object()  # a socket on which nothing comes
        return Broken("lost", waited_s=self._draw.draw(st.sampled_from((0.0, waited_s))))


@given(st.data())
def test_a_last_chunk_by_infer(draw: st.DataObject) -> None:
    network = LostAnswers(draw)
    query = {"session": "s", "seq": 5, "end": True}
    network.run(Calls.of(URL, {}).post_chunk(query, Body(b"", "text/plain"), is_repeatable=True, has_begun=True))
    assert network.last_s < Retention.ended_keep_s


@given(st.data())
def test_a_last_chunk_over_a_stream(draw: st.DataObject) -> None:
    network = LostAnswers(draw)
    stream = LiveSteps(access_of(URL, {}), {})
    stream._patience.answered()  # an earlier chunk
    network.run(stream._reopen(Broken("lost", waited_s=TIMEOUT_S)))
    assert network.last_s < Retention.ended_keep_s
