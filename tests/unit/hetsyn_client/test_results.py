"""The server's schema of a reply has the members of the client's type."""

from __future__ import annotations

from hetsyn_client import results
from service.wire.schema import Reply


def test_a_reply_has_the_members_of_the_servers() -> None:
    beside = {"spikes", "timing", "token"}  # which the server does not keep with the reply
    assert results.Reply.__annotations__.keys() | {"spikes", "timing"} == Reply.model_fields.keys() | beside
