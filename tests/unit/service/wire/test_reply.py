"""The reply to a chunk, after the client has ended the utterance by hand."""

from __future__ import annotations

from typing import Any

from hetsyn_client.results import UtteranceEnd
from service.wire.schema import Reply

CHUNK: dict[str, Any] = {
    "session": "a", "model": "digits", "version": "1", "seq": 3,
    "steps": 10, "total_steps": 40, "labels": ("no", "yes"), "end": False,
}  # fmt: skip


def test_of_a_finalized_reply_only_the_chunk_and_the_events_are_left() -> None:
    ended: UtteranceEnd = {
        "type": "UtteranceEnd", "utterance": 1, "start": 0.0, "end": 1.0,
        "label": "yes", "probabilities": [0.1, 0.9], "trigger": "forced",
    }  # fmt: skip
    decided: dict[str, Any] = {"label": "yes", "probabilities": (0.1, 0.9), "utterance": 1, "readout": ((1.0, 2.0),)}
    reply = Reply(**CHUNK, **decided, events=())
    assert reply.model_fields_set == set(Reply.model_fields), "a new member: set it above"
    finalized = reply.finalized(2, (ended,))
    for name, value in finalized:
        if name in CHUNK:
            assert value == CHUNK[name]
        elif name in ("utterance", "events"):
            assert value == {"utterance": 2, "events": (ended,)}[name]
        else:
            assert value is None, f"{name} tells of the utterance that was ended"
