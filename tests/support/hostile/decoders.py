"""Every decoder of bytes that a client sends, with valid inputs to change, and a check of what it decodes."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hetsyn_client import carried_frame, events, values
from service.api.infer import parse_query
from service.carried.carry_keys import CarryKeys
from service.carried.token import Tokens
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.session.protocol import Lifetimes
from service.session.session import Session
from service.store.record import CHECKSUM_BYTES, Packing, checksum, read
from service.wire.chunk import AudioChunk, Chunk, ValuesChunk
from service.wire.content_types import parse_content_type
from service.wire.decode import decode_json, decode_query, decode_raw
from service.wire.events import unpack_events
from service.wire.schema import Envelope, InferRequest
from service.wire.sound import decode_base64, decode_samples, decode_sound, sound_of_media_type
from service.wire.values import unpack_values
from tests.support.clients.replies import Reply
from tests.support.data.signals import sound, spikes
from tests.support.data.sounds import frames as sounds
from tests.support.data.sounds import resealed, sound_file
from tests.support.data.wav import wav
from tests.support.stores.made_session import assert_same, made_session

END = [("end", "true")]
NUMBERS = [
    b"-1", b"0", b"1.5", b"25.0", b"1e999", b"-0.0", b"NaN", b"Infinity", b"9007199254740993", b"18446744073709551616",
    b"9" * 400,
]  # fmt: skip
JSON = [
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"[[",
    b"]]",
    b"[" * 300,
    b",",
    b":",
    b'"',
    b"\\ud800",
    b"\xff",
    *NUMBERS,
]
TEXT = [b"%00", b"%ff", b"+", b"&", b"=", b";", b"=;", b'"', b"\\", b" ", b"\t", b"\xe9", b"\0", b"," * 50, *NUMBERS]
BINARY = [
    b"\0", b"\xff", bytes(4), b"\xff" * 4, b"\xff" * 8, struct.pack("<I", 2**31), struct.pack("<Q", 2**53),
    struct.pack("<d", float("nan")), struct.pack("<d", 1e308), struct.pack("<f", float("inf")), bytes(64),
]  # fmt: skip


@dataclass(frozen=True)
class Decoder:
    """A decoder.

    Attributes:
        seeds: valid inputs.
        snippets: bytes that are put into them.
        decode: the decoder; raises HetsynError for what it refuses.
        check: asserts that a decoded value is valid.
    """

    seeds: Sequence[bytes]
    snippets: Sequence[bytes]
    decode: Callable[[bytes], Any]
    check: Callable[[Any], None]


def decoders(catalog: ModelCatalog) -> dict[str, Decoder]:
    """The decoders by name.

    Args:
        catalog: its default model takes sound; others may take values.
    """
    packing, keys = Packing(), CarryKeys([bytes(range(32))])
    tokens = Tokens(keys, catalog, Lifetimes(1e9, 1e9, 1e9, 1e9), Counters(), lambda: 2_000.0)
    model = catalog.get(None)
    sessions = [
        made_session(model, chunks=1),
        made_session(model, kind="spikes", chunks=1),
        made_session(model, rate_hz=11_025, end=True),
    ]
    of_values = [catalog.get(name) for name in catalog.names if catalog.get(name).row_values]
    sessions += [made_session(model, kind="values", chunks=1) for model in of_values]
    records = [packing.pack("abc", session) for session in sessions]
    sealed = [tokens.seal("abc", session) for session in sessions[:2]]
    sound_input = {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": 8000, "data": "AAAA"}
    bodies: list[dict[str, Any]] = [
        {"session": "abc", "seq": 0, "input": {"kind": "events", "steps": 25, "times": [0, 3], "units": [1, 2]}},
        {
            "model": "digits",
            "version": "1",
            "end": True,
            "input": {"kind": "dense", "spikes": [[0, 1]]},
        },
        {"session": "a", "seq": 3, "end": False, "input": sound_input},
        {"session": "b", "seq": 1, "input": {"kind": "values", "values": [[0.5, -1], [3, 2.5e3]]}},
        {"token": base64.b64encode(sealed[0][:60]).decode(), "carry": True, "end": True},
    ]
    rows, _ = values.pack_values([[0.5, -1], [3, 2.5e3]])
    packed = [events.pack_events(20, *spikes(20)), events.pack_events(0, [], [])]
    recordings = [wav(sound(40).tobytes()), wav(sound(40).tobytes(), channels=2)]
    framed = [
        carried_frame.pack_frame(b"token", "audio/pcm;encoding=pcm_s16le;rate=8000", sound(20).tobytes()),
        carried_frame.pack_frame(b"", events.MEDIA_TYPE, packed[0]),
        carried_frame.pack_frame(b"", "audio/wav", recordings[0]),
        carried_frame.pack_frame(b"", values.content_type(2), rows),
    ]
    types = [
        b"audio/pcm;encoding=pcm_s16le;rate=8000;channels=2;endianness=little-endian",
        b"application/json; charset=utf-8",
        b'a/b;c="d;e"',
    ]

    def reseal(content: bytes) -> bytes:
        """A record with the checksum of its content, so that its meaning is what is wrong."""
        body = content[:-CHECKSUM_BYTES]
        return body + checksum(body)

    def unpack(content: bytes) -> Session:
        record = read(content)
        return packing.unpack(record, catalog.of_session(record.model, record.version))

    def check_session(session: Session) -> None:
        again = unpack(packing.pack(_id(session), session))
        assert_same(again, session)

    return {
        "JSON body": Decoder([json.dumps(body).encode() for body in bodies], JSON, decode_json, check_request),
        "events in JSON": Decoder(
            [b'25, "times": [0, 3, 3], "units": [1, 2, 5]'],
            JSON,
            lambda data: decode_json(b'{"input": {"kind": "events", "steps": ' + data + b"}}"),
            check_request,
        ),
        "dense in JSON": Decoder(
            [b"[[0, 1, 0], [1, 0, true]]", b"[[0], [1.0]]"],
            JSON,
            lambda data: decode_json(b'{"input": {"kind": "dense", "spikes": ' + data + b"}}"),
            check_request,
        ),
        "values in JSON": Decoder(
            [b"[[0.5, -1, 3e5], [1, 0, 2]]", b"[[1], [-2.5]]"],
            JSON,
            lambda data: decode_json(b'{"input": {"kind": "values", "values": ' + data + b"}}"),
            check_request,
        ),
        "base64 sound": Decoder(
            [base64.b64encode(sound(20).tobytes()), b"AAA="],
            TEXT,
            lambda data: decode_samples(decode_base64(data.decode("latin-1")), "pcm_s16le"),
            check_samples,
        ),
        "query": Decoder(
            [b"session=abc&model=digits&version=1&seq=12&end=true&carry=false", b"seq=0"],
            TEXT,
            lambda data: decode_query(parse_query(data)),
            lambda value: _instance(value, Envelope),
        ),
        "content type": Decoder(types, TEXT, lambda data: parse_content_type(data.decode("latin-1")), check_type),
        "WAV": Decoder(recordings, BINARY, lambda data: decode_raw("audio/wav", END, data), check_request),
        "FLAC": Decoder(
            [
                sound_file(name, sounds(300, channels), 8_000)
                for name in ("s16.flac", "s24.flac")
                for channels in (1, 2)
            ],
            BINARY,
            lambda data: decode_raw("audio/flac", END, data),
            check_request,
        ),
        "Ogg": Decoder(
            [sound_file(name, sounds(900), 8_000) for name in ("vorbis.ogg", "opus.ogg")],
            BINARY,
            lambda data: decode_raw("audio/ogg", END, data),
            check_request,
        ),
        "resealed Ogg": Decoder(
            [
                sound_file(name, sounds(900, channels), 8_000)
                for name in ("vorbis.ogg", "opus.ogg")
                for channels in (1, 2)
            ],
            BINARY,
            lambda data: decode_raw("audio/ogg", END, resealed(data)),
            check_request,
        ),
        "MP3": Decoder(
            [sound_file("layer3.mp3", sounds(900, channels), 8_000) for channels in (1, 2)],
            BINARY,
            lambda data: decode_raw("audio/mpeg", END, data),
            check_request,
        ),
        "L16": Decoder(
            [kind + b"\n" + sound(20).tobytes() for kind in (b"rate=8000", b"rate=44100;channels=2")],
            [*TEXT, *BINARY],
            _l16,
            lambda value: check_samples(value[0]),
        ),
        "packed events": Decoder(packed, BINARY, unpack_events, check_chunk),
        "packed values": Decoder(
            [kind + b"\n" + rows for kind in (b"channels=2", b"channels=4", b'channels="1"')],
            [*TEXT, *BINARY],
            _values,
            check_chunk,
        ),
        "frame": Decoder(
            framed, [*BINARY, *TEXT], lambda data: decode_raw(carried_frame.MEDIA_TYPE, END, data), check_request
        ),
        "session record": Decoder(records, BINARY, unpack, check_session),
        "resealed session record": Decoder(
            records, [*BINARY, *JSON], lambda data: unpack(reseal(data)), lambda session: _instance(session, Session)
        ),
        "token": Decoder(sealed, BINARY, tokens.open, lambda opened: check_session(opened[1])),
    }


def _l16(data: bytes) -> Any:
    parameters, _, body = data.partition(b"\n")
    sound = sound_of_media_type(
        "audio/l16", parse_content_type("audio/L16;endianness=little-endian;" + parameters.decode("latin-1"))[1]
    )
    assert sound is not None
    return decode_sound(sound, body)


def _values(data: bytes) -> Any:
    parameters, _, body = data.partition(b"\n")
    kind = f"{values.MEDIA_TYPE};{parameters.decode('latin-1')}"
    return unpack_values(body, parse_content_type(kind)[1])


def _id(session: Session) -> str:
    return str(Reply.from_json(session.last_reply("")).session)


def _instance(value: Any, kind: type) -> None:
    assert isinstance(value, kind)


def check_type(value: Any) -> None:
    media_type, parameters = value
    assert media_type == media_type.lower().strip()
    assert all(isinstance(text, str) for text in (*parameters, *parameters.values()))


def check_samples(samples: Any) -> None:
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert np.isfinite(samples).all()
    assert np.abs(samples).max(initial=0.0) <= 1.0


def check_chunk(chunk: Chunk) -> None:
    if isinstance(chunk, AudioChunk):
        check_samples(chunk.samples)
        assert 1_000 <= chunk.rate_hz <= 192_000
        return
    if isinstance(chunk, ValuesChunk):
        assert chunk.values.dtype == np.float32
        assert chunk.values.ndim == 2
        assert np.isfinite(chunk.values).all()
        return
    step, unit = chunk.step, chunk.unit
    assert len(step) == len(unit)
    assert chunk.steps >= 0
    assert not len(step) or (step.min() >= 0 and step.max() < chunk.steps and unit.min() >= 0)


def check_request(request: InferRequest) -> None:
    assert len(request.digest) == 16
    if request.chunk is None:
        assert request.envelope.end
    else:
        check_chunk(request.chunk)
