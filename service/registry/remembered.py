"""Ids of sessions that are gone, remembered for a time, whatever their number.

The newest ids are kept as they are. Older ones are kept as hashes of 8 bytes, in sorted runs that are merged as they
grow old (a log-structured merge tree). So 18 million ids, 5,000 a second for an hour, take 144 MB. The hash has a
random key, so nobody can make ids that collide: another id is taken for one of 18 million with a probability of 10^-12.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from bisect import bisect_left
from itertools import islice, takewhile
from typing import NamedTuple

import numpy as np

from service.observe.clock import Clock

HASH_BYTES = 8
NEWEST = 8_192  # ids that are kept as they are
NEWEST_BYTES = 320  # of one of them, with an id of the greatest length
RUNS = 16  # a run spans a sixteenth of the time: hashes are forgotten by the run


class _Run(NamedTuple):
    """Hashes of ids.

    Attributes:
        hashes: ascending.
        oldest_s: when the first of them was remembered.
        newest_s: when the last of them was remembered.
    """

    hashes: array[int]
    oldest_s: float
    newest_s: float


class RememberedIds:
    """Ids, each remembered for a time, and for up to a sixteenth of it longer.

    Args:
        keep_s: the time.
        max_bytes: of memory; beyond it, the oldest ids are forgotten before their time (``forgets_until_s``).
        clock: seconds.
        newest: ids that are kept as they are; fewer if they would take more than half of the memory.

    Attributes:
        forgets_until_s: until then, ids are missing that should still be remembered.
    """

    def __init__(self, keep_s: float, max_bytes: int, clock: Clock, newest: int = NEWEST) -> None:
        newest = max(1, min(newest, max_bytes // (2 * NEWEST_BYTES)))
        self._keep_s = keep_s
        self._max_hashes = max(0, max_bytes - newest * NEWEST_BYTES) // HASH_BYTES
        self._clock = clock
        self._newest_size = newest
        self._newest: dict[str, float] = {}  # when each was remembered, oldest first
        self._runs: list[_Run] = []  # oldest first
        self._hashes = 0
        self._key = secrets.token_bytes(16)
        self.forgets_until_s = float("-inf")

    def __len__(self) -> int:
        return len(self._newest) + self._hashes

    @property
    def bytes(self) -> int:
        """Memory of the ids."""
        return len(self._newest) * NEWEST_BYTES + self._hashes * HASH_BYTES

    def __contains__(self, session_id: str) -> bool:
        remembered_s = self._newest.get(session_id)
        if remembered_s is not None:
            return self._clock() - remembered_s < self._keep_s
        if not self._runs:
            return False
        self.forget()
        value = self._hash(session_id)
        return any(_index(run.hashes, value) is not None for run in self._runs)

    def add(self, session_id: str, since_s: float) -> None:
        """Remember an id.

        Args:
            since_s: from when on; about in the order of the calls.
        """
        self._newest.pop(session_id, None)
        self._newest[session_id] = since_s
        if len(self._newest) > self._newest_size:
            self._compact()

    def discard(self, session_id: str) -> None:
        """Forget an id. It takes a millisecond where millions are remembered."""
        if self._newest.pop(session_id, None) is None and self._runs:
            value = self._hash(session_id)
            for run in self._runs:
                index = _index(run.hashes, value)
                if index is not None:
                    del run.hashes[index]
                    self._hashes -= 1

    def forget(self) -> None:
        """Forget what was remembered for long enough."""
        over_s = self._clock() - self._keep_s
        while self._runs and self._runs[0].newest_s <= over_s:
            self._hashes -= len(self._runs.pop(0).hashes)
        if not self._runs:
            while self._newest and next(iter(self._newest.values())) <= over_s:
                del self._newest[next(iter(self._newest))]

    def _compact(self) -> None:
        """Make a run of the older half of the newest ids, or of fewer, so that none is kept for much too long."""
        self.forget()
        if len(self._newest) <= self._newest_size:
            return  # their time was over
        half = list(islice(self._newest.items(), max(1, self._newest_size // 2)))
        until_s = half[0][1] + self._keep_s / RUNS
        ids = [session_id for session_id, _ in takewhile(lambda item: item[1] <= until_s, half)]
        times_s = [self._newest.pop(session_id) for session_id in ids]
        hashes = _sorted(array("Q", map(self._hash, ids)))
        self._runs.append(_Run(hashes, min(times_s), max(times_s)))
        self._hashes += len(ids)
        while len(self._runs) > 1:
            older, newer = self._runs[-2:]
            oldest_s, newest_s = min(older.oldest_s, newer.oldest_s), max(older.newest_s, newer.newest_s)
            if len(older.hashes) > 2 * len(newer.hashes) or newest_s - oldest_s > self._keep_s / RUNS:
                break
            self._runs[-2:] = [_Run(_sorted(older.hashes + newer.hashes), oldest_s, newest_s)]
        while self._runs and self._hashes > self._max_hashes:
            run = self._runs.pop(0)
            self._hashes -= len(run.hashes)
            self.forgets_until_s = run.newest_s + self._keep_s

    def _hash(self, session_id: str) -> int:
        return int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=HASH_BYTES, key=self._key).digest())


def _sorted(hashes: array[int]) -> array[int]:
    ordered = array("Q")  # a stable sort merges two ascending parts
    ordered.frombytes(np.sort(np.frombuffer(hashes, np.uint64), kind="stable").tobytes())
    return ordered


def _index(hashes: array[int], value: int) -> int | None:
    index = bisect_left(hashes, value)
    return index if index < len(hashes) and hashes[index] == value else None
