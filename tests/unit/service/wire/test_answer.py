"""What a reply has beside what is kept of it."""

from __future__ import annotations

import json

import pytest

from hetsyn_client.results import Spikes
from service.observe.watch import Watch
from service.wire.answer import Answer, more_of
from service.wire.schema import Envelope

REPLY = b'{"session":"a","end":false}'
SPIKES: Spikes = {
    "first_step": 3,
    "steps": 2,
    "layers": [{"name": "input", "size": 4, "times": [0, 1], "units": [2, 3]}],
}


def test_a_client_that_asks_for_nothing_gets_the_very_bytes() -> None:
    assert Answer(REPLY, Watch(), more=more_of(Envelope(), SPIKES, Watch())).json() is REPLY


@pytest.mark.parametrize("names", [["spikes"], ["timing"], ["spikes", "timing"]])
def test_what_a_client_asks_for_follows(names: list[str]) -> None:
    envelope = Envelope.model_validate(dict.fromkeys(names, True))
    answer = Answer(REPLY, Watch(), more=more_of(envelope, SPIKES, Watch()))
    reply = json.loads(answer.json())
    assert answer.reply == reply
    assert list(reply) == ["session", "end", *names]
    assert reply.get("spikes", SPIKES) == SPIKES
    assert list(reply.get("timing", ())) in ([], ["queue_ms", "engine_ms", "store_ms"])


def test_a_repeated_chunk_has_none_of_it() -> None:
    assert Answer(REPLY, Watch(), more=more_of(Envelope(spikes=True, timing=True))).reply == {
        "session": "a", "end": False, "spikes": None, "timing": None,
    }  # fmt: skip
