"""The client's types of replies are those of the server, which it does not import."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from hetsyn_client import results
from service.live import text_frames
from service.wire import heard, raster
from service.wire.schema import Reply


@pytest.mark.parametrize(
    ("ours", "servers"),
    [
        (results.SpeechStarted, heard.SpeechStarted),
        (results.UtteranceEnd, text_frames.UtteranceEnd),
        (results.Spikes, raster.Spikes),
        (results.LayerSpikes, raster.LayerSpikes),
        (results.Timing, raster.Timing),
    ],
)
def test_types_have_the_members_of_the_servers(ours: Any, servers: Any) -> None:
    assert get_type_hints(ours).keys() == get_type_hints(servers).keys()
    assert ours.__required_keys__ == servers.__required_keys__


def test_a_reply_has_the_members_of_the_servers() -> None:
    beside = {"spikes", "timing", "token"}  # which the server does not keep with the reply
    assert results.Reply.__annotations__.keys() | {"spikes", "timing"} == Reply.model_fields.keys() | beside
