"""A client that opens many short sessions, several at once, and sends every request once, without a number."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hetsyn_client.errors import ServiceProblem, ServiceUnreachable
from hetsyn_client.protocol.calls import Calls, checked
from hetsyn_client.protocol.steps import Broken, Request
from hetsyn_client.sources.bodies import events_body
from tests.simulation.clients.base import URL, Client, packed
from tests.simulation.keys import Rented
from tests.simulation.oracle import LATE_S, PASSING, Content, Sent
from tests.simulation.transport import SimulatedTransport


class Opener(Client):
    """Keeps some sessions open. Leaves a session of which it does not know whether its last chunk counts."""

    is_patient = False

    async def live(self) -> None:
        self._count = 0
        self._open: list[Rented] = []
        draw = self.draw
        for _ in range(self.chunks):
            used = draw.sample(self._open, min(len(self._open), draw.randint(0, 2)))
            begins = draw.choice((0, 0, 1, 2)) if len(self._open) < 4 else 0
            await asyncio.gather(*(self._go_on(one) for one in used), *(self._begin() for _ in range(begins)))
            if draw.random() < 0.1:
                await self._trespass()
            await self.think()
        if draw.random() < 0.7:
            for session in list(self._open):
                await self._delete(session)

    async def _begin(self) -> None:
        self._count += 1
        name = f"{self.name}-{self._count}"
        session = Rented(name, self.key, self.new_oracle(name), self.process.time())
        self.simulation.keyring.rented.append(session)
        self._open.append(session)
        content = self.content()
        await self._chunk(session, session.oracle.sends(0, content), begin=True)

    async def _go_on(self, session: Rented) -> None:
        if not session.oracle.is_known:  # it may have been lost
            self._leave(session)
        elif self.draw.random() < 0.15:
            await self._delete(session)
        else:
            content = self.content(end=self.draw.random() < 0.15)
            await self._chunk(session, session.oracle.sends_unnumbered(content), begin=False)

    async def _chunk(self, session: Rented, sent: Sent, *, begin: bool) -> None:
        transport, content = self._asks(session, is_last=sent.content.end), sent.content
        options: Any = {"session": session.name, "begin": begin, "end": content.end}
        try:
            reply = await transport.run(Calls(URL, 0).infer(events_body(*packed(content)), options))
        except ServiceProblem as problem:
            self.refused(session.oracle, sent, problem)
            is_as_before = problem.status == 429
            if is_as_before:
                self._answered(session, is_over=begin)
            if begin or not is_as_before:
                self._leave(session)
        except (ServiceUnreachable, Broken):
            self.unanswered("a chunk", sent.at_s)
            self._leave(session)
        else:
            self._answered(session, is_over=content.end)
            session.known_s = None if content.end else sent.at_s
            self.acknowledged(session.oracle, sent._replace(seq=reply["seq"]), dict(reply))
            self.simulation.keyring.acknowledged(session)
            if content.end:
                self._leave(session)
        finally:
            transport.close()

    async def _delete(self, session: Rented) -> None:
        if not session.oracle.is_known:
            self._leave(session)
            return
        self._leave(session)
        sent = session.oracle.asks(Content((), end=True))
        transport = self._asks(session, is_last=True)
        try:
            checked(await transport.exchange(Request("DELETE", f"/sessions/{session.name}")))
        except ServiceProblem as problem:
            self.refused(session.oracle, sent, problem)
        except Broken:
            self.unanswered("a deletion", sent.at_s)
        else:
            self.note(f"{session.name} is deleted")
            self._answered(session, is_over=True)
        finally:
            transport.close()

    def _asks(self, session: Rented, *, is_last: bool) -> SimulatedTransport:
        """Make a connection for a request: an idle one may be to a server that lost its power."""
        session.busy_until_s = max(session.busy_until_s, self.process.time() + LATE_S)
        if is_last:
            session.known_s = None
        transport = self.new_transport()
        transport.host = lambda: self.simulation.balance(session.name)
        return transport

    def _answered(self, session: Rented, *, is_over: bool) -> None:
        session.busy_until_s = self.process.time()
        if is_over:
            session.over_s = self.process.time()

    def _leave(self, session: Rented) -> None:
        session.known_s = None
        if session in self._open:
            self._open.remove(session)

    async def _trespass(self) -> None:
        """Ask for another key's session, or without a key."""
        others = [client for client in self.simulation.clients if client.key != self.key and client.oracles]
        if not others:
            return
        draw = self.draw
        name, body = draw.choice(draw.choice(others).oracles).name, events_body(*packed(self.content()))
        method, path, content = draw.choice(
            (
                ("GET", f"/sessions/{name}", b""),
                ("GET", f"/sessions/{name}/state", b""),
                ("DELETE", f"/sessions/{name}", b""),
                ("POST", f"/infer?session={name}&seq=2", body.content),
            )
        )
        is_keyless = draw.random() < 0.2
        transport = self.new_transport({} if is_keyless else None)
        kind = body.content_type if method == "POST" else None
        try:
            response = await transport.exchange(Request(method, path, content, kind))
        except Broken:
            return
        finally:
            transport.close()
        problem = str(json.loads(response.content or b"{}").get("type")).rpartition(":")[2]
        wanted = (401, "key-refused") if is_keyless else (404, "not-found")
        if (response.status, problem) != wanted and response.status not in PASSING:
            self.simulation.complain(f"{self.name}: {method} {path} is answered with {response.status} {problem}")
