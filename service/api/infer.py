"""``POST /infer``: takes one chunk of a stream and replies with the classification so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from hetsyn_client import events, frames, values
from service.admission.body import ClientDisconnect, read_body
from service.admission.fair_share import client_of
from service.admission.permits import Admission
from service.admission.presence import presence_of
from service.admission.turns import LARGE_DECODES, Turns
from service.admission.uploads import FREE_BYTES, Upload, Uploads
from service.api import problems
from service.carried.sessions import CarriedSessions
from service.errors import HetsynError, InputError
from service.keys.caller import caller_of
from service.observe.counters import Counters
from service.problem import Problem
from service.registry.registry import SessionRegistry
from service.settings import Limits
from service.wire import encodings
from service.wire.content_types import JSON_TYPE, check_not_compressed, parse_content_type, unsupported
from service.wire.decode import decode_json, decode_raw
from service.wire.encodings import PCM, SoundLimit, TakesLong, decoded_bytes
from service.wire.schema import InferRequest

PATH = "/infer"
MEDIA_TYPES = {JSON_TYPE, *encodings.MEDIA_TYPES, events.MEDIA_TYPE, values.MEDIA_TYPE, frames.MEDIA_TYPE}
MAX_JSON_BYTES = 256 * 1024  # numbers take many times their length in memory, and hold the interpreter
NOT_AS_JSON = (
    f"send spikes as {events.MEDIA_TYPE}, values as {values.MEDIA_TYPE}, sound as {PCM};encoding=pcm_s16le or as a "
    f"file, a carried session in {frames.MEDIA_TYPE}; or cut the input into several chunks"
)
IN_LOOP = SoundLimit(may_take_long=False)
MOST_PARAMETERS = 32  # there are fewer; tens of thousands would stop the event loop for 0.1 s


class InferEndpoint:
    """``POST /infer`` as an ASGI application, which ``Application`` calls without FastAPI.

    Args:
        registry: applies the chunks of sessions that the server stores.
        carried: applies the chunks of sessions that the client carries.
        admission: permits for requests in flight.
        uploads: bodies under way.
        counters: count refused chunks.
        limits: of a body.
        longest_step_s: length of a step of the model with the longest steps.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        carried: CarriedSessions,
        admission: Admission,
        uploads: Uploads,
        counters: Counters,
        limits: Limits,
        longest_step_s: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._carried = carried
        self._admission = admission
        self._uploads = uploads
        self._counters = counters
        self._max_body_bytes = limits.max_body_bytes
        self._max_json_bytes = min(MAX_JSON_BYTES, limits.max_body_bytes)
        self._max_chunk_steps = limits.max_chunk_steps
        self._longest_step_s = longest_step_s
        self._large_decodes = Turns(LARGE_DECODES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])  # ASGI has the names in lower case
        try:
            content, media_type = await self._infer(scope, headers, receive)
        except ClientDisconnect:
            self._counters.chunks_abandoned += 1
            return  # nobody would read a response; nothing was applied
        except Exception as error:
            if isinstance(error, HetsynError):
                self._counters.refused(error)
            response = problems.response(Problem.of(error, f"POST {PATH}"))
        else:  # the two messages that a ``Response`` would send, without its header handling
            fields = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": content})
            return
        await response(scope, receive, send)

    async def _infer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> tuple[bytes, str]:
        """Content and media type of the reply."""
        presence, client = presence_of(scope), client_of(scope["client"])
        self._admission.check(client)
        with Upload(self._uploads, client) as upload:
            check_not_compressed(headers.get(b"content-encoding", b""))
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            media_type = parse_content_type(content_type)[0]
            if media_type not in MEDIA_TYPES:
                raise unsupported(content_type)
            declared = headers.get(b"content-length", b"")
            if media_type == JSON_TYPE:
                body = await read_body(receive, declared, self._max_json_bytes, upload, NOT_AS_JSON)
            else:
                body = await read_body(receive, declared, self._max_body_bytes, upload)
            with self._admission.permit(client) as permit:
                query = _parse_query(scope["query_string"])
                try:
                    if len(body) > FREE_BYTES:
                        raise TakesLong
                    request = _decode(content_type, query, body, IN_LOOP)
                except TakesLong:
                    async with self._large_decodes.turn(client, permit.due_s):
                        presence.check()
                        limit = SoundLimit(self._max_chunk_steps * self._longest_step_s())
                        request = await asyncio.to_thread(_decode, content_type, query, body, limit)
                    if (more := decoded_bytes(request.chunk, len(body))) > 0:
                        self._uploads.take(upload, more)
                del body  # frees its memory while the chunk waits for its turn
                request = request.owned_by(caller_of(scope))
                with presence:
                    answer = await (self._carried if request.carry else self._registry).infer(request, permit)
                if media_type == frames.MEDIA_TYPE:
                    return answer.frame(), media_type
                return answer.json(), JSON_TYPE


def _parse_query(text: bytes) -> list[tuple[str, str]]:
    if text.count(b"&") >= MOST_PARAMETERS:
        raise InputError(f"the query has more than {MOST_PARAMETERS} parameters: send each once")
    if b"%" in text or b"+" in text:
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    # the same result where nothing is escaped, in a tenth of the time
    pairs = (part.partition("=") for part in text.decode("latin-1").split("&") if part)
    return [(name, value) for name, _, value in pairs]


def _decode(content_type: str, query: list[tuple[str, str]], body: bytes, limit: SoundLimit) -> InferRequest:
    if parse_content_type(content_type)[0] != JSON_TYPE:
        return decode_raw(content_type, query, body, limit)
    if query:
        raise InputError(f"query parameter {query[0][0][:64]!r}: with a JSON body, put it into the body")
    return decode_json(body, limit)
