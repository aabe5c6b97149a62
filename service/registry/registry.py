"""The sessions of a server: the asyncio shell around the protocol, the engine and the store.

A chunk runs in a task of its own, shielded from its caller: when the caller goes away the chunk is still
applied as a whole, and the retry by number gets the stored reply. Nothing of a session changes but in
``SessionRegistry._commit``, after the engine has done the chunk.

Without a store the places of ``places`` hold the sessions. With one they hold what this process remembers of the
store's records: ``protocol`` says what such a memory may decide, and time is judged by the times in the record, so
that every replica judges alike.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple, TypeVar, cast

from service.admission.permits import BUSY_RETRY_S, Admission
from service.admission.uploads import Uploads
from service.batching.batcher import Batcher
from service.batching.policy import BatchPolicy
from service.carried.keys import CarryKeys
from service.carried.token import Tokens
from service.engine.engine import Engine, Outcome, Work
from service.engine.stream import initial_stream
from service.errors import CarryUnavailable, HetsynError, Overloaded, SessionEnded, StateMismatch, StoreUnavailable
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.observe.clock import Clock
from service.observe.counters import Counters
from service.registry.table import NOTHING, Kept, Place, Places, Remembered
from service.reload.smoke_test import try_model
from service.session.protocol import (
    Apply,
    Known,
    Lifetimes,
    Progress,
    Reload,
    Replay,
    applied,
    check_delete,
    check_import,
    decide,
    gone,
    standing,
    unknown,
)
from service.session.session import Session
from service.settings import Settings
from service.store.base import StateStore
from service.store.record import Packing, read, renamed
from service.store.session_store import Held, Shelf, find_model
from service.wire.schema import Carried, Envelope, InferRequest, Reply

# of one request; each after the first means that another replica was faster
DECISIONS = 10
T = TypeVar("T")
FOREVER = Lifetimes(inf, inf, inf, inf)

log = logging.getLogger("hetsyn.sessions")


class _Step(NamedTuple):
    """A chunk to be applied: onto this session, under this number; steps that it will take, about."""

    session: Session
    seq: int
    steps: int


class SessionRegistry:
    """All sessions of a server. Used from one event loop.

    Args:
        clock: seconds, for the idle time of sessions in memory.
        store: where sessions are kept; None keeps them in memory.
        wall: seconds since 1970, for the times in a record.
        keys: of carried sessions; None where there are to be none.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        clock: Clock = time.monotonic,
        store: StateStore | None = None,
        wall: Clock = time.time,
        keys: CarryKeys | None = None,
    ) -> None:
        self.counters = Counters()
        self.settings = settings
        self._catalog = catalog
        self._clock = clock if store is None else wall
        self._wall = wall
        self._lifetimes = Lifetimes(
            settings.session_idle_s, settings.session_age_s, settings.ended_keep_s, settings.gone_keep_s
        )
        self._packing = Packing(half=settings.store_half)
        self._shelf = (
            None
            if store is None
            else Shelf(store, self._packing, catalog, self._lifetimes, self.counters, settings.store_timeout_s)
        )
        self._tokens = None if keys is None else Tokens(keys, catalog, self._lifetimes, self.counters, wall)
        self._engine = Engine(settings.max_chunk_steps, settings.segment_steps)
        policy = BatchPolicy(settings.max_batch, settings.max_batch_steps, settings.max_batch_wait_s)
        self._batcher = Batcher(self._engine, policy, settings.engine_threads, settings.engine_inline_s)
        # without a store these are the places
        self._kept = Kept(settings, self._lifetimes, self._clock, self._dropped)
        self._places: Places = (
            self._kept if store is None else Remembered(settings, self._lifetimes, self._clock, self._bury)
        )
        self.uploads = Uploads(settings.max_upload_bytes, settings.body_timeout_s)
        self.admissions = Admission(settings.max_waiting, self.uploads)
        self._running: set[asyncio.Task[Any]] = set()
        self._burials: set[asyncio.Task[Any]] = set()

    @property
    def held(self) -> int:
        """Open sessions in the memory of this process."""
        return self._places.open

    def try_model(self, model: Model) -> None:
        """Run a model as sessions would; on any thread.

        Raises:
            ArtifactError, RuntimeUnavailable: it cannot be run.
        """
        try_model(model, self._engine)

    async def start(self) -> None:
        """
        Raises:
            StoreUnusable: the store is set up so that it would lose sessions.
        """
        if self._shelf is not None:
            try:
                await self._shelf.store.start()
            except StoreUnavailable as error:
                log.warning("%s", error)  # it may come up yet; until then every chunk gets 503

    async def check_store(self) -> None:
        """
        Raises:
            StoreUnavailable, StoreUnusable: sessions can not be kept now.
        """
        if self._shelf is not None:
            await self._shelf.store.health()

    def admission(self) -> AbstractContextManager[None]:
        """A place among the requests in flight: take one before the body is read, and answer within it.

        Raises:
            Overloaded: all places are taken. ShuttingDown: no more are given.
        """
        return self.admissions

    async def infer(self, request: InferRequest) -> Reply:
        """Apply a chunk, in order of arrival within its session, and answer it. To be called within ``admission``.

        Raises:
            HetsynError: any but ArtifactError leaves the client something to do; the session is as it was.
        """
        return await self._shielded(self._infer(request))

    async def carry(self, request: InferRequest) -> Carried:
        """Apply a chunk to the session that came with it, and give the session back with the reply. Nothing of it is
        kept here. To be called within ``admission``.

        Raises:
            HetsynError: any but ArtifactError leaves the client something to do; what it carries is as it was.
        """
        return await self._shielded(self._carry(request))

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives; it is done as a whole though the caller goes away."""
        loop = asyncio.get_running_loop()
        task, answer = loop.create_task(work), cast("asyncio.Future[T]", loop.create_future())
        self._running.add(task)
        left_behind = False

        def done(_: asyncio.Task[T]) -> None:  # as ``asyncio.shield``, with one call where that takes three
            self._finished(task)
            if left_behind:
                self.admissions.give()
            if answer.done():
                return
            if task.cancelled():
                answer.cancel()
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        task.add_done_callback(done)
        try:
            return await answer
        except asyncio.CancelledError:
            if not task.done():
                self.admissions.take()  # the caller gives its place back, but the chunk is still computed
                left_behind = True
            raise

    async def delete(self, session_id: str) -> None:
        """Drop a session, after the chunks that came before. One whose record is damaged is dropped too.

        Raises:
            NotFound: there is none. SessionGone: it was dropped for lying idle. StoreUnavailable.
        """
        with self._places.visit(session_id) as place:
            async with place.lock:
                for _ in range(DECISIONS):
                    held = await self._confirmed(place)
                    if held.damage is None:
                        check_delete(session_id, _known(held), self._clock(), self._judged)
                    if await self._remove(place, held):
                        self.counters.sessions_deleted += 1
                        return
                raise _contended(session_id)

    def describe(self, session_id: str) -> dict[str, Any]:
        """A session as JSON can say it, as far as this process knows it.

        Raises:
            NotFound, SessionGone: as for ``delete``.
        """
        with self._places.visit(session_id) as place:
            if place.session is None:
                raise unknown(session_id)
            return self._described(place, place.session)

    async def look(self, session_id: str) -> dict[str, Any]:
        """``describe``, of what the store holds where there is one.

        Raises:
            NotFound, SessionGone, StoreUnavailable, StateError.
        """
        if self._shelf is None:
            return self.describe(session_id)
        with self._places.visit(session_id) as place:
            async with place.lock:
                return self._described(place, await self._existing(place))

    async def export_state(self, session_id: str) -> bytes:
        """The session as ``packing`` writes it, after the chunks that came before.

        Raises:
            NotFound, SessionGone, StoreUnavailable, StateError.
        """
        with self._places.visit(session_id) as place:
            async with place.lock:
                session = await self._existing(place)
        self.counters.sessions_exported += 1
        return self._packing.pack(session_id, _shifted(session, self._wall_offset_s))

    async def import_state(self, session_id: str, content: bytes, *, replace_it: bool) -> tuple[dict[str, Any], bool]:
        """Put an exported session under an id, as if it had just been used; its description, and whether
        it is new.

        Raises:
            StateError: the content cannot be used. SessionGone: it is of a session that was dropped, or past its age.
            SessionExists, SessionGone: there is or was a session of this id, and not ``replace_it``.
            Overloaded, StoreUnavailable.
        """
        record = read(content)
        session = renamed(self._packing.unpack(record, find_model(self._catalog, record)), session_id)
        now_s = self._clock()
        session = _shifted(session, -self._wall_offset_s)
        created_s = min(session.known.created_s, now_s)
        session = replace(session, known=replace(session.known, created_s=created_s, used_s=now_s))
        if standing(session.known, now_s, self._lifetimes) not in ("open", "ended"):
            raise gone(record.session, self._lifetimes)
        if replace_it:
            self._kept.forgive(session_id)
        place = self._places.enter(session_id)
        try:
            async with place.lock:
                for _ in range(DECISIONS):
                    held = await self._confirmed(place)
                    if held.damage is not None and not replace_it:
                        raise held.damage
                    check_import(session_id, _known(held), self._clock(), self._judged, replace=replace_it)
                    if await self._commit(place, held, session):
                        self.counters.sessions_imported += 1
                        return self._described(place, session), held.session is None
                raise _contended(session_id)
        finally:
            self._places.leave(place)

    def sweep(self, now_s: float) -> None:
        """Drop what has lain idle, and forget what was kept long enough."""
        self._places.sweep(now_s)

    async def sweep_forever(self) -> None:
        """``sweep`` at intervals, and let the store remove what is over; until cancelled."""
        while True:
            await asyncio.sleep(self.settings.sweep_interval_s)
            try:
                # All along the interval: a round of the event loop with a slice in it takes longer, and a chunk takes
                # several rounds.
                for share in self._places.sweeping(self._clock()):
                    await asyncio.sleep(share * self.settings.sweep_interval_s)
                    if self._burials:  # chunks must not wait behind those of all sessions at once
                        await asyncio.wait(self._burials)
                if self._shelf is not None:
                    with suppress(StoreUnavailable):  # the next sweep will do
                        await self._shelf.store.expire()
            except Exception as error:
                log.error("a sweep failed", exc_info=error)

    async def close(self) -> None:
        """Finish and commit what is running, end the threads, and close the store."""
        while self._running:
            await asyncio.wait(self._running)
        self.uploads.close()
        await self._batcher.close()
        if self._shelf is not None:
            await self._shelf.close()

    async def _infer(self, request: InferRequest) -> Reply:
        place = None
        try:
            place = self._places.enter(request.envelope.session or secrets.token_urlsafe(16))
            async with place.lock:
                return await self._answer(place, request)
        finally:
            if place is not None:
                self._places.leave(place)

    async def _carry(self, request: InferRequest) -> Carried:
        """No lock and no place: two chunks with one token are two futures of one session, and both are answered."""
        if self._tokens is None:
            raise CarryUnavailable("the server has no keys for carried sessions: start it with --carry-keys FILE")
        asked, session = request.envelope, None
        session_id = asked.session or secrets.token_urlsafe(16)
        if request.token is not None:
            session_id, session = self._tokens.open(request.token)
            if asked.session is not None and asked.session != session_id:
                raise StateMismatch(
                    f"the token is of session {session_id!r}, not {asked.session!r}: name that, or none"
                )
            session.check_model(asked)
        known = None if session is None else session.known
        todo = decide(session_id, known, asked.seq, request.digest, self._wall(), FOREVER)
        if session is not None and isinstance(todo, Replay):
            self.counters.chunks_replayed += 1
            return Carried(todo.reply, self._tokens.seal(session_id, session))
        session = session or self._opened(asked, self._wall())
        if session.stream is None or not isinstance(todo, Apply):
            raise SessionEnded("the session has ended")  # what is sealed goes on; states it for the types
        step = _Step(session, todo.seq, self._engine.check(session.model, session.stream, request.chunk))
        after, reply = await self._advanced(session_id, step, request, self._wall)
        self._count(step, reply)
        return Carried(reply, self._tokens.seal(session_id, after) if after.stream else None)

    async def _answer(self, place: Place, request: InferRequest) -> Reply:
        asked = request.envelope
        # Most sessions that begin are new, so whether one is there is left to the commit to say; an unnumbered
        # chunk may go on with one that another replica has.
        assume_new = place.held is None and not place.was_held and (asked.session is None or asked.seq == 0)
        for _ in range(DECISIONS):
            confirmed = self._shelf is None
            if assume_new:
                held = NOTHING
            elif place.held is not None:
                held = place.held
            else:
                held, confirmed = await self._confirmed(place), True
            assume_new = False
            todo = self._decide(place, held, request, confirmed)
            if isinstance(todo, Replay):
                self.counters.chunks_replayed += 1
                return todo.reply
            if isinstance(todo, _Step):
                reply = await self._apply(place, held, todo, request)
                if reply is not None:
                    return reply
            place.held = None  # another replica was here: decide again on what it left
        raise _contended(place.id)

    def _decide(
        self, place: Place, held: Held, request: InferRequest, confirmed: bool
    ) -> _Step | Replay[Reply] | Reload:
        """What is to be done with a chunk. Nothing but a step comes from what is not confirmed.

        Raises:
            HetsynError: it is not applied.
        """
        asked = request.envelope
        try:
            if held.damage is not None:
                raise held.damage
            now_s, session, known, lost = self._clock(), held.session, _known(held), False
            if self._shelf is not None:
                if standing(known, now_s, self._lifetimes) == "none":
                    session = None
                lost = confirmed and place.was_held and held.session is None
                if lost:
                    place.was_held = False  # it is said once
            if session is not None:
                session.check_model(asked)
            todo = decide(
                place.id, known, asked.seq, request.digest, now_s, self._judged, confirmed=confirmed, lost=lost
            )
            if isinstance(todo, Replay | Reload):
                return todo
            session = session or self._opened(asked, now_s)
            if session.stream is None:
                raise SessionEnded("the session has ended")  # decide has refused this before; states it for the types
            return _Step(session, todo.seq, self._engine.check(session.model, session.stream, request.chunk))
        except HetsynError:
            if confirmed:
                raise
            return Reload()

    async def _apply(self, place: Place, held: Held, step: _Step, request: InferRequest) -> Reply | None:
        """The reply to a chunk once it is committed; None where another replica was faster.

        Raises:
            HetsynError: as ``Engine.run``. StoreUnavailable: it may be committed, or may yet be.
        """
        after, reply = await self._advanced(place.id, step, request, self._clock)
        if not await self._commit(place, held, after):
            return None
        self._count(step, reply)
        return reply

    async def _advanced(
        self, session_id: str, step: _Step, request: InferRequest, clock: Clock
    ) -> tuple[Session, Reply]:
        """The session after a chunk, and the reply to it.

        Raises:
            HetsynError: as ``Engine.run``.
        """
        session, stream, end = step.session, step.session.stream, request.envelope.end
        if stream is None:
            raise ValueError("a chunk needs a stream")  # _decide gives none without; states it for the types
        outcome = await self._batcher.run(session.model, session.form, Work(stream, request.chunk, end), step.steps)
        reply = _reply(session_id, session, step.seq, end, outcome)
        known = session.known
        progress = applied(
            known.progress, seq=step.seq, digest=request.digest, steps=outcome.result.steps, end=end, reply=reply
        )
        after = Session(
            session.model,
            session.form,
            Known(progress, known.created_s, clock()),
            None if end else outcome.stream,
        )
        return after, reply

    def _count(self, step: _Step, reply: Reply) -> None:
        self.counters.chunks_applied += 1
        self.counters.steps_applied += reply.steps
        self.counters.sessions_opened += step.seq == 0
        self.counters.sessions_ended += reply.end

    async def _commit(self, place: Place, held: Held, session: Session) -> bool:
        """Put a session in place of what was held; False where the store holds something else by now.

        Raises:
            StoreUnavailable: nobody knows; what the store holds is asked for before anything else is decided.
        """
        if self._shelf is None:
            self._kept.put(place, Held(session=session))
            return True
        place.held = None
        place.was_held = place.was_held or held.session is not None
        after = await self._shelf.commit(place.id, held, session)
        if after is None:
            return False
        place.hold(after)
        return True

    async def _remove(self, place: Place, held: Held) -> bool:
        """Errors and result as ``_commit``."""
        if self._shelf is None:
            self._kept.put(place, NOTHING)
            return True
        place.held = None
        if not await self._shelf.delete(place.id, held):
            return False
        place.was_held = False
        return True

    async def _confirmed(self, place: Place) -> Held:
        """What the store holds; without one, what the place does.

        Raises:
            StoreUnavailable, StateError: as ``Shelf.load``.
        """
        if self._shelf is None:
            return place.held or Held()
        place.held = None
        held = await self._shelf.load(place.id)
        if held.damage is None:
            place.hold(held)
        return held

    async def _existing(self, place: Place) -> Session:
        """
        Raises:
            NotFound, SessionGone, StoreUnavailable, StateError: there is no session, or none that can be used.
        """
        held = await self._confirmed(place)
        if held.damage is not None:
            raise held.damage
        check_delete(place.id, _known(held), self._clock(), self._judged)
        if held.session is None:
            raise unknown(place.id)  # check_delete has refused this before; states it for the types
        return held.session

    def _opened(self, asked: Envelope, now_s: float) -> Session:
        model = self._catalog.get(asked.model, asked.version)
        form = model.choose_form(asked.form)
        return Session(model, form, Known(Progress(), now_s, now_s), initial_stream(model, form))

    @property
    def _judged(self) -> Lifetimes:
        """What time means to a decision; without a store it was judged when the request entered."""
        return FOREVER if self._shelf is None else self._lifetimes

    @property
    def _wall_offset_s(self) -> float:
        """From this registry's clock to the wall's."""
        return self._wall() - self._clock() if self._shelf is None else 0.0

    def _dropped(self) -> None:
        self.counters.sessions_dropped += 1

    def _bury(self, session_id: str, held: Held, session: Session) -> None:
        task = asyncio.create_task(self._commit_buried(session_id, held, session))
        self._running.add(task)
        self._burials.add(task)
        task.add_done_callback(self._finished)
        task.add_done_callback(self._burials.discard)

    async def _commit_buried(self, session_id: str, held: Held, session: Session) -> None:
        """Keep of a dropped session only that it was dropped. Its times say so without this too."""
        buried = replace(session, known=replace(session.known, dropped=True), stream=None)
        if self._shelf is not None and await self._shelf.commit(session_id, held, buried):
            self.counters.sessions_dropped += 1

    def _described(self, place: Place, session: Session) -> dict[str, Any]:
        progress, stream = session.known.progress, session.stream
        return {
            "session": place.id,
            "model": session.model.name,
            "version": session.model.version,
            "form": session.form,
            "expected_seq": progress.expected_seq,
            "total_steps": progress.total_steps,
            "ended": progress.ended,
            "kind": stream.kind if stream else None,
            "state_bytes": stream.bytes if stream else 0,
            "label": progress.last.reply.label if progress.last else None,
            "idle_s": self._places.idle_s(session),
        }

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; asyncio logs exceptions that nobody has asked for


def _known(held: Held) -> Known[Reply] | None:
    return held.session.known if held.session else None


def _shifted(session: Session, by_s: float) -> Session:
    """The session with its times on another clock."""
    known = session.known
    return replace(session, known=replace(known, created_s=known.created_s + by_s, used_s=known.used_s + by_s))


def _contended(session_id: str) -> Overloaded:
    return Overloaded(
        f"session {session_id!r} is changed by other replicas all the time: send the chunk again in {BUSY_RETRY_S:g} s",
        BUSY_RETRY_S,
    )


def _reply(session_id: str, session: Session, seq: int, end: bool, outcome: Outcome) -> Reply:
    manifest, result = session.model.manifest, outcome.result
    is_trace = manifest.decision.rule == "trace"
    likeliest = int(result.probabilities.argmax())
    return Reply(
        session=session_id,
        model=manifest.name,
        version=manifest.version,
        form=session.form,
        seq=seq,
        steps=result.steps,
        total_steps=session.known.progress.total_steps + result.steps,
        label=manifest.labels[likeliest] if result.is_decided and not is_trace else None,
        labels=manifest.labels,
        probabilities=None if is_trace else tuple(result.probabilities.tolist()),
        end=end,
        readout=None if result.readout is None else tuple(map(tuple, result.readout.tolist())),
    )
