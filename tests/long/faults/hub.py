"""A client of ``/streams``: several sessions on one connection."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from hetsyn_client.columns import (
    APPLIED,
    CHUNK,
    END,
    OPENED,
    RESULTS,
    pack_chunks,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from tests.long.faults.clients import ReferenceRecording
from tests.long.faults.live import THINK_S, Broken, LiveClient, SessionOver
from tests.long.faults.tally import ClientSession
from tests.support.clients.websocket import BINARY, masked

SESSIONS = 4  # of a connection
SAMPLE_BYTES = 2
TURN_SHARE = 0.8  # of the sessions that send a chunk in a turn


class HubClient(LiveClient):
    """Some sessions over ``/streams``. Arguments as those of ``LiveClient``."""

    path = "/streams"

    def _has_work(self) -> bool:
        if not hasattr(self, "_sessions"):
            self._sessions: dict[int, tuple[ClientSession, ReferenceRecording]] = {}  # by handle
            self._next_handle = 0
            self._labels: list[str] = []
        while not self._stopping and len(self._sessions) < SESSIONS:
            self._next_handle += 1
            self._sessions[self._next_handle] = self._begun()
            self._since_s = time.perf_counter()
        return bool(self._sessions)

    def _give_up(self) -> None:
        for session, _ in self._sessions.values():
            self._tally.unanswered(session, session.acknowledged)
        self._sessions = {}

    async def _connection(self) -> None:
        await self._open()
        try:
            self._labels = self._judged(await self._link.frame())["labels"]
        except SessionOver as over:
            raise Broken(str(over)) from None
        opened: set[int] = set()
        while self._has_work():
            if new := [handle for handle in self._sessions if handle not in opened]:
                names = [self._sessions[handle][0].session for handle in new]
                self._send(masked(BINARY, pack_sessions(new, names)))
                opened |= self._read_opened(await self._content(OPENED))
            await self._turn([handle for handle in self._sessions if handle in opened])
            await asyncio.sleep(self._rng.uniform(*THINK_S))

    def _read_opened(self, content: bytes) -> set[int]:
        """Judge where the sessions go on. The handles that may be used.

        Raises:
            Broken: the server has no room for a session now.
        """
        answer = unpack_opened(content)
        for row, handle in enumerate(answer.handle.tolist()):
            session, recording = self._sessions[handle]
            status = int(answer.status[row])
            if status == 503:
                raise Broken(f"503 {answer.more[row]['problem']}")
            if status != APPLIED:
                self._tally.gone(session, f"{status} {answer.more[row]['problem']}")
                del self._sessions[handle]
                continue
            # of an ended session the last row, sent again, gets its answer
            next_seq = min(int(answer.next_seq[row]), len(recording.chunks) - 1)
            if not self._tally.resumed(session, next_seq):
                del self._sessions[handle]
        return set(answer.handle.tolist()) & set(self._sessions)

    async def _turn(self, handles: list[int]) -> None:
        """Send the next chunk of most sessions, and judge the results.

        Raises:
            Broken: another connection is needed.
        """
        chosen = [handle for handle in handles if self._rng.random() < TURN_SHARE]
        if not chosen:
            return
        rows = [self._sessions[handle] for handle in chosen]
        numbers = [session.acknowledged for session, _ in rows]
        contents = [recording.chunks[seq] for (_, recording), seq in zip(rows, numbers, strict=True)]
        ends = [seq == len(recording.chunks) - 1 for (_, recording), seq in zip(rows, numbers, strict=True)]
        for (session, _), seq in zip(rows, numbers, strict=True):
            session.sent = max(session.sent, seq + 1)
        lengths = [len(content) // SAMPLE_BYTES for content in contents]
        actions = [END if is_end else CHUNK for is_end in ends]
        began_s = time.perf_counter()
        self._send(masked(BINARY, pack_chunks(chosen, numbers, lengths, b"".join(contents), 0, actions)))
        answer = unpack_results(await self._content(RESULTS))
        if answer.handle.tolist() != chosen or answer.seq.tolist() != numbers:
            got = answer.handle.tolist(), answer.seq.tolist()
            self._tally.failed_check(f"results of {got}, not {chosen}, {numbers}")
            raise Broken("results of other chunks")
        again = ""
        for row, handle in enumerate(chosen):
            session, _ = rows[row]
            if int(answer.status[row]) != APPLIED:
                again = f"{int(answer.status[row])} {answer.more[row]['problem']}"
                continue
            label = self._labels[int(answer.label[row])] if answer.label[row] >= 0 else None
            probabilities = answer.probabilities[row].astype(np.float64).tolist()
            seq = numbers[row]
            if not self._tally.result(session, seq, seq, label, probabilities, int(answer.total_steps[row])):
                del self._sessions[handle]
                continue
            self._note(began_s)
            if ends[row]:
                self._tally.finished += 1
                del self._sessions[handle]
        if again:
            raise Broken(again)

    async def _content(self, name: bytes) -> bytes:
        """The next frame, which has this name.

        Raises:
            Broken: it is another one.
        """
        content = await self._link.frame()
        if not content.startswith(name):
            self._judged(content)
            raise Broken("another frame")
        return content
