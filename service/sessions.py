"""Sessions in memory: the asyncio shell around the protocol and the engine.

A chunk runs in a task of its own, shielded from its caller: when the caller goes away the chunk is still
applied as a whole, and the retry by number gets the stored reply. Nothing of a session changes but in
``_Session.commit``, after the engine has done the chunk.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from service.artifact import FormName
from service.batch_policy import BatchPolicy
from service.batcher import Batcher
from service.engine import Engine, Outcome, Work
from service.errors import ModelMismatch, NotFound, Overloaded, SessionEnded, SessionGone
from service.models import Model, ModelCatalog
from service.payloads import Envelope, InferRequest, Reply
from service.protocol import Progress, Replay, admit, applied, opening
from service.settings import Settings
from service.stream import StreamState, initial_stream

Clock = Callable[[], float]

BUSY_RETRY_S = 1.0


@dataclass(frozen=True)
class _Open:
    """What a session is once its first chunk was applied. stream: None once it has ended."""

    model: Model
    form: FormName
    progress: Progress[Reply]
    stream: StreamState | None

    def check_model(self, asked: Envelope) -> None:
        """
        Raises:
            ModelMismatch: the request names another model, version or form than the session's.
        """
        for what, have, want in (
            ("model", self.model.name, asked.model),
            ("version", self.model.version, asked.version),
            ("form", self.form, asked.form),
        ):
            if want is not None and want != have:
                raise ModelMismatch(f"the session runs on {what} {have!r}, not {want!r}: name that one, or none")


class _Session:
    """A place for a session. ``users`` requests hold it; it is vacant until a first chunk is applied."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.lock = asyncio.Lock()  # first come, first served
        self.users = 0
        self.last_used_s = 0.0
        self.open: _Open | None = None

    @property
    def ended(self) -> bool:
        return self.open is not None and self.open.progress.ended


