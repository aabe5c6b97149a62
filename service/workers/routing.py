"""Which worker has a session, and what the first bytes of a connection say about it. Pure."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from service.keys.ids import client_id

_LINE = re.compile(rb"(?:POST /infer|GET /stream)(?:\?([^ #\r\n]*))? HTTP/1\.[01]\r\n")
_SESSIONS = re.compile(rb"[A-Z]+ /sessions/([^/?# \r\n]+)")
_IN_QUERY = re.compile(rb"(?:^|&)session=([^&]+)")
# in a JSON body; a text that only looks so costs a detour, and nothing else
_IN_BODY = re.compile(rb'"session"\s*:\s*"([^"\\]+)"')


@dataclass(frozen=True)
class Routing:
    """The sessions of all workers.

    Attributes:
        index: of this worker, from 0.
        count: of workers.
        seed: of the hash, the same for all workers. It is random, so that no client can choose a worker.
    """

    index: int
    count: int
    seed: int

    def worker_of(self, session_id: str) -> int:
        """The worker that has a session: by the id that its client has sent, because a hint knows no key."""
        return xxhash.xxh3_64_intdigest(client_id(session_id).encode(), self.seed) % self.count

    def new_id(self) -> str:
        """An id for a session of this worker."""
        while self.worker_of(session_id := secrets.token_urlsafe(16)) != self.index:
            pass
        return session_id


class Hint(NamedTuple):
    """What the first bytes of a request say.

    Attributes:
        session: that it names; None if it names none there.
    """

    session: str | None


def hint(data: bytes) -> Hint | None:
    """What the first bytes of a request say about its session; None if it has none.

    A hint decides where a connection goes, and nothing else: every request is checked again once it is parsed.
    """
    if (sessions := _SESSIONS.match(data)) is not None:
        return Hint(sessions[1].decode("latin-1"))
    if (line := _LINE.match(data)) is None:
        return None
    named = _IN_QUERY.search(line[1] or b"") or _IN_BODY.search(data, line.end())
    return Hint(None if named is None else named[1].decode("latin-1"))


def session_of(query: list[tuple[str, str]]) -> str | None:
    """The session that the query of a request names; None if it names none, or its client carries it."""
    named = dict(query)
    return None if "carry" in named else named.get("session")
