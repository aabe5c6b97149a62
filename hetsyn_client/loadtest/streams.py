"""A stream under way: which session, number and chunk come next. No I/O."""

from __future__ import annotations


class Stream:
    """Sessions one after the other, each of a number of chunks, with at most one chunk under way.

    Args:
        index: of the stream, from 0. name: the sessions' is name-0, name-1 and so on.
        session_chunks: length of a session. first_session_chunks: of the first.
        place: of the load, where the stream begins.

    Attributes:
        taken: chunks taken so far, whatever became of them. is_waiting: for the reply to the last of them.
    """

    __slots__ = (
        "_count",
        "_left",
        "_name",
        "_session_chunks",
        "index",
        "is_waiting",
        "place",
        "seq",
        "session",
        "taken",
    )

    def __init__(self, index: int, name: str, session_chunks: int, first_session_chunks: int, place: int) -> None:
        self.index = index
        self.place = place
        self.taken = 0
        self.is_waiting = False
        self.seq = 0
        self._name = name
        self._session_chunks = session_chunks
        self._left = first_session_chunks
        self._count = 0
        self.session = f"{name}-0"

    @property
    def is_last(self) -> bool:
        """Whether the next chunk ends the session."""
        return self._left == 1

    @property
    def open_session(self) -> str | None:
        """The session that the server holds now."""
        return self.session if self.seq else None

    def take(self) -> None:
        """The next chunk is under way."""
        self.is_waiting = True
        self.taken += 1
        self.place += 1

    def applied(self) -> None:
        self.is_waiting = False
        if self._left == 1:
            self._begin()
        else:
            self.seq += 1
            self._left -= 1

    def refused(self) -> None:
        """Its sound is lost, and the next chunk takes its number."""
        self.is_waiting = False

    def lost(self) -> str:
        """The session is in doubt; the next chunk begins another. The lost one's id."""
        self.is_waiting = False
        session = self.session
        self._begin()
        return session

    def _begin(self) -> None:
        self._count += 1
        self.session = f"{self._name}-{self._count}"
        self.seq = 0
        self._left = self._session_chunks
