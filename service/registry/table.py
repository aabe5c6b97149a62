"""Places for sessions in the memory of a process, and how long each is kept.

Without a store a place holds the session itself (``Kept``): its time is judged when a request enters, so that none
expires under a chunk, and what was dropped is remembered. With a store (``Remembered``) it holds what was last seen of
the record, and may be let go at any time that nobody uses it. In both only a chunk that is applied counts as use.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded
from service.session.protocol import Lifetimes, gone, standing, unknown
from service.session.session import Session
from service.settings import Settings
from service.store.session_store import Held

Clock = Callable[[], float]

NOTHING = Held()
SLICE = 100  # places that a sweep looks at before others have their turn: a tenth of a millisecond


class Place:
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
        return None if self.held is None else self.held.session

    @property
    def ended(self) -> bool:
        session = self.session
        return session is not None and session.known.progress.ended

    def hold(self, held: Held) -> None:
        self.held = held
        if held.session is not None:
            self.was_held = True


class Places(ABC):
    """Used from one event loop."""

    def __init__(self, settings: Settings, lifetimes: Lifetimes, clock: Clock) -> None:
        self._settings = settings
        self._lifetimes = lifetimes
        self._clock = clock
        self._places: OrderedDict[str, Place] = OrderedDict()

    @property
    @abstractmethod
    def open(self) -> int:
        """Open sessions."""

    @abstractmethod
    def enter(self, session_id: str) -> Place:
        """The place of a session, made if there is none; the caller holds it until ``leave``.

        Raises:
            Overloaded: there is no room. SessionGone: the session was dropped.
        """

    @abstractmethod
    def find(self, session_id: str) -> Place:
        """The same, for a session that should be there.

        Raises:
            NotFound, SessionGone: it is known not to be. Overloaded.
        """

    def leave(self, place: Place) -> None:
        """Hold the place no longer."""
        place.users -= 1
        if not place.users and self._places.get(place.id) is place and self._is_over(place):
            del self._places[place.id]

    @contextmanager
    def visit(self, session_id: str) -> Iterator[Place]:
        """``find`` and ``leave``."""
        place = self.find(session_id)
        try:
            yield place
        finally:
            self.leave(place)

    def sweep(self, now_s: float) -> None:
        """Let go what is over."""
        for _ in self.sweeping(now_s):
            pass

    def sweeping(self, now_s: float) -> Iterator[float]:
        """The same in slices, between which others may use the places; of each, its share of the whole."""
        session_ids = list(self._places)
        for count, session_id in enumerate(session_ids, 1):
            self._expire(session_id, now_s)
            if not count % SLICE:
                yield SLICE / len(session_ids)

    def idle_s(self, session: Session) -> float:
        """For how long the session has not been used."""
        return max(0.0, self._clock() - session.known.used_s)

    @abstractmethod
    def _is_over(self, place: Place) -> bool:
        """Whether the place is of no more use to anybody."""

    @abstractmethod
    def _expire(self, session_id: str, now_s: float) -> bool:
        """Let the session go if its time is over, whether or not a sweep has come by; whether it was."""

    def _refuse(self) -> Overloaded:
        at_most, again_s = self._settings.max_sessions, self._settings.sweep_interval_s
        return Overloaded(f"{at_most} sessions are open: end some, or try again later", again_s)


class Kept(Places):
    """Of a server without a store. dropped: called for each session that is."""

    def __init__(
        self, settings: Settings, lifetimes: Lifetimes, clock: Clock, dropped: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(settings, lifetimes, clock)
        self._dropped = dropped
        self._used: OrderedDict[str, None] = OrderedDict()  # ids of open sessions, the longest unused first
        self._ended: OrderedDict[str, float] = OrderedDict()  # id to time, oldest first
        self._gone: OrderedDict[str, float] = OrderedDict()

    @property
    def open(self) -> int:
        return len(self._places) - len(self._ended)

    def enter(self, session_id: str) -> Place:
        self._expire(session_id, self._clock())
        place = self._places.get(session_id)
        if place is None:
            if session_id in self._gone:
                raise gone(session_id, self._lifetimes)
            if self.open >= self._settings.max_sessions:
                self._make_room()
            place = self._places[session_id] = Place(session_id, NOTHING)
        place.users += 1
        return place

    def find(self, session_id: str) -> Place:
        self._expire(session_id, self._clock())
        place = self._places.get(session_id)
        if place is None:
            raise gone(session_id, self._lifetimes) if session_id in self._gone else unknown(session_id)
        place.users += 1
        return place

    def put(self, place: Place, held: Held) -> None:
        """Put a session, or nothing, into a place."""
        place.hold(held)
        if self._ended:
            self._ended.pop(place.id, None)
        if held.session is not None and not place.ended:
            self._used[place.id] = None
            self._used.move_to_end(place.id)
            return
        self._used.pop(place.id, None)
        if place.ended:
            self._ended[place.id] = self._clock()
            for forgotten in _forget(self._ended, self._settings.max_remembered, float("-inf")):
                self._places.pop(forgotten, None)

    def forgive(self, session_id: str) -> None:
        """Let the id of a dropped session be used again, and of one whose time is over."""
        self._expire(session_id, self._clock())
        self._gone.pop(session_id, None)

    def sweeping(self, now_s: float) -> Iterator[float]:
        yield from super().sweeping(now_s)
        _forget(self._gone, self._settings.max_remembered, now_s - self._lifetimes.gone_keep_s)

    def _make_room(self) -> None:
        """Let go those whose time is over, as few as will do; an old one that was used of late is left to the sweep.

        Raises:
            Overloaded: there are none.
        """
        now_s = self._clock()
        while self.open >= self._settings.max_sessions:
            if not self._used or not self._expire(next(iter(self._used)), now_s):
                raise self._refuse()

    def _is_over(self, place: Place) -> bool:
        return place.session is None

    def _expire(self, session_id: str, now_s: float) -> bool:
        place = self._places.get(session_id)
        if place is None or place.users:
            return False
        session = place.session
        if session is None:
            return False  # it is about to be left
        if standing(session.known, now_s, self._lifetimes) in ("open", "ended"):
            return False
        del self._places[session_id]
        if session.known.progress.ended:
            del self._ended[session_id]
            return True
        del self._used[session_id]
        self._dropped()
        self._gone[session_id] = now_s
        _forget(self._gone, self._settings.max_remembered, now_s - self._lifetimes.gone_keep_s)
        return True


class Remembered(Places):
    """Of a server with a store. bury: called with a session that the times of its record say is gone."""

    def __init__(
        self, settings: Settings, lifetimes: Lifetimes, clock: Clock, bury: Callable[[str, Held, Session], None]
    ) -> None:
        super().__init__(settings, lifetimes, clock)
        self._bury = bury

    @property
    def open(self) -> int:
        return len(self._places)

    def enter(self, session_id: str) -> Place:
        self._expire(session_id, self._clock())
        place = self._places.get(session_id)
        if place is None:
            self._make_room()
            place = self._places[session_id] = Place(session_id, None)
        else:
            self._places.move_to_end(session_id)  # the least recently used come first
        place.users += 1
        return place

    def find(self, session_id: str) -> Place:
        return self.enter(session_id)

    def leave(self, place: Place) -> None:
        place.last_used_s = self._clock()
        super().leave(place)

    def _make_room(self) -> None:
        """The store has every session; only memory is short.

        Raises:
            Overloaded: all are in use.
        """
        if self.open < self._settings.max_sessions:
            return
        unused = next((place for place in self._places.values() if not place.users), None)
        if unused is None:
            raise self._refuse()
        del self._places[unused.id]

    def _is_over(self, place: Place) -> bool:
        # an ended session is not needed here; one whose last commit is unknown is still remembered as begun
        is_unknown = place.held is None and place.was_held
        return place.ended or (place.session is None and not is_unknown)

    def _expire(self, session_id: str, now_s: float) -> bool:
        place = self._places.get(session_id)
        if place is None or place.users:
            return False
        held, session = place.held, place.session
        if held is None or session is None:
            is_over = now_s - place.last_used_s >= self._lifetimes.idle_s
            if is_over:
                del self._places[session_id]
            return is_over
        state = standing(session.known, now_s, self._lifetimes)
        if state == "open":
            return False
        del self._places[session_id]
        if state == "gone" and session.stream is not None:
            self._bury(session_id, held, session)
        return True


def _forget(remembered: OrderedDict[str, float], at_most: int, before_s: float) -> list[str]:
    """Remove the oldest while there are too many, and those from before a time; what was removed."""
    removed = []
    while remembered and (len(remembered) > at_most or next(iter(remembered.values())) <= before_s):
        removed.append(remembered.popitem(last=False)[0])
    return removed
