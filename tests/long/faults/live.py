"""Clients that stream recordings over WebSockets, cut their own connections at any byte, and move between replicas.

They keep what was not acknowledged, open the session again at a replica at random, and go on where the server says.
Each answer is compared with that of an undisturbed server, bit for bit.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from hetsyn_client.loadtest.connections import Response
from hetsyn_client.sources.bodies import encoding_of
from tests.long.faults.clients import GIVE_UP_S, PAUSE_S, Acknowledgements, ReferenceRecording
from tests.long.faults.lines import REQUEST_TIMEOUT_S, HttpLine, Unanswered
from tests.long.faults.tally import ClientSession, Tally
from tests.support.clients.websocket import TEXT, WebSocket, handshake, masked
from tests.support.servers.target import HetsynTarget

CUT_SHARE, MOVE_SHARE = 0.06, 0.04  # of the turns of a client
THINK_S = (0.0, 0.06)  # between two turns
AT_ONCE = 4  # chunks of a turn, at most
CUT, MOVED, PLAIN = "connection cut at some byte", "session moved to another connection", "as it should"


class Broken(Exception):
    """The connection is gone, or the server wants another. The message has the reason."""


class SessionOver(Exception):
    """The server refuses to open the session. The message has the kind of problem."""


class Link:
    """One WebSocket, whose frames are awaited.

    Attributes:
        is_awaited: whether an answer is awaited.
    """

    def __init__(self) -> None:
        self.is_awaited = False
        self._events: asyncio.Queue[bytes | Response | None] = asyncio.Queue()
        self._socket: WebSocket | None = None

    async def open(self, target: HetsynTarget, path: str, cut: random.Random | None) -> None:
        """Connect, and send the handshake.

        Args:
            target: the replica.
            path: with the query.
            cut: breaks the connection at some byte of the handshake; None does not.

        Raises:
            Broken: no connection.
        """
        opening = handshake(target.address, path)
        self._socket = WebSocket(self, opening if cut is None else opening[: cut.randrange(len(opening))])
        address, socket = target.address, self._socket
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: socket, address.host, address.port)
        except (OSError, TimeoutError):
            raise Broken("no connection") from None
        if cut is not None:
            self.cut()
            raise Broken(CUT)

    def send(self, frames: bytes) -> None:
        if self._socket is not None and self._socket.is_open:
            self._socket.send(frames)

    def cut(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    async def frame(self) -> bytes:
        """The next frame.

        Raises:
            Broken: none comes.
            SessionOver: the handshake was refused for good.
        """
        self.is_awaited = True
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                event = await self._events.get()
        except TimeoutError:
            self.cut()
            raise Broken("no answer in time") from None
        finally:
            self.is_awaited = False
        if event is None:
            raise Broken("connection lost")
        if isinstance(event, Response):
            kind = _problem(event.body)
            if event.status == 503:
                raise Broken(f"503 {kind}")
            raise SessionOver(f"{event.status} {kind}")
        return event

    # the socket calls these

    def opened(self, socket: WebSocket) -> None: ...

    def received(self, socket: WebSocket, opcode: int, content: bytes) -> None:  # noqa: ARG002
        self._events.put_nowait(content)

    def refused(self, socket: WebSocket, response: Response) -> None:  # noqa: ARG002
        self._events.put_nowait(response)

    def closed(self, socket: WebSocket) -> None:  # noqa: ARG002
        self._events.put_nowait(None)


class LiveClient(ABC):
    """Streams recordings, one connection at a time. After ``stop`` it finishes the present sessions.

    Args:
        index: of the client, from 0.
        recordings: to choose from. The last chunk of each is empty, and ends the session.
        targets: one for each replica.
        tally: judges the answers.
        acknowledgements: receives the acknowledged chunks.
        seed: of all random choices.
        pinned: whether a session stays on one replica, as it must without a shared store.
    """

    path: str
    more: ClassVar[dict[str, str]] = {}  # further parameters

    def __init__(
        self,
        index: int,
        recordings: Sequence[ReferenceRecording],
        targets: Sequence[HetsynTarget],
        tally: Tally,
        acknowledgements: Acknowledgements,
        seed: int,
        *,
        pinned: bool,
    ) -> None:
        self.index = index
        self._recordings = recordings
        self._targets = targets
        self._tally = tally
        self._acknowledgements = acknowledgements
        self._rng = random.Random(f"{seed}-{index}")
        self._name = f"faults-{seed}-{index}"
        self._pinned = pinned
        self._replica = self._rng.randrange(len(targets))
        self._link = Link()
        self._stopping = False
        self._count = 0
        self._since_s = time.perf_counter()  # of the last progress

    def stop(self) -> None:
        self._stopping = True

    def is_busy_with(self, replica: int) -> bool:
        return self._replica == replica and self._link.is_awaited

    def cut(self, replica: int) -> bool:
        """Break the connection to a replica. Whether an answer was awaited."""
        was_busy = self.is_busy_with(replica)
        if self._replica == replica:
            self._link.cut()
        return was_busy

    async def run(self) -> None:
        try:
            while self._has_work():
                try:
                    await self._connection()
                except Broken as error:
                    if str(error) != CUT:
                        self._tally.failed(str(error))
                    if time.perf_counter() - self._since_s > GIVE_UP_S:
                        self._give_up()
                    await asyncio.sleep(self._rng.uniform(*PAUSE_S))
                finally:
                    self._link.cut()
        finally:
            self._link.cut()

    @abstractmethod
    def _has_work(self) -> bool:
        """Whether there is a session, which is begun here if need be."""

    @abstractmethod
    async def _connection(self) -> None:
        """Use one connection.

        Raises:
            Broken: another one is needed.
        """

    @abstractmethod
    def _give_up(self) -> None:
        """Give up the sessions: the server does not answer."""

    def _begun(self) -> tuple[ClientSession, ReferenceRecording]:
        """A new session."""
        recording = self._rng.choice(self._recordings)
        self._count += 1
        self._tally.sessions += 1
        return ClientSession(f"{self._name}-{self._count}", recording.replies), recording

    async def _open(self, **query: str) -> None:
        """Open a connection to a replica at random.

        Raises:
            Broken: it is none.
        """
        if not self._pinned:
            self._replica = self._rng.randrange(len(self._targets))
        target = self._targets[self._replica]
        parameters = {**query, "model": target.model, "version": target.version}
        parameters |= encoding_of(target.content_type) | self.more
        path = f"{self.path}?{urlencode(parameters)}"
        cut = self._rng if self._rng.random() < CUT_SHARE / 4 else None
        self._link = Link()
        await self._link.open(target, path, cut)

    def _judged(self, content: bytes) -> dict[str, Any]:
        """A text frame.

        Raises:
            Broken: it says that another connection is needed.
        """
        frame: dict[str, Any] = json.loads(content)
        if frame["type"] == "Error":
            raise Broken(f"{frame['status']} {frame['problem']}")
        return frame

    def _send(self, frames: bytes) -> None:
        """Send frames, or a part of them.

        Raises:
            Broken: the connection was cut, or is to be left with answers under way.
        """
        chance = self._rng.random()
        if chance < CUT_SHARE:
            self._tally.manners[CUT] += 1
            self._link.send(frames[: self._rng.randrange(len(frames))])
            self._link.cut()
            raise Broken(CUT)
        self._link.send(frames)
        if chance < CUT_SHARE + MOVE_SHARE:
            self._tally.manners[MOVED] += 1
            old, self._link = self._link, Link()  # the old connection stays open, so that it is taken over
            asyncio.get_running_loop().call_later(self._rng.uniform(0, 0.2), old.cut)
            raise Broken(CUT)
        self._tally.manners[PLAIN] += 1

    def _note(self, began_s: float) -> None:
        self._since_s = time.perf_counter()
        self._acknowledgements.note(self._replica, self.index, self._since_s - began_s)


class StreamClient(LiveClient):
    """One session at a time over ``/stream``."""

    path = "/stream"
    more: ClassVar[dict[str, str]] = {"endpointing": "off"}  # each result is compared with that of ``/infer``
    _session: ClientSession | None = None
    _recording: ReferenceRecording

    def _has_work(self) -> bool:
        if self._session is None and not self._stopping:
            self._session, self._recording = self._begun()
            self._since_s = time.perf_counter()
        return self._session is not None

    def _give_up(self) -> None:
        assert self._session is not None
        self._tally.unanswered(self._session, self._session.acknowledged)
        self._session = None

    async def _connection(self) -> None:
        session = self._session
        assert session is not None
        await self._open(session=session.session)
        try:
            begin = self._judged(await self._link.frame())
        except SessionOver as over:
            await self._kept_end(session, str(over))
            return
        if begin["type"] != "Begin" or not self._tally.resumed(session, begin["next_seq"]):
            self._session = None
            return
        end = len(self._recording.chunks) - 1
        while session.acknowledged < end:
            most = self._rng.randint(1, AT_ONCE)
            numbers = range(session.acknowledged, min(end, session.acknowledged + most))
            began_s, session.sent = time.perf_counter(), max(session.sent, numbers.stop)
            self._send(b"".join(masked(2, self._recording.chunks[seq]) for seq in numbers))
            for seq in numbers:
                frame = self._judged(await self._link.frame())
                values = frame["label"], frame["probabilities"], frame["total_steps"]
                if not self._tally.result(session, frame["seq"], seq, *values):
                    self._session = None
                    return
                self._note(began_s)
            await asyncio.sleep(self._rng.uniform(*THINK_S))
        session.sent = end + 1
        self._send(masked(TEXT, json.dumps({"type": "CloseStream", "last_seq": end - 1}).encode()))
        frame = self._judged(await self._link.frame())
        # its time is that of the steps; the steps themselves are not in this frame
        steps = round(1000 * frame["end"] / begin["step_ms"])
        self._finish(session, self._tally.result(session, end, end, frame["label"], frame["probabilities"], steps))

    async def _kept_end(self, session: ClientSession, why: str) -> None:
        """The session may have ended, and its last answer is lost: ask for it.

        Raises:
            Broken: the server does not answer.
        """
        end = len(self._recording.chunks) - 1
        if why != "409 session-ended" or session.sent <= end:
            self._tally.gone(session, why)
            self._session = None
            return
        target = self._targets[self._replica]
        request = target.request(session.session, end, b"", is_last=True)
        line = HttpLine(target.address)
        try:
            response = await line.exchange(request)
        except Unanswered as error:
            raise Broken(str(error)) from None
        finally:
            line.cut()
        if response.status != 200:
            raise Broken(f"{response.status} {_problem(response.body)}")
        reply = json.loads(response.body)
        self._tally.resumed(session, end)
        values = reply["label"], reply["probabilities"], reply["total_steps"]
        self._finish(session, self._tally.result(session, reply["seq"], end, *values))

    def _finish(self, session: ClientSession, is_well: bool) -> None:
        if is_well and not session.broken:
            self._tally.finished += 1
            self._note(time.perf_counter())
        self._session = None


def _problem(body: bytes) -> str:
    try:
        return str(json.loads(body)["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return "no problem"
