"""A connection to ``WS /stream``, as a client opens it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from hetsyn_client.bodies import Body
from hetsyn_client.errors import ServiceProblem
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.transport import Transport

SUBPROTOCOL = Subprotocol("hetsyn.v1")


def open_stream(url: str, timeout_s: float) -> ClientConnection:
    """Open a stream.

    Args:
        url: with its query.
        timeout_s: for the server's answer.

    Raises:
        ServiceProblem: the server refused, and another try does not mend it.
        OSError, TimeoutError: no connection.
    """
    try:
        return connect(
            url,
            subprotocols=[SUBPROTOCOL],
            compression=None,
            open_timeout=timeout_s,
            close_timeout=1.0,
            max_size=None,
            proxy=None,
        )
    except InvalidStatus as error:
        response = error.response
        if response.status_code in (502, 503, 504):
            raise OSError(f"the server answers {response.status_code}") from error
        raise _problem(response.status_code, bytes(response.body or b"")) from error
    except InvalidHandshake as error:
        raise OSError(str(error)) from error


def final_of_ended(transport: Transport, session: str, seq: int | None, step_s: float) -> dict[str, Any]:
    """The end of the last utterance of a session that has ended.

    Args:
        transport: to the server.
        session: its id.
        seq: number of the end.
        step_s: length of a network step.

    Raises:
        ServiceProblem: the server keeps it no longer.
        ServiceUnreachable: the server cannot be reached.
    """
    query = {"session": session, "seq": seq, "end": True}
    reply: dict[str, Any] = transport.post_chunk(query, Body(b"", EVENTS_TYPE), is_repeatable=True).json()
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


class HasEnded(ServiceProblem):
    """The session has ended."""


def _problem(status: int, body: bytes) -> ServiceProblem:
    try:
        content = json.loads(body)
        kind = HasEnded if str(content["type"]).endswith(":session-ended") else ServiceProblem
        return kind(status, str(content["detail"]), content.get("expected_seq"), None)
    except (ValueError, KeyError, TypeError):
        return ServiceProblem(status, body[:200].decode("latin-1"), None, None)
