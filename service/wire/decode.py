"""Decodes the bytes of a request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from pydantic import TypeAdapter, ValidationError

from hetsyn_client import carried_frame, events, values
from service.errors import InputError, TokenForeign
from service.wire.chunk import AudioChunk, Chunk, digest
from service.wire.content_types import parse_content_type, unsupported
from service.wire.events import unpack_events
from service.wire.explain import explain_invalid
from service.wire.schema import AudioInput, Envelope, InferBody, InferRequest, Parameters, parameters_of
from service.wire.sound import NO_LIMIT, SoundLimit, decode_sound, sound_of_media_type
from service.wire.values import unpack_values

_BODY: TypeAdapter[InferBody] = TypeAdapter(InferBody)


def decode_json(body: bytes, limit: SoundLimit = NO_LIMIT) -> InferRequest:
    """Decode a JSON body.

    Raises:
        InputError: the body is not JSON, or not of the schema; the message names the first wrong field.
        TokenForeign: the token is not base64.
        UnsupportedInput: there is no such kind of input.
        TakesLong: as ``decode_sound``.
    """
    try:
        parsed = _BODY.validate_json(body)
    except ValidationError as error:
        fields = "a field of this request: leave it out"
        raise explain_invalid(error, "the body", fields, names=InferBody.model_fields) from error
    # drop the input: it would stay in memory beside the chunk
    envelope = Envelope.model_validate(parsed.model_dump(exclude={"input", "token"}, exclude_unset=True))
    token = None if parsed.token is None else _decode_token(parsed.token)
    if parsed.input is None:
        return make_request(envelope, None, token)
    chunk = parsed.input.decode(limit) if isinstance(parsed.input, AudioInput) else parsed.input.chunk()
    return make_request(envelope, chunk, token)


def decode_raw(
    content_type: str, query: Iterable[tuple[str, str]], body: bytes, limit: SoundLimit = NO_LIMIT
) -> InferRequest:
    """Decode a body that is not JSON: audio, packed events, packed values, or one of them in a frame with a token.

    Args:
        content_type: the header's value, with parameters.
        body: may be empty if the request ends a session.

    Raises:
        InputError: a parameter or the body is wrong.
        UnsupportedInput: the content type is not accepted.
        TakesLong: as ``decode_sound``.
    """
    if parse_content_type(content_type)[0] == carried_frame.MEDIA_TYPE:
        return _decode_frame(query, body, limit)
    decode = _raw_decoder(content_type)
    envelope = decode_query(query)
    return make_request(envelope, decode(body, limit) if body else None)


def _decode_frame(query: Iterable[tuple[str, str]], body: bytes, limit: SoundLimit) -> InferRequest:
    """Decode the frame of a carried session (``hetsyn_client.carried_frame``). Its first chunk has no token yet."""
    token, content_type, inner = carried_frame.unpack_frame(body)
    envelope = decode_query(query)
    chunk = _raw_decoder(content_type)(inner, limit) if inner else None
    return make_request(envelope, chunk, token or None)._replace(carry=True)


def _decode_token(text: str) -> bytes:
    """Decode the base64 of a token.

    Only canonical base64 is taken. Several texts decode to the same bytes, and every change of a token is an error.
    """
    try:
        token = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        token = None
    if token is None or base64.b64encode(token).decode() != text:
        raise TokenForeign("token is not base64: send the token of the last reply unchanged")
    return token


def decode_query(query: Iterable[tuple[str, str]]) -> Envelope:
    """Decode the query parameters of a request with a raw body.

    Raises:
        InputError: a parameter is unknown, occurs twice, or is wrong.
    """
    values: dict[str, str] = {}
    for name, value in query:
        if name in values:
            raise InputError(f"query parameter {name!r} occurs twice: send it once")
        values[name] = value
    number = values.get("seq", "0")
    if not (number.isascii() and number.isdigit()):  # pydantic takes " 1", "+1" and "1_0" too
        raise InputError("seq: send a whole number")
    try:
        return Envelope.model_validate_strings(values)
    except ValidationError as error:
        raise explain_invalid(error, "the query", _QUERY_FIELDS, names=Envelope.model_fields) from error


@lru_cache(maxsize=256)  # it keeps no errors
def _raw_decoder(content_type: str) -> Callable[[bytes, SoundLimit], Chunk]:
    media_type, parameters = parse_content_type(content_type)
    if media_type == events.MEDIA_TYPE:
        return lambda body, _: unpack_events(body)
    if media_type == values.MEDIA_TYPE:
        return lambda body, _: unpack_values(body, parameters)
    sound = sound_of_media_type(media_type, parameters)
    if sound is None:
        raise unsupported(media_type)
    return partial(decode_sound, sound)


def request_of_events(query: Iterable[tuple[str, str]], chunk: Chunk, of_content: bytes) -> InferRequest:
    """Make the request of packed events that are decoded, as ``decode_raw`` makes it of bytes.

    Args:
        of_content: their digest, of a chunk that does not end its session.

    Raises:
        InputError: a parameter is wrong.
    """
    envelope = decode_query(query)
    return make_request(envelope, chunk, of_content=None if envelope.end else of_content)


def make_request(
    envelope: Envelope, chunk: Chunk | None, token: bytes | None = None, of_content: bytes | None = None
) -> InferRequest:
    """Make a request of its decoded parts.

    Args:
        chunk: None if there is no input.
        of_content: digest of chunk and end flag, where it is known.

    Raises:
        InputError: there is no input, and the request does not end its session; or a later chunk begins it.
    """
    if envelope.begin and (envelope.seq or token is not None):
        raise InputError("begin=true goes with seq 0, and without a token: leave begin out where the session goes on")
    if chunk is not None and not (len(chunk.samples) if isinstance(chunk, AudioChunk) else chunk.steps):
        chunk = None
    if chunk is None and not envelope.end:
        raise InputError("the chunk is empty: send at least one sample or step, or end the session with end=true")
    if of_content is None:
        of_content = digest(chunk, envelope.end)
    parameters = Parameters(*parameters_of(envelope))
    return InferRequest(parameters, chunk, of_content, envelope.carry or token is not None, token)


_QUERY_FIELDS = f"a query parameter of this request: it takes {', '.join(Envelope.model_fields)}"
