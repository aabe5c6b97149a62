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
    query = parsed("session=a&model=m&encoding=pcm_s16le&sample_rate=8000")
    samples = np.array([1, -2, 300], np.int16)
    request = query.request(7, None, *query.decoded(samples.astype("<i2").tobytes()))
    assert (request.envelope.session, request.envelope.model, request.envelope.seq) == ("a", "m", 7)
    assert request.digest == digest(AudioChunk(samples.astype(np.float32) / np.float32(32768), 8000), False)
    assert query.end(8).envelope.end
    assert query.interim


def test_a_session_without_an_id_gets_one() -> None:
    assert len(parsed("encoding=events").session) > 10


def test_spikes_and_times_can_be_asked_for() -> None:
    asked = parsed("encoding=events&spikes=true&timing=false").envelope
    assert (asked.spikes, asked.timing, asked.asks_more) == (True, False, True)
    assert not parsed("encoding=events").envelope.asks_more
    assert parsed("encoding=events&spikes=true").end(3).envelope.spikes
    assert not parsed("encoding=events&spikes=false&interim=false").interim


@pytest.mark.parametrize(
    ("query", "kind", "sentence"),
    [
        ("encoding=adpcm", UnsupportedInput, "send one of pcm_s16le, pcm_s24le, pcm_f32le, mulaw, alaw, events"),
        ("encoding=flac", UnsupportedInput, "does not come in pieces: send the whole file to POST /infer, or send its"),
        ("encoding=ogg&resend=true", InputError, "'resend' is not one of a stream"),
        ("encoding=wav", UnsupportedInput, "does not come in pieces"),
        ("encoding=mp3", UnsupportedInput, "does not come in pieces"),
        ("", InputError, "needs its sample rate in Hz"),
        ("encoding=mulaw", InputError, "'mulaw' needs its sample rate in Hz"),
        ("sample_rate=8000&channels=0", InputError, "0 channels: send 1 to 32"),
        ("sample_rate=8000&channels=two", InputError, "needs a number of channels"),
        ("sample_rate=fast", InputError, "needs its sample rate in Hz"),
        ("sample_rate=999", InputError, "is not within"),
        ("encoding=events&sample_rate=8000", InputError, "has no parameter 'sample_rate'"),
        ("encoding=values", InputError, "send channels=3 where a row has 3 numbers"),
        ("encoding=values&channels=0", InputError, "is no number of channels"),
        ("encoding=events&encoding=events", InputError, "occurs twice"),
        ("encodng=events", InputError, "; did you mean encoding?"),
        ("encoding=events&seq=3", InputError, "'seq' is not one of a stream"),
        ("encoding=events&interim=no", InputError, "send true or false"),
        ("encoding=events&spikes=yes!", InputError, "spikes: send true or false"),
        ("encoding=events&timing=", InputError, "timing: send true or false"),
        ("encoding=events&interim=false&spikes=true", InputError, "needs results: leave interim=false out, or spikes"),
        ("encoding=events&interim=false&timing=true", InputError, "needs results: leave interim=false out, or timing"),
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
        query.decoded(pack_events(0, np.zeros(0, np.int64), np.zeros(0, np.int64)))


def test_channels_of_samples_are_averaged() -> None:
    query = parsed("encoding=pcm_f32le&sample_rate=8000&channels=2")
    chunk = query.decoded(np.array([0.5, 0.25, -1, 1], "<f4").tobytes())[0]
    assert isinstance(chunk, AudioChunk)
    assert chunk.samples.tolist() == [0.375, 0]
