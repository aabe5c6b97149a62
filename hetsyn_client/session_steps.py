"""One session: its numbers and its repeats. Pure: ``steps`` says how."""

from __future__ import annotations

import secrets
from contextlib import suppress

from hetsyn_client.bodies import Body
from hetsyn_client.calls import Calls, ChunkOptions, SessionOptions, check_names
from hetsyn_client.errors import HetsynError, InputError, ServiceProblem, SessionLost
from hetsyn_client.results import Reply
from hetsyn_client.steps import Steps


class SessionSteps:
    """The steps of one session.

    Args:
        session: id of a session that may have begun; None for a new one.

    Attributes:
        id: on the server.
        seq: number of the next chunk; None while it is not known.
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
        self._empty: Body | None = None  # an input without content, of the kind that the session takes
        self._has_begun = False
        self._has_ended = False
        self._is_busy = False

    def send(self, body: Body, *, end: bool = False) -> Steps[Reply]:
        """Send a chunk; a chunk that raised keeps its number.

        Raises:
            InputError: another chunk is under way.
            ServiceProblem: the server refused the chunk; SessionLost, it has the session no more.
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
        """End the session without further input; errors as ``send``, and InputError if no chunk was sent."""
        if self._empty is None:
            raise InputError("the session has no chunk yet: send one before you end it")
        return (yield from self.send(self._empty, end=True))

    def leave(self) -> Steps[None]:
        """Leave the session. One that has not ended is deleted on the server, unless the caller has named it."""
        if self._has_begun and not (self._has_ended or self._is_named or self._options.get("carry")):
            with suppress(HetsynError):  # the server deletes an idle session by itself
                yield from self._calls.drop(self.id)


class SteppedSession:
    """What ``Session`` and ``AsyncSession`` have in common."""

    def __init__(self, steps: SessionSteps) -> None:
        self._steps = steps

    @property
    def id(self) -> str:
        """Its id on the server."""
        return self._steps.id

    @property
    def seq(self) -> int | None:
        """Number of the next chunk; None before the first chunk of a session that you have named."""
        return self._steps.seq
