"""Clients that stream recordings to replicas at random, misbehave, and report every answer to a tally."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from tests.long.faults.doors import Door
from tests.long.faults.lines import HttpLine, Line, Unanswered
from tests.long.faults.tally import ChunkVerdict, ClientSession, Probe, Tally
from tests.support.servers.target import Address

GIVE_UP_S = 60.0  # of one chunk: on a busy machine, a server that starts twice takes half of it
PAUSE_S = (0.01, 0.06)  # before a chunk is repeated; less than Retry-After, so that servers get more repeats
THINK_S = (0.0, 0.06)  # between the chunks of a session
REPEAT_LAST_WITHIN_S = 20.0  # a third of the time for which a server keeps an ended session's last reply
REPEAT_LAST_SHARE = 0.5


class Manner(StrEnum):
    """How a client sends a chunk."""

    plain = "as it should"
    twice_at_once = "twice at the same time"
    repeated = "again, once it is answered"
    stale = "then an older one again"
    early = "the one after it first"
    conflicting = "then others under its number"
    cut_within = "cut in mid-request"
    cut_before_reply = "cut before the reply"


SHARES = {
    Manner.plain: 72, Manner.twice_at_once: 6, Manner.repeated: 5, Manner.stale: 3, Manner.early: 4,
    Manner.conflicting: 2, Manner.cut_within: 4, Manner.cut_before_reply: 4,
}  # fmt: skip
WITHOUT_NUMBER = "without a number, once"


@dataclass(frozen=True)
class ReferenceRecording:
    """A recording whose answers are known.

    Attributes:
        chunks: bodies of requests.
        replies: of an undisturbed server, as ``tally.as_reference`` makes them.
    """

    name: str
    chunks: tuple[bytes, ...]
    replies: tuple[bytes, ...]


class Acknowledgements:
    """The acknowledged chunks: when, by which replica, to which client, and after which wait.

    Attributes:
        times_s: on the clock of ``time.perf_counter``.
        waits_s: from the first try to send a chunk.
    """

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.waits_s: list[float] = []
        self._awaited: dict[str, asyncio.Event] = {}

    def note(self, replica: int, client: int, waited_s: float) -> None:
        self.times_s.append(time.perf_counter())
        self.waits_s.append(waited_s)
        for path in (replica_path(replica), client_path(client)):
            if (event := self._awaited.get(path)) is not None:
                event.set()

    async def on_each(self, paths: Sequence[str]) -> None:
        """Wait until a chunk has been acknowledged on each of these paths from now on."""
        self._awaited = {path: asyncio.Event() for path in paths}
        for event in self._awaited.values():
            await event.wait()


def replica_path(index: int) -> str:
    return f"replica {index}"


def client_path(index: int) -> str:
    return f"client {index}"


class Client:
    """Streams one recording after the other. After ``stop`` it finishes the present session.

    Args:
        index: of the client, from 0.
        recordings: to choose from.
        doors: one for each replica.
        tally: judges the answers.
        acknowledgements: receives the acknowledged chunks.
        seed: of all random choices.
        pinned: whether a session stays on one replica, as it must without a shared store.
        is_numbering: whether chunks have numbers. An unnumbered chunk is sent once, and a session ends with the first
            one that gets no answer.
        may_lose: the store may lose a chunk. Then its number is free again, so no client uses it for other content.
    """

    def __init__(
        self,
        index: int,
        recordings: Sequence[ReferenceRecording],
        doors: Sequence[Door],
        tally: Tally,
        acknowledgements: Acknowledgements,
        seed: int,
        *,
        pinned: bool,
        is_numbering: bool = True,
        may_lose: bool = False,
    ) -> None:
        self.index = index
        self._recordings = recordings
        self._doors = doors
        self._tally = tally
        self._acknowledgements = acknowledgements
        self._rng = random.Random(f"{seed}-{index}")
        self._name = f"faults-{seed}-{index}"
        self._pinned = pinned
        self._is_numbering = is_numbering
        self._shares = {way: share for way, share in SHARES.items() if not (may_lose and way is Manner.conflicting)}
        self._own_replica = 0
        self._lines = [door.line() for door in doors]
        self._spare = [door.line() for door in doors]
        self._ended: list[tuple[float, int, ClientSession, ReferenceRecording]] = []
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def is_busy_with(self, replica: int) -> bool:
        return self._lines[replica].is_busy or self._spare[replica].is_busy

    def cut(self, replica: int) -> bool:
        """Break the connections to a replica. Whether one of them had a request under way."""
        was_busy = self.is_busy_with(replica)
        for line in (self._lines[replica], self._spare[replica]):
            line.cut()
        return was_busy

    async def run(self) -> None:
        count = 0
        try:
            while not self._stopping:
                await self._session(f"{self._name}-{count}", self._rng.choice(self._recordings))
                count += 1
            for _ in range(len(self._ended)):
                await self._repeat_last_chunk()
        finally:
            for line in (*self._lines, *self._spare):
                await line.close()

    async def _session(self, name: str, recording: ReferenceRecording) -> None:
        stream = ClientSession(name, recording.replies)
        self._tally.sessions += 1
        self._own_replica = self._rng.randrange(len(self._doors))
        if not self._is_numbering:
            await self._unnumbered(stream, recording)
            return
        while stream.acknowledged < len(recording.chunks):
            if not await self._chunk(stream, recording):
                return
            await asyncio.sleep(self._rng.uniform(*THINK_S))
        self._tally.finished += 1
        self._ended.append((time.perf_counter(), self._own_replica, stream, recording))
        if self._rng.random() < REPEAT_LAST_SHARE:
            await self._repeat_last_chunk()

    async def _unnumbered(self, stream: ClientSession, recording: ReferenceRecording) -> None:
        """A session of chunks without numbers."""
        for seq in range(len(recording.chunks)):
            request, replica = self._request(stream, recording, seq), self._replica()
            self._tally.manners[WITHOUT_NUMBER] += 1
            stream.sent, began_s = seq + 1, time.perf_counter()
            judge = partial(self._tally.chunk, stream, seq)
            verdict = await self._exchange(stream, self._lines[replica], request[replica], judge)
            if verdict is ChunkVerdict.acknowledged:
                self._acknowledgements.note(replica, self.index, time.perf_counter() - began_s)
            elif verdict is ChunkVerdict.later and self._doors[replica].carries:
                if not await self._persist(stream, seq, request, self._lines):
                    return
            elif verdict is ChunkVerdict.later:
                await self._inspect(stream)
                return
            else:
                return
            await asyncio.sleep(self._rng.uniform(*THINK_S))
        self._tally.finished += 1

    async def _inspect(self, stream: ClientSession) -> None:
        """Ask for the state of a session until a replica answers."""
        began_s, verdict = time.perf_counter(), ChunkVerdict.later
        while verdict is ChunkVerdict.later:
            if time.perf_counter() - began_s > GIVE_UP_S:
                self._tally.unanswered(stream, stream.sent)
                return
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            replica = self._replica()
            address = self._doors[replica].address
            line = HttpLine(address)
            try:
                response = await line.exchange(session_request(address, stream.session))
            except Unanswered as error:
                self._tally.failed(str(error))
            else:
                verdict = self._tally.inspected(stream, response.status, response.body)
            finally:
                await line.close()

    async def _chunk(self, stream: ClientSession, recording: ReferenceRecording) -> bool:
        """Send the next chunk until it is acknowledged. False if the session was given up."""
        seq, last = stream.acknowledged, len(recording.chunks) - 1
        manner = self._rng.choices(list(self._shares), list(self._shares.values()))[0]
        self._tally.manners[manner.value] += 1
        request = self._request(stream, recording, seq)
        # not if this chunk was sent early without an answer: it may be applied by now, and the next would not be early
        if manner is Manner.early and seq < last and stream.sent <= seq:
            await self._early(stream, recording, seq + 1)
        stream.sent = max(stream.sent, seq + 1)
        if manner in (Manner.cut_within, Manner.cut_before_reply):
            part = self._rng.randrange(1, len(request[0])) if manner is Manner.cut_within else len(request[0])
            replica = self._replica()
            try:
                await self._lines[replica].tear(request[replica], part, self._rng.uniform(0, 0.005))
            except Unanswered as error:
                self._tally.failed(str(error))
        if manner is Manner.twice_at_once:
            verdicts = await asyncio.gather(
                self._persist(stream, seq, request, self._lines), self._persist(stream, seq, request, self._spare)
            )
            is_well = all(verdicts)
        else:
            is_well = await self._persist(stream, seq, request, self._lines)
        if not is_well or stream.acknowledged <= seq:
            return False
        if manner is Manner.repeated:
            await self._probe(stream, Probe.repeated, seq, request)
        elif seq == last and self._doors[0].carries:
            pass  # there is no token to send another chunk with
        elif manner is Manner.stale and seq > 0:
            await self._probe(stream, Probe.stale, seq - 1, self._request(stream, recording, seq - 1))
        elif manner is Manner.conflicting and seq > 0:
            other = bytes(byte ^ 1 for byte in recording.chunks[seq])
            await self._probe(stream, Probe.conflicting, seq, self._request(stream, recording, seq, other))
        return not stream.broken

    async def _early(self, stream: ClientSession, recording: ReferenceRecording, seq: int) -> None:
        before, stream.sent = stream.sent, max(stream.sent, seq + 1)
        verdict = await self._probe(stream, Probe.early, seq, self._request(stream, recording, seq))
        if verdict is ChunkVerdict.acknowledged:
            stream.sent = before  # the chunk was certainly refused

    async def _persist(self, stream: ClientSession, seq: int, request: Sequence[bytes], lines: Sequence[Line]) -> bool:
        began_s = time.perf_counter()
        while not stream.broken:
            replica = self._replica()
            judge = partial(self._tally.chunk, stream, seq)
            verdict = await self._exchange(stream, lines[replica], request[replica], judge)
            if verdict is ChunkVerdict.acknowledged:
                self._acknowledgements.note(replica, self.index, time.perf_counter() - began_s)
            if verdict is not ChunkVerdict.later:
                return verdict is not ChunkVerdict.broken
            if time.perf_counter() - began_s > GIVE_UP_S:
                self._tally.unanswered(stream, seq)
                return False
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
        return False

    async def _probe(self, stream: ClientSession, probe: Probe, seq: int, request: Sequence[bytes]) -> ChunkVerdict:
        replica = self._replica()
        judge = partial(self._tally.probe, stream, probe, seq)
        return await self._exchange(stream, self._lines[replica], request[replica], judge)

    async def _exchange(
        self, stream: ClientSession, line: Line, request: bytes, judge: Callable[[int, bytes], ChunkVerdict]
    ) -> ChunkVerdict:
        """The tally's verdict on the answer; ``later`` if no answer came."""
        try:
            response = await line.exchange(request)
        except Unanswered as error:
            self._tally.failed(str(error))
            return ChunkVerdict.later
        return judge(response.status, self._doors[0].read(stream, response))

    async def _repeat_last_chunk(self) -> None:
        """Repeat the last chunk of an ended session. Several faults may have happened since."""
        ended_s, self._own_replica, stream, recording = self._ended.pop(self._rng.randrange(len(self._ended)))
        if time.perf_counter() - ended_s < REPEAT_LAST_WITHIN_S:
            last = len(recording.chunks) - 1
            await self._probe(stream, Probe.repeated, last, self._request(stream, recording, last))

    def _replica(self) -> int:
        return self._own_replica if self._pinned else self._rng.randrange(len(self._doors))

    def _request(
        self, stream: ClientSession, recording: ReferenceRecording, seq: int, chunk: bytes | None = None
    ) -> list[bytes]:
        """The request for a chunk, one for each replica."""
        content = recording.chunks[seq] if chunk is None else chunk
        is_last = seq == len(recording.chunks) - 1
        return [
            door.request(stream, seq, content, is_last=is_last, is_numbered=self._is_numbering) for door in self._doors
        ]


def session_request(address: Address, session: str) -> bytes:
    """The request for the state of a session."""
    return f"GET /sessions/{session} HTTP/1.1\r\nHost: {address.authority}\r\n\r\n".encode()
