"""Messages between workers, cut anywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.workers.messages import Call, Kind, Message, Unpacker, pack

HEADS = st.tuples(st.text(max_size=9), st.binary(max_size=9), st.none() | st.tuples(st.text(), st.integers(0, 2**16)))
MESSAGES = st.builds(Message, st.sampled_from(Kind), st.integers(0, 2**64 - 1), HEADS, st.binary(max_size=64))


@given(st.lists(MESSAGES, max_size=6), st.data())
def test_messages_arrive_whole_however_they_are_cut(messages: list[Message], data: st.DataObject) -> None:
    content = b"".join(pack(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    unpacker = Unpacker()
    received = [
        message
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True)
        for message in unpacker.receive(content[begin:end])
    ]
    assert received == messages


def test_a_call_survives() -> None:
    call = Call("PUT", "/sessions/ä/state", b"replace=true", b"application/octet-stream", ("::1", 80))
    (message,) = Unpacker().receive(pack(Kind.call, 3, tuple(call), b"body"))
    assert Call(*message.head) == call
    assert message.body == b"body"
