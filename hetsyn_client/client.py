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

from hetsyn_client.bodies import Body, Matrix, events_body, sound_body, values_body
from hetsyn_client.errors import HetsynError, InputError, NotFound
from hetsyn_client.files import SUFFIXES, FileChunk, recording_chunks, step_chunks
from hetsyn_client.frames import MEDIA_TYPE as CARRIED_TYPE
from hetsyn_client.frames import pack_frame, unpack_frame
from hetsyn_client.transport import Transport

Reply = dict[str, Any]


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
        spikes: the reply has the chunk's spikes, of the input and of the hidden layers.
        timing: the reply has the time that the server took, by part.
    """

    session: str | None
    seq: int | None
    end: bool
    model: str | None
    version: str | None
    form: str | None
    carry: bool
    token: bytes | None
    spikes: bool
    timing: bool


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
        self._transport = Transport(url, timeout_s, repeats, transport, sleep)

    def __enter__(self) -> StreamingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

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
        return self._infer(sound_body(samples, sample_rate_hz), **options)

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
        return self._infer(events_body(steps, times, units), **options)

    def infer_values(self, values: Matrix, **options: Unpack[ChunkOptions]) -> Reply:
        """Send rows of values, an array or lists [steps, channels].

        Raises:
            InputError: other than such a matrix of finite numbers.
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        return self._infer(values_body(values), **options)

    def describe(self, model: str | None = None) -> dict[str, Any]:
        """A model as ``GET /models/{name}`` describes it: among others ``inputs``, the kinds of input that it takes.

        Args:
            model: by default the server's default model.

        Raises:
            NotFound: the server has no default model.
            ServiceProblem: the server refused; 404 where it has no such model.
            ServiceUnreachable: the server cannot be reached.
        """
        if model is None:
            listed = self._transport.request("GET", "/models").json()
            model = listed["default_model"]
            if model is None:
                names = ", ".join(entry["name"] for entry in listed["models"])
                raise NotFound(f"the server has no default model: name one of {names}")
        described: dict[str, Any] = self._transport.request("GET", f"/models/{quote(model, safe='')}").json()
        return described

    def stream_file(
        self,
        path: str | Path,
        chunk_s: float = 0.1,
        *,
        model: str | None = None,
        form: str | None = None,
        before_chunk: Callable[[float], None] | None = None,
        carry: bool = False,
    ) -> Iterator[Reply]:
        """As ``stream_wav``, for a file of spikes or values too (``hetsyn_client.files``).

        Raises:
            InputError: the file cannot be used, or has values and the model takes spikes.
            NotFound: no model was named, and the server has no default model.
            ServiceProblem: the server refused a chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        if Path(path).suffix.lower() not in SUFFIXES:
            chunks = recording_chunks(Path(path), chunk_s)
        else:
            described = self.describe(model)
            model, takes_values = described["name"], "values" in described["inputs"]
            chunks = step_chunks(Path(path), chunk_s, described["input"]["step_s"], takes_values=takes_values)
        return self._stream(chunks, self.session(model=model, form=form, carry=carry), before_chunk)

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
            path: of a sound file.
            chunk_s: length of a chunk.
            model: as in ``ChunkOptions``.
            form: as in ``ChunkOptions``.
            before_chunk: called before a chunk is sent with the time in the recording, in seconds, at which the chunk
                ends. It may wait until a microphone would have recorded so much.
            carry: as in ``ChunkOptions``.

        Raises:
            InputError: not a sound file.
            ServiceProblem: the server refused a chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        session = self.session(model=model, form=form, carry=carry)
        return self._stream(recording_chunks(Path(path), chunk_s), session, before_chunk)

    def drop(self, session: str) -> None:
        """Delete a session on the server.

        Raises:
            ServiceProblem: the server refused; 404 where it has no such session.
            ServiceUnreachable: the server cannot be reached.
        """
        self._transport.request("DELETE", f"/sessions/{quote(session, safe='')}")

    def _stream(
        self, chunks: Iterator[FileChunk], session: Session, before_chunk: Callable[[float], None] | None
    ) -> Iterator[Reply]:
        for body, until_s, is_last in chunks:
            if before_chunk is not None:
                before_chunk(until_s)
            yield session._infer(body, end=is_last)

    def _infer(
        self,
        body: Body,
        *,
        session: str | None = None,
        seq: int | None = None,
        end: bool = False,
        model: str | None = None,
        version: str | None = None,
        form: str | None = None,
        carry: bool = False,
        token: bytes | None = None,
        spikes: bool = False,
        timing: bool = False,
    ) -> Reply:
        """``POST /infer`` with a raw body, or with a frame where the session is carried."""
        named = {"session": session, "seq": seq, "end": end, "model": model, "version": version, "form": form}
        query = {name: value for name, value in named.items() if value is not None}
        query |= {name: True for name, is_asked in (("spikes", spikes), ("timing", timing)) if is_asked}
        is_carried = carry or token is not None
        if is_carried:
            body = Body(pack_frame(token or b"", body.content_type, body.content), CARRIED_TYPE)
        # a carried chunk may be sent again though it has no number: the same token and chunk have the same answer
        is_repeatable = is_carried or (session is not None and seq is not None)
        response = self._transport.post_chunk(query, body, is_repeatable=is_repeatable)
        if is_carried:
            frame = unpack_frame(response.content)
            carried: Reply = json.loads(frame.body)
            return carried | {"token": frame.token or None}
        reply: Reply = response.json()
        return reply


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
        self._empty: Body | None = None  # an input without content, of the kind that the session takes
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
        return self._infer(sound_body(samples, sample_rate_hz), end=end)

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
        return self._infer(events_body(steps, times, units), end=end)

    def send_values(self, values: Matrix, *, end: bool = False) -> Reply:
        """Send rows of values, an array or lists [steps, channels].

        Raises:
            InputError: other than such a matrix of finite numbers.
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        return self._infer(values_body(values), end=end)

    def end(self) -> Reply:
        """End the session without further input, for the final reply.

        Raises:
            InputError: no chunk was sent.
            ServiceProblem: the server refused.
            ServiceUnreachable: the server cannot be reached.
        """
        if self._empty is None:
            raise InputError("the session has no chunk yet: send one before you end it")
        return self._infer(self._empty, end=True)

    def _infer(self, body: Body, *, end: bool) -> Reply:
        options: ChunkOptions = {**self._options, "session": self.id, "seq": self.seq, "end": end, "token": self._token}
        reply = self._client._infer(body, **options)
        self._token, self._empty = reply.get("token"), body.emptied
        self.seq += 1
        self._has_ended = end
        return reply
