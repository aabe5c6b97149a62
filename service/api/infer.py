"""Plans ``POST /infer``: takes one chunk of a stream and replies with the classification so far."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import parse_qsl

from hetsyn_client import carried_frame, events, values
from service.admission.uploads import SHORTER, Upload
from service.api.messages import Head
from service.errors import InputError
from service.ingress import SMALL_BYTES, Encoded, PackedEvents
from service.observe.timings import Transport
from service.session.session import Answer
from service.settings import Limits
from service.wire import sound
from service.wire.content_types import JSON_TYPE, check_not_compressed, parse_content_type, unsupported
from service.wire.decode import decode_json, decode_raw, request_of_events
from service.wire.sound import PCM

PATH = "/infer"
EVENTS_TYPE = events.MEDIA_TYPE
MEDIA_TYPES = {JSON_TYPE, *sound.MEDIA_TYPES, EVENTS_TYPE, values.MEDIA_TYPE, carried_frame.MEDIA_TYPE}
MAX_JSON_BYTES = 256 * 1024  # numbers take many times their length in memory, and block the interpreter
NOT_AS_JSON = (
    f"send spikes as {events.MEDIA_TYPE}, values as {values.MEDIA_TYPE}, sound as {PCM};encoding=pcm_s16le or as a "
    f"file, a carried session in {carried_frame.MEDIA_TYPE}; or cut the input into several chunks"
)
MOST_PARAMETERS = 32  # more than exist; tens of thousands would block the event loop for 0.1 s
_PAIRS = re.compile(r"(?:^|&)(?!&|\Z)([^=&]*)=?([^&]*)")
JSON_REPLY, FRAME_REPLY = (b"content-type: %b\r\n" % kind.encode() for kind in (JSON_TYPE, carried_frame.MEDIA_TYPE))


class InferPlan:
    """The ``Plan`` of a request for ``/infer``."""

    request = f"POST {PATH}"
    transport: Transport = "http"

    def __init__(self, head: Head, limits: Limits) -> None:
        fields = head.fields
        if b"content-encoding" in fields:
            check_not_compressed(fields[b"content-encoding"])
        self._content_type = content_type = fields.get(b"content-type", b"").decode("latin-1")
        self._media_type = media_type = parse_content_type(content_type)[0]
        if media_type not in MEDIA_TYPES:
            raise unsupported(content_type)
        self._query = query = parse_query(head.query)
        self.max_bytes, self.advice = limits.max_body_bytes, SHORTER
        if media_type == JSON_TYPE:
            if query:
                raise InputError(f"query parameter {query[0][0][:64]!r}: with a JSON body, put it into the body")
            self.max_bytes, self.advice = min(MAX_JSON_BYTES, limits.max_body_bytes), NOT_AS_JSON

    def encoded(self, body: bytes, upload: Upload | None) -> Encoded:
        size, packed = len(body), None
        if self._media_type == JSON_TYPE:
            return Encoded(size, partial(decode_json, body), upload)
        if self._media_type == EVENTS_TYPE and 0 < size <= SMALL_BYTES:
            packed = PackedEvents(body, partial(request_of_events, self._query))
        return Encoded(size, partial(decode_raw, self._content_type, self._query, body), upload, packed)

    def reply(self, answer: Answer) -> tuple[bytes, bytes]:
        if self._media_type == carried_frame.MEDIA_TYPE:
            return FRAME_REPLY, answer.frame()
        return JSON_REPLY, answer.json()

    def failed(self) -> None:
        """Do nothing: all refusals are counted elsewhere."""


def parse_query(text: bytes) -> list[tuple[str, str]]:
    """Parse the query of a URL.

    Raises:
        InputError: it has too many parameters.
    """
    if text.count(b"&") >= MOST_PARAMETERS:
        raise InputError(f"the query has more than {MOST_PARAMETERS} parameters: send each once")
    if b"%" in text or b"+" in text:
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    return _PAIRS.findall(text.decode("latin-1"))  # ten times as fast as ``parse_qsl``, with the same result
