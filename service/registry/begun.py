"""The ids of the sessions that a worker has begun, in a file that outlives it.

Without a store, a worker's sessions end with its process. The next process under its number reads their ids, and so
refuses their chunks: nothing begins anew silently. The file has the hashes of ids in two halves of a ring. A half that
is full is replaced by the other one, which begins with the sessions that are there then.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import xxhash

_HEAD = struct.Struct("<Q")  # of a half: how many hashes it has; 0 where the other half is in use
_HASH = struct.Struct("<Q")
_RELEASED = struct.Struct("<QQ")  # 0, and then the hash of an id that is free again
LEAST_HASHES = 1 << 16  # of a half


class BegunSessions:
    """The sessions of a worker, by the hashes of their ids.

    Args:
        path: of the file; an earlier process may have made it.
        seed: of the hash, the same for each process of a worker.
        most: sessions at a time.
    """

    def __init__(self, path: Path, seed: int, most: int) -> None:
        self._seed = seed
        self._room = max(LEAST_HASHES, 4 * most)
        self._half_bytes = _HEAD.size + _HASH.size * self._room
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, 2 * self._half_bytes)
            self._file = mmap.mmap(fd, 2 * self._half_bytes)
        finally:
            os.close(fd)
        self._begin = 0 if self._used(0) >= self._used(self._half_bytes) else self._half_bytes
        self.lost = self._read()
        self.ids: Callable[[], Iterable[str]] = tuple
        """The sessions that are there."""

    def begin(self, session_id: str) -> None:
        """A session has begun."""
        self._write(_HASH.pack(self._hash(session_id)))

    def release(self, session_id: str) -> None:
        """An id is free again."""
        self.lost.discard(self._hash(session_id))
        self._write(_RELEASED.pack(0, self._hash(session_id)))

    def has_lost(self, session_id: str) -> bool:
        """Whether an earlier process had a session of this id."""
        return bool(self.lost) and self._hash(session_id) in self.lost

    def close(self) -> None:
        self._file.close()

    def _hash(self, session_id: str) -> int:
        return xxhash.xxh3_64_intdigest(session_id.encode(), self._seed) or 1

    def _used(self, begin: int) -> int:
        return int(_HEAD.unpack_from(self._file, begin)[0])

    def _write(self, entry: bytes) -> None:
        used = self._used(self._begin)
        if used + len(entry) // _HASH.size > self._room:
            self._change_halves()
            used = self._used(self._begin)
        position = self._begin + _HEAD.size + used * _HASH.size
        self._file[position : position + len(entry)] = entry
        _HEAD.pack_into(self._file, self._begin, used + len(entry) // _HASH.size)

    def _change_halves(self) -> None:
        hashes = ({self._hash(session_id) for session_id in self.ids()} | self.lost) - {0}
        kept = list(hashes)[: self._room // 2]
        before, self._begin = self._begin, self._half_bytes - self._begin
        position = self._begin + _HEAD.size
        entries = b"".join(map(_HASH.pack, kept))
        self._file[position : position + len(entries)] = entries
        _HEAD.pack_into(self._file, self._begin, len(kept))
        _HEAD.pack_into(self._file, before, 0)

    def _read(self) -> set[int]:
        count = self._used(self._begin)
        entries = struct.unpack_from(f"<{count}Q", self._file, self._begin + _HEAD.size)
        lost: set[int] = set()
        is_released = False
        for entry in entries:
            if is_released:
                lost.discard(entry)
            elif entry:
                lost.add(entry)
            is_released = not entry
        return lost
