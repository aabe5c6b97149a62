"""Numbers and repeats the chunks of one session. Pure: it yields ``steps``."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import HetsynError, InputError, ServiceProblem, SessionLost
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.protocol.calls import Calls, ChunkOptions, SessionOptions, check_names
from hetsyn_client.protocol.steps import R, Steps
from hetsyn_client.results import Reply
from hetsyn_client.sources.bodies import Body, Matrix, events_body, sound_body, values_body


class SessionSteps:
    """The steps of one session.

    Args:
        session: id of a session that may have begun; None for a new one.

    Attributes:
        id: the session's id on the server.
        seq: number of the next chunk; None if unknown.
    """

    def __init__(self, calls: Calls, session: str | None, options: SessionOptions) -> None:
        check_names(options, SessionOptions.__optional_keys__)
        if options.get("carry") and session is not None:
            raise InputError("a carried session is new: leave out session")
        self.id = session or secrets.token_urlsafe(16)
        self.seq = None if session else 0
        self._is_named = session is not None
        self._calls = calls
        self._options = options
        self._token: bytes | None = None
        self._empty: Body | None = None  # an empty input of the session's kind
        self._has_begun = False
        self._has_ended = False
        self._is_busy = False

    def send(self, body: Body, *, end: bool = False) -> Steps[Reply]:
        """Send a chunk. If this raises, the next call sends a chunk with the same number.

        Raises:
            InputError: another chunk is under way.
            ServiceProblem: the server refused the chunk. SessionLost: it no longer has the session.
            ServiceUnreachable: the server cannot be reached.
        """
        if self._is_busy:
            raise InputError("a chunk of this session is under way: wait for its reply before you send the next")
        self._is_busy = True
        try:
            if self.seq is None:
                self.seq = yield from self._calls.expected_seq(self.id)
                self._has_begun = self.seq > 0
            options: ChunkOptions = {
                **self._options, "session": self.id, "seq": self.seq, "begin": False, "end": end, "token": self._token,
            }  # fmt: skip
            reply = yield from self._calls.infer(body, options, has_begun=self._has_begun)
        except ServiceProblem as problem:
            if problem.status == 410 or (self._has_begun and problem.status == 404):
                raise SessionLost.of(problem) from problem
            raise
        finally:
            self._is_busy = False
        self._token, self._empty = reply.get("token"), body.emptied
        self._has_begun = True
        self.seq += 1
        self._has_ended = end
        return reply

    def end(self) -> Steps[Reply]:
        """End the session without further input; errors as ``send``, and InputError if a new one has no chunk."""
        if self._empty is None and not self._is_named:  # another program may have begun a named one
            raise InputError("the session has no chunk yet: send one before you end it")
        return (yield from self.send(self._empty or Body(b"", EVENTS_TYPE), end=True))

    def leave(self) -> Steps[None]:
        """Leave the session. If it has not ended, delete it on the server, unless the caller has named it."""
        if self._has_begun and not (self._has_ended or self._is_named or self._options.get("carry")):
            with suppress(HetsynError):  # the server deletes an idle session by itself
                yield from self._calls.drop(self.id)


class SteppedSession(Generic[R]):
    """Base of both sessions: ``run`` carries out steps, and returns the reply or an awaitable."""

    def __init__(self, steps: SessionSteps, run: Callable[[Steps[Reply]], R]) -> None:
        self._steps = steps
        self._run = run

    @property
    def id(self) -> str:
        """Return its id on the server."""
        return self._steps.id

    @property
    def seq(self) -> int | None:
        """Return the number of the next chunk; None before the first chunk of a session that you have named."""
        return self._steps.seq

    def send(self, samples: NDArray[np.int16], sample_rate_hz: int, *, end: bool = False) -> R:
        """Send 16-bit samples [n], one channel. The sample rate is the same for all chunks."""
        return self._send(sound_body(samples, sample_rate_hz), end)

    def send_events(self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64], *, end: bool = False) -> R:
        """Send the spikes of ``steps`` network steps: steps ``times`` [spikes] and channels ``units`` [spikes]."""
        return self._send(events_body(steps, times, units), end)

    def send_values(self, values: Matrix, *, end: bool = False) -> R:
        """Send rows of finite values, an array or lists [steps, channels]."""
        return self._send(values_body(values), end)

    def end(self) -> R:
        """End the session without further input, for the final reply; InputError if a new one has no chunk."""
        return self._run(self._steps.end())

    def _send(self, body: Body, end: bool) -> R:
        return self._run(self._steps.send(body, end=end))
