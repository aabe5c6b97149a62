"""The reply to a chunk, after the client has ended the utterance by hand."""

from __future__ import annotations

from typing import Any

from hetsyn_client.results import UtteranceEnd
from service.session.session import finalized


def test_of_a_finalized_reply_only_the_chunk_and_the_events_are_left() -> None:
    ended: UtteranceEnd = {
        "type": "UtteranceEnd", "utterance": 1, "start": 0.0, "end": 1.0,
        "label": "yes", "probabilities": [0.1, 0.9], "trigger": "forced",
    }  # fmt: skip
    chunk: Any = {
        "session": "a", "model": "digits", "version": "1", "seq": 3,
        "steps": 10, "total_steps": 40, "labels": ["no", "yes"], "end": False,
    }  # fmt: skip
    reply: Any = {
        **chunk, "label": "yes", "probabilities": [0.1, 0.9], "readout": [[1.0, 2.0]], "utterance": 1, "events": [],
    }  # fmt: skip
    assert finalized(reply, 2, [ended]) == {
        **chunk, "label": None, "probabilities": None, "utterance": 2, "events": [ended],
    }  # fmt: skip
