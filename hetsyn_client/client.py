"""A client of the server. It numbers a session's chunks, and repeats a chunk when the connection breaks, when a proxy
lost the server, or when the server says "later".

    with StreamingClient("http://127.0.0.1:8000") as client, client.session(model="speech-digits") as session:
        session.send(first_samples, 8000)
        reply = session.send(last_samples, 8000, end=True)

A numbered chunk can be repeated: a server that has applied it sends the stored reply. A chunk of a carried session can
be repeated because the server keeps nothing of it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import HetsynError, InputError, ServiceProblem, ServiceUnreachable
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import pack_events
from hetsyn_client.frames import MEDIA_TYPE as CARRIED_TYPE
from hetsyn_client.frames import pack_frame, unpack_frame
from hetsyn_client.wav import Pcm, read_wav

Reply = dict[str, Any]

_PROXY_LOST_THE_SERVER = (502, 504)
LONGEST_PAUSE_S = 30.0


class ChunkOptions(TypedDict, total=False):
    """What may go with a chunk beside its input; an option that is left out or None is not sent.

    Attributes:
        session: id of the session; the server makes one up for a chunk without.
        seq: number of the chunk in its session, from 0. A numbered chunk is repeated when it is not answered.
        end: the session ends with this chunk.
        model: by default the server's default model. Fixed by a session's first chunk, as are version and form.
        version: by default the newest.
        form: ``exact`` or ``bank``; by default the model's default form.
        carry: the server keeps nothing of the session; the reply has all of it, as ``token``.
        token: the token of the reply to the chunk before. Any server with the same keys takes it.
    """

    session: str | None
    seq: int | None
    end: bool
    model: str | None
    version: str | None
    form: str | None
    carry: bool
    token: bytes | None


class StreamingClient:
    """Connections to one server. Close it, or use it as a context manager.

    Args:
        url: as ``http://127.0.0.1:8000``.
        timeout_s: for one request.
        repeats: how often a numbered chunk is sent again when the connection breaks, when a proxy lost the server (502,
            504), or on 503 with Retry-After of up to half a minute: a full server may name ten.
        transport: replaces the network in tests.
        sleep: waits between two tries, in seconds; tests replace it.
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

    def session(
        self, *, model: str | None = None, version: str | None = None, form: str | None = None, carry: bool = False
    ) -> Session:
        """A new session, which the server opens with its first chunk. Its options are those of ``ChunkOptions``."""
        return Session(self, model=model, version=version, form=form, carry=carry)

    def infer_chunk(self, samples: NDArray[np.int16], sample_rate_hz: int, **options: Unpack[ChunkOptions]) -> Reply:
        """Send 16-bit samples [n], one channel.

        Raises:
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        return self._infer(*_sound(samples, sample_rate_hz), **options)

    def infer_events(
        self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64], **options: Unpack[ChunkOptions]
    ) -> Reply:
        """Send the spikes of ``steps`` network steps.

        Args:
            steps: length of the chunk.
            times: [spikes], the step of each spike, from 0.
            units: [spikes], its channel.
            options: see ``ChunkOptions``.

        Raises:
            InputError: a time or a channel that cannot be sent.
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        return self._infer(pack_events(steps, times, units), EVENTS_TYPE, **options)

    def stream_wav(
        self,
        path: str | Path,
        chunk_s: float = 0.1,
        *,
        model: str | None = None,
        form: str | None = None,
        before_chunk: Callable[[float], None] | None = None,
        carry: bool = False,
    ) -> Iterator[Reply]:
        """The replies to a recording's chunks; the last chunk ends the session.

        Args:
            path: WAV file of 16-bit PCM.
            chunk_s: length of a chunk.
            model: as in ``ChunkOptions``.
            form: as in ``ChunkOptions``.
            before_chunk: called before a chunk is sent with the time in the recording, in seconds, at which the chunk
                ends. It may wait until a microphone would have recorded so much.
            carry: as in ``ChunkOptions``.

        Raises:
            InputError: not a WAV file of 16-bit PCM.
            ServiceProblem: the server refused a chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        pcm, rate_hz = _mono(read_wav(Path(path).read_bytes()))
        length = max(1, round(chunk_s * rate_hz))
        session = self.session(model=model, form=form, carry=carry)
        begins = range(0, max(1, len(pcm)), length)
        for begin in begins:
            piece = pcm[begin : begin + length]
            if before_chunk is not None:
                before_chunk((begin + len(piece)) / rate_hz)
            yield session.send(piece, rate_hz, end=begin == begins[-1])

    def drop(self, session: str) -> None:
        """Delete a session on the server.

        Raises:
            ServiceProblem: the server refused; 404 where it has no such session.
            ServiceUnreachable: the server cannot be reached.
        """
        try:
            response = self._http.delete(f"/sessions/{quote(session, safe='')}")
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _problem(response)

    def _infer(
        self,
        content: bytes,
        content_type: str,
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
        """``POST /infer`` with a raw body, or with a frame where the session is carried."""
        named = {"session": session, "seq": seq, "end": end, "model": model, "version": version, "form": form}
        query = {name: value for name, value in named.items() if value is not None}
        is_carried = carry or token is not None
        if is_carried:
            content, content_type = pack_frame(token or b"", content_type, content), CARRIED_TYPE
        # a carried chunk may be sent again though it has no number: the same token and chunk have the same answer
        is_repeatable = is_carried or (session is not None and seq is not None)
        response = self._post(query, content, content_type, 1 + (self._repeats if is_repeatable else 0))
        if not response.is_success:
            raise _problem(response)
        if is_carried:
            frame = unpack_frame(response.content)
            carried: Reply = json.loads(frame.body)
            return carried | {"token": frame.token or None}
        reply: Reply = response.json()
        return reply

    def _post(self, query: dict[str, Any], content: bytes, content_type: str, tries: int) -> httpx.Response:
        """The response to the last try.

        Raises:
            ServiceUnreachable: the last try had no response.
        """
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
                    if later_s > LONGEST_PAUSE_S:
                        break
                    pause_s = later_s
            except httpx.TransportError as error:
                if is_last:
                    raise self._unreachable(error) from error
            self._sleep(pause_s)
        return response

    def _unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        return ServiceUnreachable(f"{self._url}: {error}: is 'hetsyn serve' running there?")


class Session:
    """One session on a server. It numbers its chunks, so that each counts once however often it is sent.

    ``StreamingClient.session`` makes one. Left as a context manager before its end, it is deleted on the server.
    A chunk that raised keeps its number: send the same chunk again.

    Args:
        client: the connection.
        model: as in ``ChunkOptions``.
        version: as in ``ChunkOptions``.
        form: as in ``ChunkOptions``.
        carry: as in ``ChunkOptions``.

    Attributes:
        id: on the server.
        seq: number of the next chunk.
    """

    def __init__(
        self, client: StreamingClient, *, model: str | None, version: str | None, form: str | None, carry: bool
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.seq = 0
        self._client = client
        self._options: ChunkOptions = {"model": model, "version": version, "form": form, "carry": carry}
        self._token: bytes | None = None
        self._empty: tuple[bytes, str] | None = None  # an input without content, of the kind that the session takes
        self._has_ended = False

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.seq and not self._has_ended and not self._options["carry"]:
            with suppress(HetsynError):  # the server deletes an idle session by itself
                self._client.drop(self.id)

    def send(self, samples: NDArray[np.int16], sample_rate_hz: int, *, end: bool = False) -> Reply:
        """Send 16-bit samples [n], one channel. The sample rate is the same for all chunks.

        Raises:
            InputError: samples that are not whole numbers.
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        if np.asarray(samples).dtype.kind == "f":
            raise InputError("the samples are floats: scale them to 16-bit integers, at most 32767")
        reply = self._infer(*_sound(samples, sample_rate_hz), end=end)
        self._empty = _sound(np.empty(0, np.int16), sample_rate_hz)
        return reply

    def send_events(
        self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64], *, end: bool = False
    ) -> Reply:
        """Send the spikes of ``steps`` network steps.

        Args:
            steps: length of the chunk.
            times: [spikes], the step of each spike, from 0.
            units: [spikes], its channel.
            end: the chunk ends the session.

        Raises:
            InputError: a time or a channel that cannot be sent.
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        reply = self._infer(pack_events(steps, times, units), EVENTS_TYPE, end=end)
        self._empty = pack_events(0, [], []), EVENTS_TYPE
        return reply

    def end(self) -> Reply:
        """End the session without further input, for the final reply.

        Raises:
            InputError: no chunk was sent.
            ServiceProblem: the server refused.
            ServiceUnreachable: the server cannot be reached.
        """
        if self._empty is None:
            raise InputError("the session has no chunk yet: send one before you end it")
        return self._infer(*self._empty, end=True)

    def _infer(self, content: bytes, content_type: str, *, end: bool) -> Reply:
        options: ChunkOptions = {**self._options, "session": self.id, "seq": self.seq, "end": end, "token": self._token}
        reply = self._client._infer(content, content_type, **options)
        self._token = reply.get("token")
        self.seq += 1
        self._has_ended = end
        return reply


def _sound(samples: NDArray[np.int16], sample_rate_hz: int) -> tuple[bytes, str]:
    """A body in network byte order (RFC 2586), and its content type."""
    return np.asarray(samples).astype(">i2").tobytes(), f"audio/L16;rate={sample_rate_hz}"


def _is_repeatable(response: httpx.Response) -> bool:
    """Whether to send a numbered chunk again: the server says "later", or a proxy lost the server."""
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
    """Samples [n] of one channel, or of the mean of two, and their rate in Hz.

    Raises:
        InputError: not a whole number of samples of every channel.
    """
    if len(sound.content) % (2 * sound.channels):
        raise InputError(f"{len(sound.content)} bytes are not a whole number of samples: send the whole file")
    samples = np.frombuffer(sound.content, "<i2")
    if sound.channels > 1:
        samples = np.round(samples.reshape(-1, sound.channels).mean(axis=1)).astype(np.int16)
    return samples, sound.rate_hz