class SessionRegistry:
    """All sessions of a server. Used from one event loop."""

    def __init__(self, settings: Settings, catalog: ModelCatalog, clock: Clock = time.monotonic) -> None:
        self._settings = settings
        self._catalog = catalog
        self._clock = clock
        self._engine = Engine(settings.max_chunk_steps, settings.segment_steps)
        policy = BatchPolicy(settings.max_batch, settings.max_batch_steps, settings.max_batch_wait_s)
        self._batcher = Batcher(self._engine, policy, settings.engine_threads, settings.engine_inline_s)
        self._sessions: dict[str, _Session] = {}
        self._ended: OrderedDict[str, float] = OrderedDict()  # id to time, oldest first
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._running: set[asyncio.Task[Reply]] = set()
        self._in_flight = 0

    @contextmanager
    def admission(self) -> Iterator[None]:
        """A place among the requests in flight: take one before the body is read, and answer within it.

        Raises:
            Overloaded: all places are taken.
        """
        if self._in_flight >= self._settings.max_waiting:
            raise Overloaded(
                f"{self._in_flight} requests are waiting: send the chunk again in {BUSY_RETRY_S:g} s", BUSY_RETRY_S
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def infer(self, request: InferRequest) -> Reply:
        """Apply a chunk, in order of arrival within its session, and answer it. To be called within ``admission``.

        Raises:
            HetsynError: any but ArtifactError leaves the client something to do; the session is as it was.
        """
        task = asyncio.create_task(self._infer(request))
        self._running.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                # the caller gives its place back, but the chunk is still computed
                self._in_flight += 1
                task.add_done_callback(self._abandoned_finished)
            raise

    async def delete(self, session_id: str) -> None:
        """Drop a session, after the chunks that came before.

        Raises:
            NotFound: there is none. SessionGone: it was dropped for lying idle.
        """
        session = self._find(session_id)
        session.users += 1
        try:
            async with session.lock:
                if session.open is None:
                    raise self._unknown(session_id)
                session.open = None
                self._ended.pop(session_id, None)
        finally:
            self._leave(session)

    def describe(self, session_id: str) -> dict[str, Any]:
        """A session as JSON can say it.

        Raises:
            NotFound, SessionGone: as for ``delete``.
        """
        session = self._find(session_id)
        if session.open is None:
            raise self._unknown(session_id)
        progress, stream = session.open.progress, session.open.stream
        return {
            "session": session.id,
            "model": session.open.model.name,
            "version": session.open.model.version,
            "form": session.open.form,
            "expected_seq": progress.expected_seq,
            "total_steps": progress.total_steps,
            "ended": progress.ended,
            "kind": stream.kind if stream else None,
            "state_bytes": stream.bytes if stream else 0,
            "label": progress.last.reply.label if progress.last else None,
            "idle_s": 0.0 if session.users else self._clock() - session.last_used_s,
        }

    def sweep(self, now_s: float) -> None:
        """Drop what has lain idle, and forget what was kept long enough."""
        for session_id in list(self._sessions):
            self._expire(session_id, now_s)
        _forget(self._gone, self._settings.max_remembered, now_s - self._settings.gone_keep_s)

    async def sweep_forever(self) -> None:
        """``sweep`` at intervals, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweep_interval_s)
            self.sweep(self._clock())

    async def close(self) -> None:
        """Finish what is running, and end the threads."""
        if self._running:
            await asyncio.wait(self._running)
        await self._batcher.close()

    async def _infer(self, request: InferRequest) -> Reply:
        session = self._enter(request.envelope.session or secrets.token_urlsafe(16))
        try:
            async with session.lock:
                return await self._answer(session, request)
        finally:
            self._leave(session)

    async def _answer(self, session: _Session, request: InferRequest) -> Reply:
        asked = request.envelope
        current = session.open
        if current is None:
            current = self._opened(session.id, asked)
        else:
            current.check_model(asked)
        decision = admit(current.progress, asked.seq, request.digest)
        if isinstance(decision, Replay):
            return decision.reply
        if current.stream is None:
            raise SessionEnded("the session has ended")  # admit has refused this before; states it for the types
        steps = self._engine.check(current.model, current.stream, request.chunk)
        work = Work(current.stream, request.chunk, asked.end)
        outcome = await self._batcher.run(current.model, current.form, work, steps)
        reply = _reply(session.id, current, decision.seq, asked.end, outcome)
        progress = applied(
            current.progress,
            seq=decision.seq,
            digest=request.digest,
            steps=outcome.result.steps,
            end=asked.end,
            reply=reply,
        )
        self._commit(session, _Open(current.model, current.form, progress, None if asked.end else outcome.stream))
        return reply

    def _opened(self, session_id: str, asked: Envelope) -> _Open:
        progress: Progress[Reply] = opening(session_id, asked.seq)
        model = self._catalog.get(asked.model, asked.version)
        form = model.choose_form(asked.form)
        return _Open(model, form, progress, initial_stream(model, form))

    def _commit(self, session: _Session, after: _Open) -> None:
        session.open = after
        if after.progress.ended:
            self._ended[session.id] = self._clock()
            for forgotten in _forget(self._ended, self._settings.max_remembered, float("-inf")):
                self._sessions.pop(forgotten, None)

    def _enter(self, session_id: str) -> _Session:
        """The place of a session, made if there is none; the caller holds it until ``_leave``."""
        self._expire(session_id, self._clock())
        session = self._sessions.get(session_id)
        if session is None:
            if session_id in self._gone:
                raise self._was_dropped(session_id)
            if len(self._sessions) - len(self._ended) >= self._settings.max_sessions:
                self.sweep(self._clock())
            if len(self._sessions) - len(self._ended) >= self._settings.max_sessions:
                raise Overloaded(
                    f"{self._settings.max_sessions} sessions are open: end some, or try again later",
                    self._settings.sweep_interval_s,
                )
            session = self._sessions[session_id] = _Session(session_id)
        session.users += 1
        return session

    def _leave(self, session: _Session) -> None:
        session.users -= 1
        session.last_used_s = self._clock()
        if session.open is None and not session.users and self._sessions.get(session.id) is session:
            del self._sessions[session.id]

    def _find(self, session_id: str) -> _Session:
        self._expire(session_id, self._clock())
        session = self._sessions.get(session_id)
        if session is None:
            raise self._was_dropped(session_id) if session_id in self._gone else self._unknown(session_id)
        return session

    def _expire(self, session_id: str, now_s: float) -> None:
        """Drop the session if its time is over, whether or not a sweep has come by."""
        session = self._sessions.get(session_id)
        if session is None or session.users:
            return
        if session.ended:
            if now_s - self._ended[session_id] >= self._settings.ended_keep_s:
                del self._sessions[session_id], self._ended[session_id]
        elif now_s - session.last_used_s >= self._settings.session_idle_s:
            del self._sessions[session_id]
            self._gone[session_id] = now_s
            _forget(self._gone, self._settings.max_remembered, now_s - self._settings.gone_keep_s)

    def _finished(self, task: asyncio.Task[Reply]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; asyncio logs exceptions that nobody has asked for

    def _abandoned_finished(self, _: asyncio.Task[Reply]) -> None:
        self._in_flight -= 1

    def _was_dropped(self, session_id: str) -> SessionGone:
        idle_s = self._settings.session_idle_s
        return SessionGone(f"session {session_id!r} was dropped after {idle_s:g} s idle: begin another, under a new id")

    @staticmethod
    def _unknown(session_id: str) -> NotFound:
        return NotFound(f"no session {session_id!r}: it has not begun, was deleted, or ended a while ago")


def _reply(session_id: str, current: _Open, seq: int, end: bool, outcome: Outcome) -> Reply:
    manifest, result = current.model.manifest, outcome.result
    is_trace = manifest.decision.rule == "trace"
    likeliest = int(result.probabilities.argmax())
    return Reply(
        session=session_id,
        model=manifest.name,
        version=manifest.version,
        form=current.form,
        seq=seq,
        steps=result.steps,
        total_steps=current.progress.total_steps + result.steps,
        label=manifest.labels[likeliest] if result.counted and not is_trace else None,
        labels=manifest.labels,
        probabilities=None if is_trace else tuple(result.probabilities.tolist()),
        end=end,
        readout=None if result.readout is None else tuple(map(tuple, result.readout.tolist())),
    )


def _forget(remembered: OrderedDict[str, float], at_most: int, before_s: float) -> list[str]:
    """Remove the oldest while there are too many, and those from before a time; what was removed."""
    removed = []
    while remembered and (len(remembered) > at_most or next(iter(remembered.values())) <= before_s):
        removed.append(remembered.popitem(last=False)[0])
    return removed
