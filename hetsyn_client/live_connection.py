"""What a client of ``WS /stream`` sends, and the end of a session whose answer was lost."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from websockets.sync.client import ClientConnection

from hetsyn_client.bodies import Body
from hetsyn_client.calls import Calls
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.steps import Steps


def final_of_ended(calls: Calls, session: str, seq: int | None, step_s: float) -> Steps[dict[str, Any]]:
    """The end of the last utterance of a session that has ended.

    Args:
        calls: of the server.
        session: its id.
        seq: number of the end.
        step_s: length of a network step.

    Raises:
        ServiceProblem: the server keeps it no longer.
        ServiceUnreachable: the server cannot be reached.
    """
    query = {"session": session, "seq": seq, "end": True}
    response = yield from calls.post_chunk(query, Body(b"", EVENTS_TYPE), is_repeatable=True)
    reply = json.loads(response.content)
    ends = [event for event in reply.get("events", ()) if event["type"] == "UtteranceEnd"]
    if ends:
        return dict(ends[-1])
    return {
        "type": "UtteranceEnd", "utterance": 0, "start": 0.0, "end": reply["total_steps"] * step_s,
        "label": reply["label"], "probabilities": reply["probabilities"], "trigger": "end",
    }  # fmt: skip


class SentChunk(NamedTuple):
    """A chunk that was not acknowledged, with the settings that go before it."""

    seq: int
    content: bytes
    settings: dict[str, float]

    def send(self, connection: ClientConnection) -> None:
        if self.settings:
            connection.send(json.dumps({"type": "Configure", "endpointing": self.settings}))
        connection.send(self.content)
