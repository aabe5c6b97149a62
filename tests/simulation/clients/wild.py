"""A client that does what none should: twice at once, out of order, with other content, over any door and server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from hetsyn_client.access import access_of
from hetsyn_client.errors import ServiceProblem, ServiceUnreachable
from hetsyn_client.protocol.live_steps import LiveOptions, LiveSteps
from hetsyn_client.protocol.steps import Broken, Request
from tests.simulation.clients.base import TIMEOUT_S, URL, Client
from tests.simulation.clients.doors import Door, Doors
from tests.simulation.oracle import LATE_S, PASSING, Content, Sent, SessionOracle
from tests.simulation.transport import SimulatedTransport

NEXT = ((0,), (0, 0, -1), (0, 0, 0, 0, 0, -1, -1, -2, 1))
"""The number of a chunk, less the one that the client takes for the next."""

COPIES = ((1,), (1, 1, 1, 2, 3), (*(1,) * 15, 20))
"""How often a client sends a chunk at once."""

BESIDE_STEPS = 7  # a chunk that the client sends nowhere else


class Wild(Client):
    """Sends chunks of one session."""

    is_patient = False

    async def live(self) -> None:
        self._begins_anew(self.name)
        self._under_way: dict[asyncio.Task[str | None], None] = {}  # in this order
        self._doors = Doors(self)
        copies, acts = self.draw.choice(COPIES), self.draw.choice((0.02, 0.1, 0.4))
        actions: list[Callable[[], Any]] = [
            self._delete,
            self._delete_beside,
            self._describe,
            self._export,
            self._import,
            self._import_beside,
            self._in_order,
            self._rivals,
            self._idle,
            self._unnumbered,
            self._begin,
        ]
        draw = self.draw
        actions = draw.sample(actions, draw.randint(1, 4))
        nexts, others, ends = draw.choice(NEXT), draw.choice((0.0, 0.1)), draw.choice((0.0, 0.1))
        for number in range(2 * self.chunks):
            if draw.random() < acts:
                await self._quiet()
                await draw.choice(actions)()
            if self._has_ended and draw.random() < 0.3:
                await self._quiet()
                self._begins_under_another_id()
            seq = max(0, self._next + draw.choice(nexts))
            choices = self._contents.setdefault(seq, [])
            if not choices or draw.random() < others:
                choices.append(self.content(end=number > self.chunks // 2 and draw.random() < ends))
            content = draw.choice(choices)
            for _ in range(draw.choice(copies)):
                door = draw.choice(self._doors.all)
                task = asyncio.get_running_loop().create_task(self._send(self._oracle, seq, content, door))
                self._under_way[task] = None
                task.add_done_callback(self._under_way.pop)
            if draw.random() < self.leaves:
                await self.haste()
                if self._under_way:
                    draw.choice([*self._under_way]).cancel()
                    self.unsure_s = self.process.time()
            if len(self._under_way) > 3 or draw.random() < 0.6:
                await self._quiet()
            await self.think()
        await self._quiet()
        await self._doors.close()

    async def _quiet(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, oracle: SessionOracle, seq: int, content: Content, door: Door) -> str | None:
        """Send a chunk. Returns the code of its refusal: empty if it was acknowledged, None if nobody knows."""
        transport, sent, sent_s = self.new_transport(), oracle.sends(seq, content), self.process.time()
        try:
            reply = await door(transport, content, seq, False)
        except ServiceProblem as problem:
            self.refused(oracle, sent, problem)
            if problem.expected_seq is not None:
                self._next = problem.expected_seq
            elif problem.problem == "session-ended":
                self._has_ended = True
            elif problem.problem == "not-found":
                self._next = 0
                self._names_a_version()
            return problem.problem
        except (ServiceUnreachable, Broken):
            self.unanswered(f"chunk {sent.seq}", sent_s)
            return None
        else:
            if reply is not None:
                self.acknowledged(oracle, sent, reply)
            self._next = max(self._next, sent.seq + 1)
            return ""
        finally:
            transport.close()

    # actions on the session, while nothing else is under way

    async def _asked(self, method: str, target: str, content: bytes = b"", kind: str | None = None) -> Any:
        """Send a request. Returns the response; None if it got no answer, or the server says "later"."""
        try:
            response = await self.transport.exchange(Request(method, target, content, kind))
        except Broken:
            self.note(f"{method}: no answer")
            self.unsure_s = self.process.time()
            return None
        self.note(f"{method}: {response.status}")
        if response.status in (429, 503):
            return None
        if response.status not in (200, 201, 204, 404, 409, 410):
            self.simulation.complain(f"{self.name}: {method} {target}: {response.status} {response.content[:200]!r}")
        return response

    async def _delete(self) -> None:
        is_there = self._oracle.is_fresh and not self._is_unsure
        lives_s, asked_s = min(self.simulation.lives_s(False), self.simulation.age_s()[0]), self.process.time()
        self._oracle.may_end(LATE_S)
        response = await self._asked("DELETE", f"/sessions/{self.session}")
        if response is None:
            return
        is_there &= self.process.time() < asked_s + lives_s / 2
        if response.status == 404 and is_there:
            self.simulation.complain(f"{self.name}: the session was deleted, and DELETE says that it was not there")
        last = self._next - self.draw.choice((0, 1))
        content = self.draw.choice(self._contents.get(last) or [self.content()])
        expired_here = response.status == 404 and self.simulation.clocks_apart_s > 0  # and elsewhere it may go on
        if self._is_unsure or expired_here:
            self._begins_under_another_id()
            return
        self._begins_anew(self.session)
        if last > 0:  # neither does what has an answer get it again, nor does the session go on
            await self._send(self._oracle, last, content, self.draw.choice(self._doors.all))

    @property
    def _is_unsure(self) -> bool:
        """Return whether a request without an answer may still be carried out."""
        return self.process.time() < self.unsure_s + LATE_S

    async def _delete_beside(self) -> None:
        """Delete a session while a chunk of it is under way: it is gone, whichever comes first."""
        self._begins_under_another_id()
        for seq in range(2):
            await self._send(self._oracle, seq, self.content(), self._doors.infer)
        oracle = self._oracle
        sending = asyncio.get_running_loop().create_task(self._send(oracle, 2, self.content(), self._doors.infer))
        await self.haste()
        oracle.may_end(LATE_S)
        response = await self._asked("DELETE", f"/sessions/{self.session}")
        await sending
        if response is not None and response.status == 204 and not self._is_unsure:
            response = await self._asked("GET", f"/sessions/{self.session}")
            if response is not None and response.status == 200:
                self.simulation.complain(f"{self.name}: a session goes on that was deleted while a chunk was under way")
        self._begins_under_another_id()

    def _begins_anew(self, session: str) -> None:
        """Expect a new session: nothing of the old one may come back."""
        self.session = session
        self._oracle = self.new_oracle(session)
        self._contents: dict[int, list[Content]] = {}
        self._next, self._state, self._has_ended = 0, None, False
        self._names_a_version()

    def _names_a_version(self) -> None:
        """Draw the version that requests over HTTP name."""
        self.version = self.draw.choice((None, None, *self.simulation.plan.versions))

    async def _unnumbered(self) -> None:
        """Send a chunk without a number. If there is no answer, nobody knows whether it counts: leave the session."""
        if self._oracle.is_known:
            content = self.content()
            await self._once(content, self._oracle.sends_unnumbered(content), begin=False)

    async def _begin(self) -> None:
        """Begin the session again under its id."""
        if self._is_unsure:  # an old chunk may come late, and count in the new session
            return
        self._oracle.may_end(LATE_S)
        content = self.content()
        await self._once(content, self._oracle.sends(0, content), begin=True)

    async def _once(self, content: Content, sent: Sent, *, begin: bool) -> None:
        """Send a chunk without a number, once."""
        oracle, sent_s = self._oracle, self.process.time()
        transport = self.new_transport()  # of its own: an idle connection may be to a server that lost its power
        try:
            reply = await self.draw.choice(self._doors.all)(transport, content, None, begin)
        except ServiceProblem as problem:
            if problem.status not in PASSING:
                self.refused(oracle, sent, problem)
                return
        except (ServiceUnreachable, Broken):
            self.unanswered("an unnumbered chunk", sent_s)
        else:
            if begin:  # what was asked before is over
                self._begins_anew(self.session)
                sent = self._oracle.sends(0, content, sent.at_s)
            sent = sent._replace(seq=reply["seq"])
            self.acknowledged(self._oracle, sent, reply)
            self._contents[sent.seq] = [content]
            self._next = sent.seq + 1
            return
        finally:
            transport.close()
        self._begins_under_another_id()

    def _begins_under_another_id(self) -> None:
        self._number += 1
        self._begins_anew(f"{self.name}-{self._number}")

    _number = 0

    async def _describe(self) -> None:
        sent = self._oracle.asks(Content((), False))
        response = await self._asked("GET", f"/sessions/{self.session}")
        if response is not None:
            known = json.loads(response.content)
            if response.status == 200:
                self._oracle.is_described(sent, known["expected_seq"], known["total_steps"])
            else:
                self._oracle.refuses(sent, response.status, known["type"].rpartition(":")[2], known.get("expected_seq"))

    async def _export(self) -> None:
        response = await self._asked("GET", f"/sessions/{self.session}/state")
        if response is not None and response.status == 200:
            self._state = response.content

    async def _import(self) -> None:
        if self._state is not None:
            self._oracle.may_end(LATE_S)
            kind, asked_s = "application/octet-stream", self.process.time()
            response = await self._asked("PUT", f"/sessions/{self.session}/state?replace=true", self._state, kind)
            if response is not None and response.status in (200, 201):
                idle_s, took_s = json.loads(response.content)["idle_s"], self.process.time() - asked_s
                if idle_s > took_s + self.simulation.clocks_apart_s:
                    self.simulation.complain(f"{self.name}: was imported now, and has been idle for {idle_s} s")

    async def _import_beside(self) -> None:
        """Import a state, not in place of another session, while the session begins: one of both is refused."""
        self._begins_under_another_id()
        began_s = self.process.time()
        await self._send(self._oracle, 0, self.content(), self._doors.infer)
        await self._export()
        for _ in range(3):
            response = await self._asked("DELETE", f"/sessions/{self.session}")
            if response is None or self._state is None:
                break
            await self._import_and_begin(self._state, began_s)
        self._begins_under_another_id()

    async def _import_and_begin(self, state: bytes, began_s: float) -> None:
        first = Content(((),) * BESIDE_STEPS, end=False)
        request = f"/sessions/{self.session}/state", state, "application/octet-stream"
        asking = asyncio.get_running_loop().create_task(self._asked("PUT", *request))
        transport = self.new_transport()
        try:
            await self._doors.infer(transport, first, 0, False)
            imported = await asking
            lives_s = min(self.simulation.lives_s(False), self.simulation.age_s()[0])  # by whatever clock
            is_alive = self.process.time() < began_s + lives_s  # a state keeps its age
            if is_alive and imported is not None and imported.status in (200, 201):
                self.simulation.complain(f"{self.name}: a session was replaced by an import, and did not allow it")
        except (ServiceProblem, ServiceUnreachable, Broken) as error:
            self.note(f"chunk 0 beside an import: {error}")
            await asking
        transport.close()

    async def _in_order(self) -> None:
        """Call one server for three chunks at once: they come in order, and take their turns in order."""
        self._begins_under_another_id()
        oracle, host = self._oracle, partial(str, self.transport.host())

        async def door(transport: SimulatedTransport, content: Content, seq: int | None, begin: bool) -> Any:
            transport.host = host
            return await self._doors.grpc(transport, content, seq, begin)

        calls = (self._send(oracle, seq, self.content(), door) for seq in range(3))
        outcomes = await asyncio.gather(*calls)
        for before, outcome in pairwise(outcomes):
            if (before, outcome) == ("", "out-of-order") and not (oracle.has_ended or self.simulation.plan.limits):
                self.simulation.complain(f"{self.name}: chunks came in order, and their turns in another: {outcomes}")

    async def _rivals(self) -> None:
        """Stream one session over several connections to a server: each takes it from the one before, which is told."""
        sent_s, transport = self.process.time(), self.new_transport()
        transport.host = partial(str, self.transport.host())
        options = LiveOptions(session=f"{self.name}-rivals", timeout_s=TIMEOUT_S, repeats=0, patience_s=TIMEOUT_S)
        rivals = [LiveSteps(access_of(URL, {}), options) for _ in range(3)]
        try:
            for rival in rivals:
                await transport.run(rival.begin_once())
            for rival in rivals[:-1]:
                try:
                    await transport.run(rival.receive(TIMEOUT_S))
                except ServiceProblem as problem:
                    self.note(f"a stream was ended: {problem.problem}")
                else:
                    self.unanswered("a stream whose session was taken", sent_s)
        except (ServiceProblem, ServiceUnreachable) as error:
            self.note(f"streams of one session: {error}")
        for rival in rivals:
            await transport.run(rival.close())

    async def _idle(self) -> None:
        await self.nap()
        self._state = None
