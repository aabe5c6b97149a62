"""What all clients of a world share: a process, a transport, and an oracle for each session."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import ServiceProblem
from hetsyn_client.protocol.reconnecting import ConnectionOptions
from service.simulated import CHANNELS, TAIL_STEPS, hash_step, probabilities_of
from tests.simulation.oracle import PASSING, Content, Sent, SessionOracle
from tests.simulation.transport import SimulatedTransport

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

URL = "http://balancer"
TIMEOUT_S = 15.0
PROMPT_S = 12.0  # every answer comes within it, if nothing is wrong,
STOOD = (" waited ", "a request before this one")  # refusals because the event loop stood
WITHDRAWN = ("has no version", "which this server does not have")
PROMPT_RUNS = 20  # and the engine has no more to run before it than this many batches
PATIENCE = ConnectionOptions(timeout_s=TIMEOUT_S, repeats=60, patience_s=200.0)
"""Options of our client that outlast every fault."""


def packed(content: Content) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Return steps, times and units of a content, as our client takes them."""
    times = [step for step, units in enumerate(content.spikes) for _ in units]
    units = [unit for units in content.spikes for unit in units]
    return len(content.spikes), np.array(times, np.int64), np.array(units, np.int64)


class Client(ABC):
    """One client, a process of its own.

    Attributes:
        name: of its process, and of its session.
        draw: draws what it does.
        key: name of its access key; empty without one.
        headers: of each of its requests.
        naps: how often it does nothing for about as long as a session lives.
        leaves: how often it gives up a request.
        long: share of its chunks that are long.
        version: of the model, for its sessions.
    """

    is_patient = True  # it asks again until every fault is over
    unsure_s = 0.0  # when a request got no answer, last

    def __init__(self, simulation: Simulation, name: str, chunks: int, draw: random.Random, key: str = "") -> None:
        self.simulation = simulation
        self.name = name
        self.chunks = chunks
        self.draw = draw
        self.key = key
        self.headers = simulation.keyring.headers(URL, key)
        self.process = simulation.network.process(name)
        if simulation.plan.shares_address:
            self.process.address = "gateway"
        self.oracles: list[SessionOracle] = []
        self.has_ended = False
        self.naps = draw.choice((0.0, 0.0, 0.05, 0.3))
        self.leaves = draw.choice((0.0, 0.05, 0.3))
        self.long = draw.choice((0.0, 0.02, 0.02, 0.5))
        self.version = draw.choice((None, *simulation.plan.versions))
        self.transport = self.new_transport()

    @abstractmethod
    async def live(self) -> None:
        """Do what this client does, to its end."""

    def begin(self) -> None:
        self.process.create_task(self._live())

    async def _live(self) -> None:
        try:
            await self.live()
        except Exception as error:
            self.simulation.complain(f"{self.name}: {type(error).__name__}: {error}")
        self.transport.close()
        self.has_ended = True
        self.simulation.left -= 1
        self.note("has ended")

    def note(self, what: str) -> None:
        self.simulation.world.note(self.name, what)

    def new_oracle(self, name: str) -> SessionOracle:
        simulation = self.simulation
        oracle = SessionOracle(
            name,
            hash_step,
            probabilities_of,
            TAIL_STEPS,
            simulation.world.time_s,
            simulation.lives_s,
            simulation.expires_s,
            simulation.age_s,
            simulation.complain,
        )
        self.oracles.append(oracle)
        return oracle

    def new_transport(self, headers: Mapping[str, str] | None = None) -> SimulatedTransport:
        headers = self.headers if headers is None else headers
        return SimulatedTransport(self.process, self.host, TIMEOUT_S, headers, self._times)

    def _times(self, sent_s: float) -> None:
        """Judge how long an answer took."""
        simulation, took_s = self.simulation, self.process.time() - sent_s
        prompt_s = PROMPT_S + PROMPT_RUNS * simulation.plan.pace.work_s
        if took_s > prompt_s and sent_s > simulation.faults_end_s and not simulation.plan.limits:
            simulation.complain(f"{self.name}: an answer took {took_s:.1f} s, and nothing was wrong")

    def host(self) -> str:
        """Choose a server, as a balancer that hashes on the session, and at times does not."""
        return self.simulation.balance(self.name)

    def may_end(self) -> None:
        """Note that all its sessions may have been lost."""
        for oracle in self.oracles:
            oracle.may_end()

    def content(self, *, end: bool = False) -> Content:
        """Draw a chunk."""
        bits = self.draw.getrandbits(CHANNELS * 3)
        if self.draw.random() < self.long:  # it is computed in segments
            steps = [()] * self.draw.randint(20, 200)
            return Content((*steps, (bits % CHANNELS,)), end)
        spikes: list[tuple[int, ...]] = []
        for _ in range(1 + bits % 3):
            spikes.append(tuple(unit for unit in range(CHANNELS) if bits >> unit & 1))
            bits >>= CHANNELS
        return Content(tuple(spikes), end)

    async def think(self) -> None:
        pace, draw = self.simulation.plan.pace, self.draw
        if self.naps and draw.random() < self.naps:
            await self.nap()
        elif pace.think_s:
            await asyncio.sleep(draw.expovariate(1 / pace.think_s))
        if pace.beat_s:
            await asyncio.sleep(pace.beat_s - self.process.time() % pace.beat_s)

    def break_soon(self) -> None:
        """Break the WebSocket at some moment, at times."""
        if self.draw.random() < self.leaves / 3:
            self.process.call_later(10 ** self.draw.uniform(-4, 0), self.transport.break_a_socket)

    async def haste(self) -> None:
        """Wait as long as one who gives up does: from a moment to a second."""
        await asyncio.sleep(10 ** self.draw.uniform(-4, 0))

    async def nap(self) -> None:
        """Do nothing for about as long as a session lives."""
        await asyncio.sleep(self.simulation.plan.session_idle_s * self.draw.uniform(0.8, 1.3))

    def acknowledged(self, oracle: SessionOracle, sent: Sent, reply: dict[str, Any]) -> None:
        """Judge a reply of ``/infer`` or a result of ``/stream``."""
        self.note(f"chunk {sent.seq} is acknowledged")
        self.simulation.acknowledged += 1
        if reply["seq"] != sent.seq:
            self.simulation.complain(f"{self.name}: chunk {sent.seq} got the reply to {reply['seq']}")
        steps, probabilities = len(sent.content.spikes) + TAIL_STEPS * sent.content.end, reply["probabilities"]
        label = f"label{probabilities.index(max(probabilities))}"
        said = {"steps": steps, "end": sent.content.end, "label": label}
        wrong = {name: reply[name] for name, value in said.items() if reply.get(name, value) != value}
        if wrong:
            self.simulation.complain(f"{self.name}: the reply to chunk {sent.seq} says {wrong}, not {said}")
        oracle.acknowledges(sent, reply["total_steps"], probabilities)

    def unanswered(self, what: str, sent_s: float) -> None:
        """Judge that there was no answer."""
        self.note(f"{what}: no answer")
        self.unsure_s = self.process.time()
        if sent_s > self.simulation.silent_until_s and not self.simulation.is_slow:
            self.simulation.complain(f"{self.name}: {what} got no answer, and nothing was wrong")

    def refused(self, oracle: SessionOracle, sent: Sent, problem: ServiceProblem) -> None:
        self.note(f"chunk {sent.seq}: {problem.status} {problem.problem}")
        simulation = self.simulation
        if problem.status == 429:
            simulation.keyring.refuses(self.key, problem, sent.at_s)
        elif sent.at_s <= simulation.silent_until_s and any(cause in problem.detail for cause in STOOD):
            pass
        elif simulation.was_reset and "has changed since" in problem.detail:
            pass  # its connection to the store had broken long before, and another request came first
        elif simulation.was_reloaded and any(cause in problem.detail for cause in WITHDRAWN):
            oracle.refuses(sent, 503, "later", None)  # until the version comes back
            return
        elif problem.status in PASSING and not simulation.may_refuse(
            sent.at_s, problem.problem, is_patient=self.is_patient
        ):
            simulation.complain(f"{self.name}: chunk {sent.seq}: {problem}, and nothing was wrong")
        oracle.refuses(sent, problem.status, problem.problem or "", problem.expected_seq)
