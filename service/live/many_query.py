"""Parses the query of ``WS /streams``: what all sessions of a connection share, and how their chunks are encoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast, get_args

from service.errors import UnsupportedInput
from service.keys.caller import ANYBODY, Caller
from service.live.query import StreamQuery, parse_stream_query
from service.wire.columns import Decoder, Encoding, decoder_of
from service.wire.content_types import LONGEST
from service.wire.explain import unknown_parameter
from service.wire.schema import Parameters

ENCODINGS: tuple[str, ...] = get_args(Encoding)
PARAMETERS = ("model", "version", "encoding", "sample_rate", "channels")


class ManyQuery(NamedTuple):
    """What a client asks for.

    Attributes:
        one: the query as ``/stream`` would have it for one of the sessions, with a placeholder id.
        caller: owns the sessions.
    """

    one: StreamQuery
    decoder: Decoder
    caller: Caller = ANYBODY

    @property
    def envelope(self) -> Parameters:
        """Return the parameters with the model and the version."""
        return self.one.envelope

    def of_session(self, session_id: str, resume: bool) -> StreamQuery:
        """Make the query of ``/stream`` for a session, by the client's id."""
        inner = self.caller.session(session_id)
        return self.one._replace(envelope=self.envelope._replace(session=inner), resume=resume)

    def named(self, model: str, version: str) -> ManyQuery:
        """Return a copy for this model and version."""
        envelope = self.envelope._replace(model=model, version=version)
        return self._replace(one=self.one._replace(envelope=envelope))


def parse_many_query(query: Iterable[tuple[str, str]], caller: Caller = ANYBODY) -> ManyQuery:
    """Parse the query parameters.

    Raises:
        InputError: a parameter is unknown, missing, occurs twice, or is wrong.
        UnsupportedInput: frames of chunks have no such encoding.
    """
    pairs = list(query)
    for name, _ in pairs:
        if name not in PARAMETERS:
            raise unknown_parameter(
                name,
                f"query parameter {name[:LONGEST]!r} is not one of /streams: it takes {', '.join(PARAMETERS)}; "
                "sessions are opened by frames",
                PARAMETERS,
            )
    values = dict(pairs)
    encoding = values.get("encoding", "pcm_s16le")
    if encoding not in ENCODINGS:
        raise UnsupportedInput(
            f"encoding {encoding[:LONGEST]!r} is not taken by /streams: send one of {', '.join(ENCODINGS)}, "
            "or open a /stream for each session"
        )
    one = parse_stream_query(pairs)
    decoder = decoder_of(cast(Encoding, encoding), int(values.get("sample_rate", 0)), int(values.get("channels", 0)))
    return ManyQuery(one, decoder, caller)
