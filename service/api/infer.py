"""``POST /infer``: takes one chunk of a stream and replies with the classification so far."""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from hetsyn_client import events, frames, values
from service.admission.budget import client_of
from service.admission.presence import presence_of
from service.admission.uploads import ClientDisconnect
from service.api import problems
from service.errors import InputError
from service.ingress import Decode, Encoded, Ingress, Outcome, Source
from service.keys.caller import caller_of
from service.observe.counters import Counters
from service.problem import Problem
from service.settings import Limits
from service.wire import encodings
from service.wire.content_types import JSON_TYPE, check_not_compressed, parse_content_type, unsupported
from service.wire.decode import decode_json, decode_raw
from service.wire.encodings import PCM

PATH = "/infer"
MEDIA_TYPES = {JSON_TYPE, *encodings.MEDIA_TYPES, events.MEDIA_TYPE, values.MEDIA_TYPE, frames.MEDIA_TYPE}
MAX_JSON_BYTES = 256 * 1024  # numbers take many times their length in memory, and hold the interpreter
NOT_AS_JSON = (
    f"send spikes as {events.MEDIA_TYPE}, values as {values.MEDIA_TYPE}, sound as {PCM};encoding=pcm_s16le or as a "
    f"file, a carried session in {frames.MEDIA_TYPE}; or cut the input into several chunks"
)
REQUEST = f"POST {PATH}"
MOST_PARAMETERS = 32  # there are fewer; tens of thousands would stop the event loop for 0.1 s


class InferEndpoint:
    """``POST /infer`` as an ASGI application, which ``Application`` calls without FastAPI.

    Args:
        ingress: applies chunks.
        counters: count abandoned chunks.
        limits: of a body.
    """

    def __init__(self, ingress: Ingress, counters: Counters, limits: Limits) -> None:
        self._ingress = ingress
        self._counters = counters
        self._max_body_bytes = limits.max_body_bytes
        self._max_json_bytes = min(MAX_JSON_BYTES, limits.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])  # ASGI has the names in lower case
        try:
            media_type, outcome = await self._outcome(scope, headers, receive)
        except ClientDisconnect:
            self._counters.chunks_abandoned += 1
            return  # nobody would read a response; nothing was applied
        except Exception as error:
            media_type, outcome = "", self._ingress.refused(error, REQUEST)
        if isinstance(outcome, Problem):
            await problems.response(outcome)(scope, receive, send)
            return
        content = outcome.frame() if media_type == frames.MEDIA_TYPE else outcome.json()
        media_type = media_type if media_type == frames.MEDIA_TYPE else JSON_TYPE
        # the two messages that a ``Response`` would send, without its header handling
        fields = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": content})

    async def _outcome(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> tuple[str, Outcome]:
        """The media type of the request, and its outcome."""
        client = client_of(scope["client"])
        with self._ingress.arriving(client) as upload:
            if b"content-encoding" in headers:
                check_not_compressed(headers[b"content-encoding"])
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            media_type = parse_content_type(content_type)[0]
            if media_type not in MEDIA_TYPES:
                raise unsupported(content_type)
            declared = headers.get(b"content-length", b"")
            query = _parse_query(scope["query_string"])
            decode: Decode
            if media_type == JSON_TYPE:
                if query:
                    raise InputError(f"query parameter {query[0][0][:64]!r}: with a JSON body, put it into the body")
                body = await upload.read(receive, declared, self._max_json_bytes, NOT_AS_JSON)
                decode = partial(decode_json, body)
            else:
                body = await upload.read(receive, declared, self._max_body_bytes)
                decode = partial(decode_raw, content_type, query, body)
            source = Source(REQUEST, "http", client, caller_of(scope), presence_of(scope))
            encoded = Encoded(len(body), decode, upload)
            del body, decode  # ``encoded`` frees them when the chunk is decoded
            (outcome,) = await self._ingress.apply([(source, encoded)])
        return media_type, outcome


def _parse_query(text: bytes) -> list[tuple[str, str]]:
    if text.count(b"&") >= MOST_PARAMETERS:
        raise InputError(f"the query has more than {MOST_PARAMETERS} parameters: send each once")
    if b"%" in text or b"+" in text:
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    # the same result where nothing is escaped, in a tenth of the time
    pairs = (part.partition("=") for part in text.decode("latin-1").split("&") if part)
    return [(name, value) for name, _, value in pairs]
