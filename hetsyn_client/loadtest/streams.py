"""A stream's position: the next session, chunk number and chunk. No I/O."""

from __future__ import annotations


class LoadStream:
    """Sessions one after the other, with at most one chunk under way.

    Args:
        index: of the stream, from 0.
        name: the sessions are called name-0, name-1 and so on.
        session_chunks: length of a session in chunks.
        first_session_chunks: length of the first session.
        position: index of the first chunk in the load.

    Attributes:
        session: id of the present session.
        seq: number of the next chunk in it.
        position: index of the next chunk in the load, counted on beyond its end.
        taken: chunks sent so far, whatever their outcome.
        is_waiting: whether the last chunk has no reply yet.
        is_last_sent: whether the last chunk ends its session.
    """

    __slots__ = (
        "_count",
        "_left",
        "_name",
        "_session_chunks",
        "index",
        "is_last_sent",
        "is_waiting",
        "position",
        "seq",
        "session",
        "taken",
    )

    def __init__(self, index: int, name: str, session_chunks: int, first_session_chunks: int, position: int) -> None:
        self.index = index
        self.position = position
        self.taken = 0
        self.is_waiting = False
        self.is_last_sent = False
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
        """The session that is open on the server, if any."""
        return self.session if self.seq else None

    def take(self) -> None:
        """The next chunk was sent."""
        self.is_waiting = True
        self.is_last_sent = self._left == 1
        self.taken += 1
        self.position += 1

    def applied(self) -> None:
        self.is_waiting = False
        if self._left == 1:
            self._begin()
        else:
            self.seq += 1
            self._left -= 1

    def refused(self) -> None:
        """The server did not apply the chunk: the next one takes its number."""
        self.is_waiting = False

    def abandon(self) -> str:
        """Give the session up; the next chunk begins another.

        Returns:
            The id of the session that was given up.
        """
        self.is_waiting = False
        session = self.session
        self._begin()
        return session

    def _begin(self) -> None:
        self._count += 1
        self.session = f"{self._name}-{self._count}"
        self.seq = 0
        self._left = self._session_chunks
