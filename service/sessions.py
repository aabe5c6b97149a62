"""The sessions of a server: the asyncio shell around the protocol, the engine and the store.

A chunk runs in a task of its own, shielded from its caller: when the caller goes away the chunk is still
applied as a whole, and the retry by number gets the stored reply. Nothing of a session changes but in
``SessionRegistry._commit``, after the engine has done the chunk.

Without a store what a place holds is the session, and time is judged when a request enters, so that a session
in use never expires. With one it is what this process remembers of the store's record. ``protocol`` says
what such a memory may decide; time is judged by the times in the record, so that every replica judges alike.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from service.batch_policy import BatchPolicy
from service.batcher import Batcher
from service.counters import Counters
from service.engine import Engine, Outcome, Work
from service.errors import (
    HetsynError,
    Overloaded,
    SessionEnded,
    ShuttingDown,
    StoreUnavailable,
)
from service.models import ModelCatalog
from service.payloads import Envelope, InferRequest, Reply
from service.protocol import (
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
from service.running_loop import RunningLoop
from service.session import Session
from service.settings import Settings
from service.store.packing import Packing, read, renamed
from service.store.seam import StateStore
from service.store.shelf import Held, Shelf, find_model
from service.stream import initial_stream

Clock = Callable[[], float]

BUSY_RETRY_S = 1.0
# of one request; each after the first means that another replica was faster
DECISIONS = 10
FOREVER = Lifetimes(inf, inf, inf, inf)
NOTHING = Held()

log = logging.getLogger("hetsyn.sessions")


@dataclass(frozen=True)
class _Step:
    """A chunk to be applied: onto this session, under this number; steps that it will take, about."""

    session: Session
    seq: int
    steps: int


class _Place:
    """A place for a session. ``users`` requests hold it.

    held: None where only the store can say. was_held: it held a session before.
    """

    def __init__(self, session_id: str, held: Held | None) -> None:
        self.id = session_id
        self.lock = asyncio.Lock()  # first come, first served
        self.users = 0
        self.last_used_s = 0.0
        self.held = held
        self.was_held = False

    @property
    def session(self) -> Session | None:
        return self.held.session if self.held else None

    @property
    def ended(self) -> bool:
        return self.session is not None and self.session.known.progress.ended

    def hold(self, held: Held) -> None:
        self.held = held
        self.was_held = self.was_held or held.session is not None


class SessionRegistry:
    """All sessions of a server. Used from one event loop.

    Args:
        clock: seconds, for the idle time of sessions in memory.
        store: where sessions are kept; None keeps them in memory.
        wall: seconds since 1970, for the times in a record.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        clock: Clock = time.monotonic,
        store: StateStore | None = None,
        wall: Clock = time.time,
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
        self._shelf = None if store is None else Shelf(store, self._packing, catalog, self._lifetimes, self.counters)
        self._engine = Engine(settings.max_chunk_steps, settings.segment_steps)
        policy = BatchPolicy(settings.max_batch, settings.max_batch_steps, settings.max_batch_wait_s)
        self._batcher = Batcher(self._engine, policy, settings.engine_threads, settings.engine_inline_s)
        self._places: OrderedDict[str, _Place] = OrderedDict()  # with a store, the least recently used first
        self._ended: OrderedDict[str, float] = OrderedDict()  # id to time, oldest first
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._running: set[asyncio.Task[Any]] = set()
        self._loop = RunningLoop()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_ready = True
        self._admits = True

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def held(self) -> int:
        """Open sessions in the memory of this process."""
        return len(self._places) - len(self._ended)

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._is_ready

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

    @contextmanager
    def admission(self) -> Iterator[None]:
        """A place among the requests in flight: take one before the body is read, and answer within it.

        Raises:
            Overloaded: all places are taken. ShuttingDown: no more are given.
        """
        if not self._admits:
            raise ShuttingDown(f"the server is shutting down: send the chunk again in {BUSY_RETRY_S:g} s", BUSY_RETRY_S)
        if self._in_flight >= self.settings.max_waiting:
            raise Overloaded(
                f"{self._in_flight} requests are waiting: send the chunk again in {BUSY_RETRY_S:g} s", BUSY_RETRY_S
            )
        self._take()
        try:
            yield
        finally:
            self._give()

    async def infer(self, request: InferRequest) -> Reply:
        """Apply a chunk, in order of arrival within its session, and answer it. To be called within ``admission``.

        Raises:
            HetsynError: any but ArtifactError leaves the client something to do; the session is as it was.
        """
        task = self._loop.get().create_task(self._infer(request))
        self._running.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                # the caller gives its place back, but the chunk is still computed
                self._take()
                task.add_done_callback(self._abandoned_finished)
            raise

    async def delete(self, session_id: str) -> None:
        """Drop a session, after the chunks that came before. One whose record is damaged is dropped too.

        Raises:
            NotFound: there is none. SessionGone: it was dropped for lying idle. StoreUnavailable.
        """
        with self._visit(session_id) as place:
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
        place = self._find(session_id)
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
        with self._visit(session_id) as place:
            async with place.lock:
                return self._described(place, await self._existing(place))

    async def export_state(self, session_id: str) -> bytes:
        """The session as ``packing`` writes it, after the chunks that came before.

        Raises:
            NotFound, SessionGone, StoreUnavailable, StateError.
        """
        with self._visit(session_id) as place:
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
            self._gone.pop(session_id, None)
        place = self._enter(session_id)
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
            self._leave(place)

    def sweep(self, now_s: float) -> None:
        """Drop what has lain idle, and forget what was kept long enough."""
        for session_id in list(self._places):
            self._expire(session_id, now_s)
        _forget(self._gone, self.settings.max_remembered, now_s - self.settings.gone_keep_s)

    async def sweep_forever(self) -> None:
        """``sweep`` at intervals, and let the store remove what is over; until cancelled."""
        while True:
            await asyncio.sleep(self.settings.sweep_interval_s)
            self.sweep(self._clock())
            if self._shelf is not None:
                with suppress(StoreUnavailable):  # the next sweep will do
                    await self._shelf.store.expire()

    def leave_rotation(self) -> None:
        """Be not ready from now on, and serve on: balancers have to notice first."""
        self._is_ready = False

    async def stop_admission(self) -> None:
        """Refuse new chunks, and wait until those under way are answered."""
        self._is_ready = self._admits = False
        await self._idle.wait()

    async def close(self) -> None:
        """Finish and commit what is running, end the threads, and close the store."""
        while self._running:
            await asyncio.wait(self._running)
        self._loop.forget()
        await self._batcher.close()
        if self._shelf is not None:
            await self._shelf.close()

    async def _infer(self, request: InferRequest) -> Reply:
        place = None
        try:
            place = self._enter(request.envelope.session or secrets.token_urlsafe(16))
            async with place.lock:
                return await self._answer(place, request)
        except HetsynError as error:
            self.counters.refused(error)
            raise
        finally:
            if place is not None:
                self._leave(place)

    async def _answer(self, place: _Place, request: InferRequest) -> Reply:
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
        self, place: _Place, held: Held, request: InferRequest, confirmed: bool
    ) -> _Step | Replay[Reply] | Reload:
        """What is to be done with a chunk. Nothing but a step comes from what is not confirmed.

        Raises:
            HetsynError: it is not applied.
        """
        asked = request.envelope
        try:
            if held.damage is not None:
                raise held.damage
            now_s, session = self._clock(), held.session
            if self._shelf is not None and standing(_known(held), now_s, self._lifetimes) == "none":
                session = None
            if session is not None:
                session.check_model(asked)
            lost = self._shelf is not None and confirmed and place.was_held and held.session is None
            if lost:
                place.was_held = False  # it is said once
            todo = decide(
                place.id,
                _known(held),
                asked.seq,
                request.digest,
                now_s,
                self._judged,
                confirmed=confirmed,
                lost=lost,
            )
            if isinstance(todo, Replay | Reload):
                return todo
            session = session or self._opened(asked)
            if session.stream is None:
                raise SessionEnded("the session has ended")  # decide has refused this before; states it for the types
            return _Step(session, todo.seq, self._engine.check(session.model, session.stream, request.chunk))
        except HetsynError:
            if confirmed:
                raise
            return Reload()

    async def _apply(self, place: _Place, held: Held, step: _Step, request: InferRequest) -> Reply | None:
        """The reply to a chunk once it is committed; None where another replica was faster.

        Raises:
            HetsynError: as ``Engine.run``. StoreUnavailable: it may be committed, or may yet be.
        """
        session, stream, end = step.session, step.session.stream, request.envelope.end
        if stream is None:
            raise ValueError("a chunk needs a stream")  # _decide gives none without; states it for the types
        outcome = await self._batcher.run(session.model, session.form, Work(stream, request.chunk, end), step.steps)
        reply = _reply(place.id, session, step.seq, end, outcome)
        known = session.known
        progress = applied(
            known.progress, seq=step.seq, digest=request.digest, steps=outcome.result.steps, end=end, reply=reply
        )
        after = Session(
            session.model,
            session.form,
            Known(progress, known.created_s, self._clock()),
            None if end else outcome.stream,
        )
        if not await self._commit(place, held, after):
            return None
        self.counters.chunks_applied += 1
        self.counters.steps_applied += outcome.result.steps
        self.counters.sessions_opened += step.seq == 0
        self.counters.sessions_ended += end
        return reply

    async def _commit(self, place: _Place, held: Held, session: Session) -> bool:
        """Put a session in place of what was held; False where the store holds something else by now.

        Raises:
            StoreUnavailable: nobody knows; what the store holds is asked for before anything else is decided.
        """
        if self._shelf is None:
            self._ended.pop(place.id, None)
            place.hold(Held(session=session))
            if session.known.progress.ended:
                self._ended[place.id] = self._clock()
                for forgotten in _forget(self._ended, self.settings.max_remembered, float("-inf")):
                    self._places.pop(forgotten, None)
            return True
        place.held = None
        place.was_held = place.was_held or held.session is not None
        after = await self._shelf.commit(place.id, held, session)
        if after is None:
            return False
        place.hold(after)
        return True

    async def _remove(self, place: _Place, held: Held) -> bool:
        """Errors and result as ``_commit``."""
        if self._shelf is None:
            place.held = Held()
            self._ended.pop(place.id, None)
            return True
        place.held = None
        if not await self._shelf.delete(place.id, held):
            return False
        place.was_held = False
        return True

    async def _confirmed(self, place: _Place) -> Held:
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

    async def _existing(self, place: _Place) -> Session:
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

    def _opened(self, asked: Envelope) -> Session:
        model = self._catalog.get(asked.model, asked.version)
        form = model.choose_form(asked.form)
        now_s = self._clock()
        return Session(model, form, Known(Progress(), now_s, now_s), initial_stream(model, form))

    @property
    def _judged(self) -> Lifetimes:
        """What time means to a decision; without a store it was judged when the request entered."""
        return FOREVER if self._shelf is None else self._lifetimes

    @property
    def _wall_offset_s(self) -> float:
        """From this registry's clock to the wall's."""
        return self._wall() - self._clock() if self._shelf is None else 0.0

    @contextmanager
    def _visit(self, session_id: str) -> Iterator[_Place]:
        """The place of a session that should be there; without a store it is refused at once where it is not."""
        if self._shelf is None:
            place = self._find(session_id)
            place.users += 1
        else:
            place = self._enter(session_id)
        try:
            yield place
        finally:
            self._leave(place)

    def _enter(self, session_id: str) -> _Place:
        """The place of a session, made if there is none; the caller holds it until ``_leave``."""
        self._expire(session_id, self._clock())
        place = self._places.get(session_id)
        if place is None:
            if session_id in self._gone:
                raise gone(session_id, self._lifetimes)
            self._make_room()
            place = self._places[session_id] = _Place(session_id, NOTHING if self._shelf is None else None)
        elif self._shelf is not None:
            self._places.move_to_end(session_id)
        place.users += 1
        return place

    def _make_room(self) -> None:
        """
        Raises:
            Overloaded: there is none.
        """
        at_most = self.settings.max_sessions
        if self.held < at_most:
            return
        if self._shelf is not None:
            # the store has it; only memory is short
            unused = next((place for place in self._places.values() if not place.users), None)
            if unused is not None:
                del self._places[unused.id]
        else:
            self.sweep(self._clock())
        if self.held >= at_most:
            raise Overloaded(
                f"{at_most} sessions are open: end some, or try again later", self.settings.sweep_interval_s
            )

    def _leave(self, place: _Place) -> None:
        place.users -= 1
        place.last_used_s = self._clock()
        if place.users or self._places.get(place.id) is not place:
            return
        if self._shelf is None:
            is_over = place.session is None
        else:
            # an ended session is not needed here; one whose last commit is unknown is still remembered as begun
            is_over = place.ended or (place.session is None and not (place.held is None and place.was_held))
        if is_over:
            del self._places[place.id]

    def _find(self, session_id: str) -> _Place:
        self._expire(session_id, self._clock())
        place = self._places.get(session_id)
        if place is None:
            raise gone(session_id, self._lifetimes) if session_id in self._gone else unknown(session_id)
        return place

    def _expire(self, session_id: str, now_s: float) -> None:
        """Drop the session if its time is over, whether or not a sweep has come by."""
        place = self._places.get(session_id)
        if place is None or place.users:
            return
        idle_s = now_s - place.last_used_s
        if self._shelf is not None:
            self._forget_stored(place, now_s, idle_s)
        elif place.ended:
            if now_s - self._ended[session_id] >= self.settings.ended_keep_s:
                del self._places[session_id], self._ended[session_id]
        elif idle_s >= self.settings.session_idle_s or _age_s(place, now_s) >= self.settings.session_age_s:
            del self._places[session_id]
            self.counters.sessions_dropped += 1
            self._gone[session_id] = now_s
            _forget(self._gone, self.settings.max_remembered, now_s - self.settings.gone_keep_s)

    def _forget_stored(self, place: _Place, now_s: float, idle_s: float) -> None:
        """Remember a session no longer that the store's times say is over, and make its record small."""
        held, session = place.held, place.session
        if held is None or session is None:
            if idle_s >= self.settings.session_idle_s:
                del self._places[place.id]
            return
        state = standing(session.known, now_s, self._lifetimes)
        if state == "open":
            return
        del self._places[place.id]
        if state == "gone" and session.stream is not None:
            task = asyncio.create_task(self._bury(place.id, held, session))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _bury(self, session_id: str, held: Held, session: Session) -> None:
        """Keep of a dropped session only that it was dropped. Its times say so without this too."""
        buried = replace(session, known=replace(session.known, dropped=True), stream=None)
        if self._shelf is not None and await self._shelf.commit(session_id, held, buried):
            self.counters.sessions_dropped += 1

    def _described(self, place: _Place, session: Session) -> dict[str, Any]:
        progress, stream = session.known.progress, session.stream
        if self._shelf is None:
            idle_s = 0.0 if place.users else self._clock() - place.last_used_s
        else:
            idle_s = max(0.0, self._clock() - session.known.used_s)
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
            "idle_s": idle_s,
        }

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; asyncio logs exceptions that nobody has asked for

    def _abandoned_finished(self, _: asyncio.Task[Reply]) -> None:
        self._give()

    def _take(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _give(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()


def _known(held: Held) -> Known[Reply] | None:
    return held.session.known if held.session else None


def _age_s(place: _Place, now_s: float) -> float:
    return now_s - place.session.known.created_s if place.session else 0.0


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
