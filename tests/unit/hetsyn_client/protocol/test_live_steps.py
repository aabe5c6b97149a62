"""The rules of one stream, step by step, without a network."""

from __future__ import annotations

from hetsyn_client.access import access_of
from hetsyn_client.protocol.live_steps import LiveOptions, LiveSteps
from hetsyn_client.protocol.steps import CloseSocket, OpenSocket, ReadFrame


def test_an_opening_that_is_cancelled_leaves_no_connection_behind() -> None:
    stream, socket = LiveSteps(access_of("http://host", {}), LiveOptions(session="s")), object()
    opening = stream.begin_once()
    assert isinstance(next(opening), OpenSocket)
    assert isinstance(opening.send(socket), ReadFrame)
    opening.close()
    again = stream.begin_once()
    assert next(again) == CloseSocket(socket)
    assert isinstance(again.send(None), OpenSocket)
