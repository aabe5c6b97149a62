from __future__ import annotations

from hetsyn_client.loadtest.streams import LoadStream


def taken(stream: LoadStream) -> tuple[str, int, bool]:
    request = stream.session, stream.seq, stream.is_last
    stream.take()
    return request


def test_a_session_is_numbered_and_ends_and_another_begins() -> None:
    stream = LoadStream(0, "s", session_chunks=3, first_session_chunks=2, position=5)
    sent = []
    for _ in range(5):
        sent.append(taken(stream))
        stream.applied()
    assert sent == [("s-0", 0, False), ("s-0", 1, True), ("s-1", 0, False), ("s-1", 1, False), ("s-1", 2, True)]
    assert stream.open_session is None
    assert (stream.taken, stream.position) == (5, 10)


def test_a_refused_chunk_leaves_its_number_to_the_next() -> None:
    stream = LoadStream(0, "s", session_chunks=9, first_session_chunks=9, position=0)
    taken(stream)
    stream.applied()
    assert taken(stream) == ("s-0", 1, False)
    stream.refused()
    assert not stream.is_waiting
    assert taken(stream) == ("s-0", 1, False)
    assert stream.position == 3


def test_a_lost_session_is_named_and_another_begins() -> None:
    stream = LoadStream(0, "s", session_chunks=9, first_session_chunks=2, position=0)
    taken(stream)
    stream.applied()
    assert stream.open_session == "s-0"
    taken(stream)
    assert stream.abandon() == "s-0"
    assert stream.open_session is None
    assert taken(stream) == ("s-1", 0, False)
