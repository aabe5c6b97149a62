"""A client of the server: streams a recording in numbered chunks, and repeats one when the connection breaks, before or
behind a proxy, or the server says "later".

A repeated chunk is safe because it has a number: the server gives the stored reply if it was applied. One of a carried
session is safe because the server keeps nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError, ServiceProblem, ServiceUnreachable
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import pack_events
from hetsyn_client.frames import MEDIA_TYPE as CARRIED_TYPE
from hetsyn_client.frames import pack_frame, unpack_frame
from hetsyn_client.wav import Pcm, read_wav

Reply = dict[str, Any]

_PROXY_LOST_THE_SERVER = (502, 504)


class StreamingClient:
    """Connections to one server. Close it, or use it as a context manager.

    Args:
        url: as ``http://127.0.0.1:8000``.
        timeout_s: for one request.
        repeats: how often a numbered chunk is sent again when the connection breaks, a proxy lost the server (502,
            504), or on 503 with Retry-After.
        transport: in place of the network, for tests.
        sleep: between two tries, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        repeats: int = 3,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._repeats = repeats
        self._sleep = sleep
        self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport)

    def __enter__(self) -> StreamingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def infer_chunk(
        self,
        samples: NDArray[np.int16],
        sample_rate_hz: int,
        *,
        session: str | None = None,
        seq: int | None = None,
        end: bool = False,
        model: str | None = None,
        version: str | None = None,
        form: str | None = None,
        carry: bool = False,
        token: bytes | None = None,
    ) -> Reply:
        """Send 16-bit samples [n], one channel.

        Args:
            carry: the server keeps nothing of the session: the reply has it, as ``token``.
            token: the one of the reply to the chunk before; any server with the same keys takes it.

        Raises:
            ServiceProblem: the server refused it. ServiceUnreachable: it cannot be reached.
        """
        content = np.asarray(samples).astype(">i2").tobytes()
        named = {"session": session, "seq": seq, "end": end, "model": model, "version": version, "form": form}
        return self._send(content, f"audio/L16;rate={sample_rate_hz}", named, token, carry=carry)

    def infer_events(
        self,
        steps: int,
        times: NDArray[np.int64],
        units: NDArray[np.int64],
        *,
        session: str | None = None,
        seq: int | None = None,
        end: bool = False,
        model: str | None = None,
        version: str | None = None,
        form: str | None = None,
        carry: bool = False,
        token: bytes | None = None,
    ) -> Reply:
        """Send spikes: the i-th in step times[i] of ``steps``, on channel units[i]. The rest as ``infer_chunk``."""
        named = {"session": session, "seq": seq, "end": end, "model": model, "version": version, "form": form}
        return self._send(pack_events(steps, times, units), EVENTS_TYPE, named, token, carry=carry)

    def stream_wav(
        self,
        path: Path,
        chunk_s: float = 0.1,
        *,
        model: str | None = None,
        form: str | None = None,
        before_chunk: Callable[[float], None] | None = None,
        carry: bool = False,
    ) -> Iterator[Reply]:
        """The replies to a recording's chunks, the last with ``end``.

        Args:
            carry: the session goes with the chunks, and the server keeps nothing of it.
            before_chunk: called with the chunk's end in the recording, in seconds, before it is sent; it may
                wait until a microphone would have heard so much.

        Raises:
            InputError: no WAV file of 16-bit PCM. ServiceProblem, ServiceUnreachable: as ``infer_chunk``.
        """
        pcm, rate_hz = _mono(read_wav(path.read_bytes()))
        length = max(1, round(chunk_s * rate_hz))
        session, token = secrets.token_urlsafe(16), None
        begins = range(0, max(1, len(pcm)), length)
        for seq, begin in enumerate(begins):
            piece = pcm[begin : begin + length]
            if before_chunk is not None:
                before_chunk((begin + len(piece)) / rate_hz)
            end = seq == len(begins) - 1
            reply = self.infer_chunk(
                piece, rate_hz, session=session, seq=seq, end=end, model=model, form=form, carry=carry, token=token
            )
            token = reply.get("token")
            yield reply

    def _send(
        self, content: bytes, content_type: str, named: dict[str, Any], token: bytes | None, *, carry: bool
    ) -> Reply:
        query = {name: value for name, value in named.items() if value is not None}
        is_carried = carry or token is not None
        if is_carried:
            content, content_type = pack_frame(token or b"", content_type, content), CARRIED_TYPE
        # a carried chunk may be sent again though it has no number: the same token and chunk have the same answer
        is_repeatable = is_carried or ("session" in query and "seq" in query)
        tries = 1 + (self._repeats if is_repeatable else 0)
        for attempt in range(tries):
            is_last = attempt == tries - 1
            pause_s = 0.1 * 2**attempt
            try:
                response = self._http.post(
                    "/infer", params=query, content=content, headers={"Content-Type": content_type}
                )
                if is_last or not _is_repeatable(response):
                    break
                later_s = _retry_after_s(response)
                if later_s is not None:
                    pause_s = later_s
            except httpx.TransportError as error:
                if is_last:
                    raise ServiceUnreachable(f"{self._url}: {error}: is 'hetsyn serve' running there?") from error
            self._sleep(pause_s)
        if response.is_success and is_carried:
            frame = unpack_frame(response.content)
            carried: Reply = json.loads(frame.body)
            return carried | {"token": frame.token or None}
        if response.is_success:
            reply: Reply = response.json()
            return reply
        raise _problem(response)


def _is_repeatable(response: httpx.Response) -> bool:
    """Whether to send a numbered chunk again: the server says "later", or a proxy says that its connection broke."""
    if response.status_code == 503:
        return _retry_after_s(response) is not None
    return response.status_code in _PROXY_LOST_THE_SERVER


def _retry_after_s(response: httpx.Response) -> float | None:
    retry_after = response.headers.get("Retry-After", "")
    return float(retry_after) if retry_after.isdecimal() else None


def _problem(response: httpx.Response) -> ServiceProblem:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    detail = str(body.get("detail") or response.reason_phrase)
    return ServiceProblem(response.status_code, detail, body.get("expected_seq"), _retry_after_s(response))


def _mono(sound: Pcm) -> tuple[NDArray[np.int16], int]:
    """Samples [n] of one channel, several averaged, and their rate in Hz.

    Raises:
        InputError: not a whole number of samples of every channel.
    """
    if len(sound.content) % (2 * sound.channels):
        raise InputError(f"{len(sound.content)} bytes are not a whole number of samples: send the whole file")
    samples = np.frombuffer(sound.content, "<i2")
    if sound.channels > 1:
        samples = np.round(samples.reshape(-1, sound.channels).mean(axis=1)).astype(np.int16)
    return samples, sound.rate_hz
