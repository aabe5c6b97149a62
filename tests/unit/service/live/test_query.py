"""The query of a stream: what is taken, and what is refused with which sentence."""

from __future__ import annotations

from urllib.parse import parse_qsl

import numpy as np
import pytest

from hetsyn_client.events import pack_events
from service.errors import HetsynError, InputError, UnsupportedInput
from service.live.query import StreamQuery, parse_stream_query
from service.wire.chunk import AudioChunk, digest


def parsed(query: str) -> StreamQuery:
    return parse_stream_query(parse_qsl(query, keep_blank_values=True))


def test_a_frame_becomes_the_chunk_that_infer_makes_of_it() -> None:
    query = parsed("session=a&model=m&form=exact&encoding=pcm_s16le&sample_rate=8000")
    samples = np.array([1, -2, 300], np.int16)
    request = query.request(samples.astype("<i2").tobytes(), 7)
    assert (request.envelope.session, request.envelope.model, request.envelope.seq) == ("a", "m", 7)
    assert request.digest == digest(AudioChunk(samples.astype(np.float32) / np.float32(32768), 8000), False)
    assert query.end(8).envelope.end
    assert query.interim


def test_a_session_without_an_id_gets_one() -> None:
    assert len(parsed("encoding=events").session) > 10


def test_acknowledgements_can_be_asked_for() -> None:
    assert not parsed("encoding=events&interim=false&endpointing=off").interim


@pytest.mark.parametrize(
    ("query", "kind", "sentence"),
    [
        ("encoding=mp3", UnsupportedInput, "send one of pcm_s16le, events, values"),
        ("", InputError, "needs its sample rate in Hz"),
        ("sample_rate=fast", InputError, "needs its sample rate in Hz"),
        ("sample_rate=999", InputError, "is not within"),
        ("encoding=events&sample_rate=8000", InputError, "has no parameter 'sample_rate'"),
        ("encoding=values", InputError, "has no channels"),
        ("encoding=values&channels=0", InputError, "is no number of channels"),
        ("encoding=events&encoding=events", InputError, "occurs twice"),
        ("encoding=events&seq=3", InputError, "'seq' is not one of a stream"),
        ("encoding=events&interim=no", InputError, "send true or false"),
        ("encoding=events&endpointing=maybe", InputError, "send on or off"),
        ("encoding=events&session=a/b", InputError, "session"),
    ],
)
def test_a_wrong_query_gets_a_sentence(query: str, kind: type[HetsynError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        parsed(query)


def test_an_empty_frame_is_no_chunk() -> None:
    query = parsed("encoding=events")
    with pytest.raises(InputError, match="the frame is empty"):
        query.request(pack_events(0, np.zeros(0, np.int64), np.zeros(0, np.int64)), 0)
