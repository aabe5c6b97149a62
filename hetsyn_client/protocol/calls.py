"""The calls of a client: decides when to send a chunk again, and when to give up. Pure.

A numbered chunk can be repeated: a server that has applied it sends the stored reply. A carried session's chunk can be
repeated because the server stores nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypedDict, Unpack, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.access import PATIENCE_S, REPEATS, ClientOptions
from hetsyn_client.carried_frame import MEDIA_TYPE as CARRIED_TYPE
from hetsyn_client.carried_frame import pack_frame, unpack_frame
from hetsyn_client.errors import NotFound, ServiceProblem, ServiceUnreachable
from hetsyn_client.protocol.patience import LONGEST_PAUSE_S, Patience
from hetsyn_client.protocol.steps import Broken, Now, Pause, R, Request, Response, Steps, retry_after_s, target
from hetsyn_client.results import Reply
from hetsyn_client.sources.bodies import Body, Matrix, events_body, sound_body, values_body
from hetsyn_client.sources.chunks import Chunk
from hetsyn_client.sources.files import SUFFIXES, recording_chunks, step_chunks

PASSING = (502, 503, 504)  # a proxy lost the server, or the server cannot take it now


class SessionOptions(TypedDict, total=False):
    """Options for all chunks of a session. None is not sent.

    Attributes:
        model: by default the server's default model. Fixed by a session's first chunk, as is the version.
        version: by default the newest.
        carry: the server stores nothing of the session; the reply has all of it, as ``token``.
        endpointing: the server finds the utterances in the session.
        spikes: each reply has the chunk's spikes, of the input and of the hidden layers.
        timing: each reply has the server's time by part.
    """

    model: str | None
    version: str | None
    carry: bool
    endpointing: bool | None
    spikes: bool
    timing: bool


class ChunkOptions(SessionOptions, total=False):
    """Options of a chunk: ``SessionOptions``, and these.

    Attributes:
        session: id of the session; by default the server makes one.
        seq: number of the chunk in its session, from 0. A numbered chunk is repeated if there is no answer.
        begin: the session begins with this chunk, even if its id is in use; for a chunk without ``seq``.
        end: the session ends with this chunk.
        token: the token of the reply to the chunk before. Any server with the same keys takes it.
    """

    session: str | None
    seq: int | None
    begin: bool
    end: bool
    token: bytes | None


def check_names(options: Mapping[str, object], names: Iterable[str]) -> None:
    """Check that there are no other options.

    Raises:
        TypeError: there is one, as for a function's arguments.
    """
    for name in options.keys() - set(names):
        raise TypeError(f"there is no option {name!r}: choose from {', '.join(sorted(names))}")


class Calls:
    """The calls of a client of one server.

    Args:
        url: the server's, for messages.
        repeats: how often a repeatable chunk is sent again; 0 for never.
        patience_s: least time of these tries after a session has begun.
    """

    def __init__(self, url: str, repeats: int, patience_s: float = 0.0) -> None:
        self._url = url
        self._repeats = repeats
        self._patience_s = patience_s

    @classmethod
    def of(cls, url: str, options: ClientOptions) -> Calls:
        """Make the calls of a client; TypeError for an unknown option."""
        check_names(options, ClientOptions.__optional_keys__)
        return cls(url.rstrip("/"), options.get("repeats", REPEATS), options.get("patience_s", PATIENCE_S))

    def request(self, method: str, path: str) -> Steps[Response]:
        """Send a request without a body.

        Raises:
            ServiceProblem: the server refused.
            ServiceUnreachable: the server cannot be reached.
        """
        try:
            response = yield Request(method, path)
        except Broken as error:
            raise unreachable(self._url, error) from error
        return checked(response)

    def post_chunk(
        self, query: dict[str, Any], body: Body, *, is_repeatable: bool, has_begun: bool = False
    ) -> Steps[Response]:
        """Send ``POST /infer``, and repeat it if that helps.

        Args:
            is_repeatable: the server counts the chunk once, however often it is sent.
            has_begun: the server has answered an earlier chunk of the session, so it should come back.

        Raises:
            ServiceProblem: the server refused.
            ServiceUnreachable: the last try had no response.
        """
        request = Request("POST", target("/infer", query), body.content, body.content_type)
        patience = Patience(self._repeats if is_repeatable else 0, self._patience_s)
        if has_begun:
            patience.answered()
        while True:
            later_s, waited_s = None, 0.0
            try:
                response: Response = yield request
                later_s = retry_after_s(response.headers)
                if not _is_repeatable(response, later_s) or patience.is_over((yield Now()), 0.0):
                    return checked(response)
            except Broken as error:
                waited_s = error.waited_s
                if patience.is_over((yield Now()), waited_s):
                    raise unreachable(self._url, error) from error
            yield Pause(patience.pause_s(later_s or 0.0, waited_s))

    def infer(self, body: Body, options: ChunkOptions, *, has_begun: bool = False) -> Steps[Reply]:
        """Send a chunk, in a frame if its session is carried, and return the reply; errors as ``post_chunk``."""
        check_names(options, ChunkOptions.__optional_keys__)
        options = options.copy()
        token = options.pop("token", None)
        is_carried = options.pop("carry", False) or token is not None
        query: dict[str, Any] = {"end": False, **options}
        for name, asked in (("endpointing", "on"), ("begin", True), ("spikes", True), ("timing", True)):
            if query.pop(name, False):
                query[name] = asked
        if is_carried:
            body = Body(pack_frame(token or b"", body.content_type, body.content), CARRIED_TYPE)
        # a carried chunk may be repeated without a number: the same token and chunk have the same answer
        is_numbered = query.get("session") is not None and query.get("seq") is not None
        response = yield from self.post_chunk(query, body, is_repeatable=is_carried or is_numbered, has_begun=has_begun)
        if is_carried:
            frame = unpack_frame(response.content)
            carried: Reply = cast(Reply, self.read(frame.body))
            carried["token"] = frame.token or None
            return carried
        return cast(Reply, self.read(response.content))

    def describe(self, model: str | None) -> Steps[dict[str, Any]]:
        """Describe a model, by default the default model, as ``GET /models/{name}`` does.

        Raises:
            NotFound: the server has no default model.
            ServiceProblem, ServiceUnreachable: as ``request``.
        """
        if model is None:
            listed = self.read((yield from self.request("GET", "/models")).content)
            if "default_model" not in listed:
                raise stranger(self._url)
            model = listed["default_model"]
            if model is None:
                names = ", ".join(entry["name"] for entry in listed["models"])
                raise NotFound(f"the server has no default model: name one of {names}")
        response = yield from self.request("GET", f"/models/{quote(model, safe='')}")
        return self.read(response.content)

    def file_chunks(self, path: Path, chunk_s: float, model: str | None) -> Steps[tuple[Iterator[Chunk], str | None]]:
        """Cut a file into chunks, and find the model: its step divides spikes and values.

        Raises:
            NotFound, ServiceProblem, ServiceUnreachable: as ``describe``.
        """
        if path.suffix.lower() not in SUFFIXES:
            return recording_chunks(path, chunk_s), model
        described = yield from self.describe(model)
        takes_values = "values" in described["inputs"]
        return step_chunks(path, chunk_s, described["input"]["step_s"], takes_values=takes_values), described["name"]

    def drop(self, session: str) -> Steps[None]:
        """Delete a session on the server; errors as ``request``."""
        yield from self.request("DELETE", f"/sessions/{quote(session, safe='')}")

    def expected_seq(self, session: str) -> Steps[int]:
        """Ask for the number of a session's next chunk, 0 if the server does not know it; errors as ``request``."""
        try:
            response = yield from self.request("GET", f"/sessions/{quote(session, safe='')}")
        except ServiceProblem as problem:
            if problem.status == 404:
                return 0
            raise
        return int(self.read(response.content)["expected_seq"])

    def read(self, content: bytes) -> dict[str, Any]:
        """Parse a JSON answer of the server.

        Raises:
            ServiceUnreachable: it does not come from a HetSyn server.
        """
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise stranger(self._url)
        return answer


