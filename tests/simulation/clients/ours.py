"""Clients that behave: our own, by its generators, over each door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hetsyn_client.access import access_of
from hetsyn_client.columns import APPLIED, CHUNKS, HEAD, RESULTS, Results, unpack_results
from hetsyn_client.errors import ServiceProblem, ServiceUnreachable, SessionLost
from hetsyn_client.many import LiveStreams
from hetsyn_client.protocol.calls import Calls, SessionOptions
from hetsyn_client.protocol.live_steps import LiveSteps
from hetsyn_client.protocol.patience import LONGEST_PAUSE_S
from hetsyn_client.protocol.session_steps import SessionSteps
from hetsyn_client.protocol.steps import Broken, ReadFrame, Request, SendFrame, Steps, carried_out
from hetsyn_client.sources.bodies import events_body
from tests.simulation.clients.base import PATIENCE, URL, Client, packed
from tests.simulation.oracle import PASSING, Content, Sent, SessionOracle

MANY = 130  # sessions of one connection: a frame is applied in slices


Sessions = dict[int, tuple[SessionOracle, list[Sent]]]
"""By handle, with the chunks that were sent."""


class Infer(Client):
    """Sends the chunks of a session by ``POST /infer``, one after the other."""

    options = SessionOptions()

    async def live(self) -> None:
        oracle, run = self.new_oracle(self.name), self.transport.run
        options: SessionOptions = {**self.options, "version": self.version}
        session = SessionSteps(Calls.of(URL, PATIENCE), None, options)
        leaves_early = self.draw.random() < 0.3
        for seq in range(self.chunks):
            sent = oracle.sends(seq, self.content(end=seq == self.chunks - 1 and not leaves_early))
            body = events_body(*packed(sent.content))
            try:
                reply: Any = None
                while reply is None and self.draw.random() < self.leaves:
                    reply = await self._in_haste(session.send(body, end=sent.content.end))
                if reply is None:
                    reply = await run(session.send(body, end=sent.content.end))
            except ServiceProblem as problem:
                self.refused(oracle, sent, problem)
                return
            self.acknowledged(oracle, sent, dict(reply))
            await self.think()
        if sent.content.end and not self.options:
            await self._repeat(oracle, sent, session.id)
        await run(session.leave())

    async def _repeat(self, oracle: SessionOracle, sent: Sent, session: str) -> None:
        """Send the last chunk again, as if its reply was lost."""
        options: Any = {"session": session, "seq": sent.seq, "end": True}
        again = oracle.sends(sent.seq, sent.content)
        try:
            reply = await self.transport.run(Calls.of(URL, PATIENCE).infer(events_body(*packed(sent.content)), options))
        except ServiceProblem as problem:
            self.refused(oracle, again, problem)
        else:
            self.acknowledged(oracle, again, dict(reply))

    async def _in_haste(self, steps: Steps[Any]) -> Any:
        """Send a chunk, and close the connection soon. Returns the reply, or None."""
        sending = asyncio.get_running_loop().create_task(self.transport.run(steps))
        await self.haste()
        sending.cancel()
        await asyncio.wait([sending])
        return None if sending.cancelled() else sending.result()


class Carried(Infer):
    """The same, with a session that the server does not store."""

    options = SessionOptions(carry=True)

    def may_end(self) -> None:
        """Do nothing: no server can lose it."""

    async def live(self) -> None:
        """Send all chunks, and one more as after a restart that has lost the token: no session may begin with it."""
        await super().live()
        seq = self.draw.randint(1, self.chunks)
        options: Any = {"session": self.name, "seq": seq, "carry": True}
        try:
            await self.transport.run(Calls(URL, 0).infer(events_body(*packed(self.content())), options))
        except (ServiceProblem, ServiceUnreachable, Broken) as error:
            self.note(f"chunk {seq} without a token: {error}")
        else:
            self.simulation.complain(f"{self.name}: chunk {seq} began a session")


class Stream(Client):
    """Sends the chunks of a session over ``WS /stream``."""

    async def live(self) -> None:
        self._oracle, self._chunks, self._begun_s = self.new_oracle(self.name), list[Sent](), self.process.time()
        stream = self._new_stream()
        try:
            await self.transport.run(stream.begin_once())
            await self._send(stream, self.chunks)
            await self._check_version(stream)
            if self.draw.random() < 0.3:
                self._chunks.append(self._oracle.sends(len(self._chunks), Content((), end=True)))
                await self.transport.run(stream.end())
        except ServiceProblem as problem:
            self._judge(problem)
        finally:
            await self.transport.run(stream.close())

    async def _check_version(self, stream: LiveSteps) -> None:
        """See that the session is of the version that the server has named."""
        try:
            response = await self.transport.exchange(Request("GET", f"/sessions/{self.name}"))
        except Broken:
            return
        version = json.loads(response.content).get("version")
        if response.status == 200 and version != stream.begin["version"]:
            self.simulation.complain(f"{self.name}: has version {version}, and was told {stream.begin['version']}")

    def _new_stream(self) -> LiveSteps:
        self._thinks = self.draw.choice((0.0, 0.5, 1.0))  # how often it waits before a chunk
        is_told = self.draw.random() < 0.7
        options: Any = {**PATIENCE, "version": self.version, "session": self.name, "interim": is_told}
        return LiveSteps(access_of(URL, {}), options)

    def _judge(self, problem: ServiceProblem) -> None:
        oracle, chunks = self._oracle, self._chunks
        lives_s = min(self.simulation.lives_s(False), self.simulation.age_s()[0])
        if isinstance(problem, SessionLost) and not oracle.has_ended and self.process.time() < self._begun_s + lives_s:
            self.simulation.complain(f"{self.name}: the session is lost, and nothing can have ended it")
        self.refused(oracle, chunks[-1] if chunks else oracle.sends(0, self.content()), problem)

    async def _send(self, stream: LiveSteps, count: int) -> None:
        run = self.transport.run
        for _ in range(count):
            self._chunks.append(self._oracle.sends(len(self._chunks), self.content()))
            self._take(await run(stream.send(stream.events(*packed(self._chunks[-1].content)))))
            if self.draw.random() < self._thinks:
                await self.think()
            self.break_soon()
        self._take(await run(stream.wait()))
        if self._chunks:
            self._oracle.stores(self._chunks[-1])

    def _take(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            if frame["type"] == "Result":
                self.acknowledged(self._oracle, self._chunks[frame["seq"]], frame)


class Streams(Client):
    """Sends the chunks of some sessions over one connection of ``WS /streams``, or over two at once."""

    is_patient = False  # as many rows as it sends at once may be too many for a limit, whenever it sends them
    count = 0  # of sessions, if it is not drawn

    async def live(self) -> None:
        self._not_before_s: dict[tuple[object, int], float] = {}  # by socket and handle
        self._may_lose_one = False  # of its sessions, and then is refused as it opens them again
        count = self.count or (MANY if self.draw.random() < self.simulation.many_share else self.draw.randint(1, 5))
        names = [f"{self.name}-{number}" for number in range(count)]
        chunks_each = max(3, self.chunks // count) if count < MANY else 2
        half = self.draw.choice((0, count // 2))
        await asyncio.gather(*(self._stream(some, chunks_each) for some in (names[:half], names[half:]) if some))

    async def _run(self, steps: Steps[Any]) -> Any:
        """Carry out steps, and see that a chunk which was refused for a time is not sent again before it is over."""
        return await carried_out(steps, self._carry_out)

    async def _carry_out(self, step: Any) -> Any:
        if isinstance(step, SendFrame) and isinstance(step.content, bytes) and step.content[:4] == CHUNKS:
            # after the head come 8 bytes of each row's number, then 4 of each row's handle
            _, count, _, _ = HEAD.unpack_from(step.content)
            for handle in memoryview(step.content)[HEAD.size + 8 * count :][: 4 * count].cast("I"):
                if self.process.time() < self._not_before_s.get((step.socket, handle), 0.0):
                    self.simulation.complain(f"{self.name}: a chunk of handle {handle} was sent again too early")
        result = await self.transport.carry_out(step)
        if isinstance(step, ReadFrame) and isinstance(result, bytes) and result[:4] == RESULTS:
            results = unpack_results(result)
            for row, more in results.more.items():
                if wait_s := more.get("retry_after_s"):
                    refused = step.socket, int(results.handle[row])
                    self._not_before_s[refused] = self.process.time() + min(wait_s, LONGEST_PAUSE_S)
        return result

    async def _stream(self, names: list[str], chunks_each: int) -> None:
        run = self._run
        options: Any = {**PATIENCE, "version": self.version}
        streams = LiveStreams(URL, **options)
        oracles = [self.new_oracle(name) for name in names]
        self._heard_s = self._begun_s = self.process.time()
        neglects = self.draw.choice((0.0, 0.0, 0.2))
        try:
            await run(streams._begin_once())
            handles = await run(streams._open_all(names))
            sessions: Sessions = {handle: (oracle, []) for handle, oracle in zip(handles, oracles, strict=True)}
            for _ in range(chunks_each):
                await self._send(streams, sessions, [one for one in handles if self.draw.random() < 0.9] or handles)
                self.break_soon()
                await self.think()
                if len(handles) > 1 and self.draw.random() < neglects:
                    await self._neglect(streams, sessions, handles)
                if len(handles) > 1 and self.draw.random() < 0.1:
                    await self._end(streams, sessions, [handles.pop()])
            self._take(await run(streams._wait()), sessions)
            if self.draw.random() < 0.7:
                await self._end(streams, sessions, handles)
                self._take(await run(streams._wait()), sessions)
        except ServiceUnreachable as error:
            self.note(f"gives up: {error}")
            if not self.simulation.plan.limits:
                raise
        except ServiceProblem as problem:
            self.note(f"is refused: {problem}")
            if not self._may_be_refused(problem, oracles):
                self.simulation.complain(f"{self.name}: {problem}")
        finally:
            await run(streams._close())

    async def _neglect(self, streams: LiveStreams, sessions: Sessions, handles: list[int]) -> None:
        """Go on without one session until it has expired, and then with it."""
        for some in (handles[1:], handles[1:], handles):
            await asyncio.sleep(self.simulation.plan.session_idle_s * self.draw.uniform(0.5, 0.8))
            await self._send(streams, sessions, some)

    async def _send(self, streams: LiveStreams, sessions: Sessions, handles: list[int]) -> None:
        for oracle, sent in map(sessions.__getitem__, handles):
            self._may_lose_one |= oracle.silent_s >= self.simulation.lives_s(False)  # also what was not acknowledged
            sent.append(oracle.sends(len(sent), self.content()))
        steps, times, units = zip(*(packed(sessions[handle][1][-1].content) for handle in handles), strict=True)
        sending = _steps_of(streams, streams.send_events, handles, steps, times, units)
        self._take(await self._run(sending), sessions)

    async def _end(self, streams: LiveStreams, sessions: Sessions, handles: list[int]) -> None:
        """End those that have begun."""
        begun = [handle for handle in handles if sessions[handle][1]]
        for oracle, sent in map(sessions.__getitem__, begun):
            sent.append(oracle.sends(len(sent), Content((), end=True)))
        self._take(await self._run(_steps_of(streams, streams.end, begun)), sessions)

    def _may_be_refused(self, problem: ServiceProblem, oracles: list[SessionOracle]) -> bool:
        simulation = self.simulation
        if problem.status == 429:
            simulation.keyring.refuses(self.key, problem, self._heard_s)
            return True
        if problem.status in PASSING:
            return simulation.may_refuse(self._heard_s, problem.problem, is_patient=self.is_patient)
        lives_s = simulation.lives_s(False)
        self._may_lose_one |= self.process.time() >= self._begun_s + simulation.age_s()[0]
        is_withdrawn = simulation.was_reloaded and "has no version" in problem.detail
        return (
            is_withdrawn
            or self._may_lose_one
            or any(oracle.has_ended or oracle.silent_s >= lives_s for oracle in oracles)
        )

    def _take(self, frames: list[Results], sessions: Sessions) -> None:
        for results in frames:
            self._heard_s = self.process.time()
            columns = (results.handle, results.seq, results.status, results.total_steps, results.probabilities)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            for row, (handle, seq, status, total_steps, probabilities) in enumerate(rows):
                oracle, chunks = sessions[handle]
                if status == APPLIED:
                    self.simulation.acknowledged += 1
                    self.note(f"{oracle.name}: chunk {seq} is acknowledged")
                    oracle.acknowledges(chunks[seq], total_steps, probabilities)
                else:
                    more = results.more[row]
                    self.note(f"{oracle.name}: chunk {seq}: {status} {more['problem']}")
                    self._may_lose_one |= not more.get("retryable")  # the session cannot go on
                    oracle.refuses(chunks[seq], status, more["problem"], more["expected_seq"])


class _Taker:
    """Stands for a transport, and takes the steps that it would run."""

    def run(self, steps: Steps[Any]) -> Steps[Any]:
        return steps


def _steps_of(streams: LiveStreams, method: Any, *arguments: Any) -> Steps[Any]:
    """Return the steps of a method of ``LiveStreams``, which runs them in threads otherwise."""
    kept, streams._transport = streams._transport, _Taker()  # type: ignore[assignment]
    try:
        steps: Steps[Any] = method(*arguments)
    finally:
        streams._transport = kept
    return steps