class SteppedClient(Generic[R]):
    """Base of both clients: ``run`` carries out steps, and returns the reply or an awaitable."""

    def __init__(self, calls: Calls, run: Callable[[Steps[Reply]], R]) -> None:
        self._calls = calls
        self._infer = run

    def infer_chunk(self, samples: NDArray[np.int16], sample_rate_hz: int, **options: Unpack[ChunkOptions]) -> R:
        """Send 16-bit samples [n], one channel."""
        return self._infer(self._calls.infer(sound_body(samples, sample_rate_hz), options))

    def infer_events(
        self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64], **options: Unpack[ChunkOptions]
    ) -> R:
        """Send the spikes of ``steps`` network steps: steps ``times`` [spikes] and channels ``units`` [spikes]."""
        return self._infer(self._calls.infer(events_body(steps, times, units), options))

    def infer_values(self, values: Matrix, **options: Unpack[ChunkOptions]) -> R:
        """Send rows of finite values, an array or lists [steps, channels]."""
        return self._infer(self._calls.infer(values_body(values), options))


def unreachable(url: str, error: Broken) -> ServiceUnreachable:
    """Make the error of a server that cannot be reached."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ServiceUnreachable(
            f"{url}: its certificate is not trusted ({error}): name the file of its certificate authority with "
            "--ca-file, in Python with ca_file"
        )
    if url.startswith("http:") and "disconnected" in str(error):
        return ServiceUnreachable(f"{url}: {error}: if it has a certificate, write https://")
    return ServiceUnreachable(f"{url}: {error}: is 'hetsyn serve' running there?")


def stranger(url: str) -> ServiceUnreachable:
    """Make the error for answers that do not come from a HetSyn server."""
    return ServiceUnreachable(f"{url}: answers, but not as 'hetsyn serve' does: is this its address?")


def _is_repeatable(response: Response, later_s: float | None) -> bool:
    """Return whether to send a numbered chunk again: the server says "later", or a proxy lost the server."""
    if later_s is not None and later_s > LONGEST_PAUSE_S:
        return False
    return response.status in PASSING or (response.status == 429 and later_s is not None)


def checked(response: Response) -> Response:
    """Return the response, if it is a success.

    Raises:
        ServiceProblem: it is a refusal.
    """
    if 200 <= response.status < 300:
        return response
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    detail = str(body.get("detail") or response.reason)
    problem = str(body.get("type", "")).rpartition(":")[2] or None
    later_s = retry_after_s(response.headers)
    raise ServiceProblem(response.status, detail, body.get("expected_seq"), later_s, problem)
