"""One world: servers, a store, clients and faults, as a plan says."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from hetsyn_client.protocol.steps import Broken
from service.simulated import (
    Held,
    SimulatedServer,
    build_server,
    hash_step,
    settings_of,
)
from tests.simulation.calls import Aborted, Context
from tests.simulation.clients.base import TIMEOUT_S, Client
from tests.simulation.clients.opener import Opener
from tests.simulation.clients.ours import Carried, Infer, Stream, Streams
from tests.simulation.clients.wild import Wild
from tests.simulation.database import Database
from tests.simulation.keys import PROBE, Keyring
from tests.simulation.loop import Process, Stuck, Threads, World
from tests.simulation.network import Network
from tests.simulation.plan import FaultPlan, Plan
from tests.simulation.transport import PORT
from tests.simulation.valkey import Cluster, Valkey

KINDS: dict[str, type[Client]] = {
    "infer": Infer,
    "carried": Carried,
    "stream": Stream,
    "streams": Streams,
    "wild": Wild,
    "opener": Opener,
}
SHORT_OF_ROOM = {"max_sessions", "max_session_bytes", "client_share"}  # limits of sessions in memory
FORGOTTEN_S = 400.0  # after it, a store has no record of an expired session
LONGEST_S = 2_000.0  # of virtual time, until all clients have ended
STARTED_S = 5.0  # servers are ready
ENDED_KEEP_S = 20.0
STORE_TIMEOUT_S = 2.0
DRAINED_S = 8.0 + 2 * STORE_TIMEOUT_S + 1.0  # a server that drains has ended, and its store was asked twice
SLOW_S = 0.1  # of a batch: those that wait for 10 s in a queue are refused
RECOVERY_S = 5.0  # after a fault: a cluster finds its nodes
SILENCING = {"kill", "pause", "stall", "cut", "drain"}  # after these, requests may get no answer
SEVERE = {*SILENCING, "store-kill", "store-lose", "store-pause", "store-reset", "store-fail", "store-full"}
SEVERE |= {"store-cutoff", "store-takeover", "move"}
LIMITED = {"overloaded", "later", None}  # problems that a limit explains; "later" has any reason
NOTHING = Held(0, 0, 0, 0, 0, 0, 0, 0, 0)


class Host:
    """A server that may be killed and started again."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        self.server: SimulatedServer
        self.process: Process
        self._closing: asyncio.Event
        self.is_up = False
        self.paused_until_s = 0.0
        self.ended: asyncio.Task[None]

    def start(self) -> None:
        simulation = self.simulation
        self.process = process = simulation.network.process(self.name)
        settings = simulation.settings()
        self.server = server = build_server(
            settings,
            clock=lambda: simulation.world.now_s,
            wall=simulation.world.wall_s,
            executors=lambda threads, name: Threads(process, threads, name),
            connect=simulation.database.connect,
        )
        server.offer(simulation.versions)
        self._closing = asyncio.Event()

        async def live() -> None:
            async with server.running():
                simulation.network.listen(self.name, PORT, process, server.protocol)
                self.is_up = True
                await self._closing.wait()
                await server.drain()

        self.ended = process.create_task(live())
        simulation.world.note(self.name, "starts")

    def kill(self, *, is_silent: bool) -> None:
        self.is_up = False
        self.simulation.world.note(self.name, "is killed")
        self.simulation.network.crash(self.process, is_silent=is_silent)

    def drain(self) -> None:
        """End it gracefully: balancers send no more requests."""
        self.is_up = False
        self.simulation.world.note(self.name, "drains")
        self.process.call_soon(self._closing.set)


class Simulation:
    """A world with its servers, store and clients.

    Attributes:
        complaints: violations that the oracle has found.
        acknowledged: chunks that were acknowledged, repeats among them.
        left: clients that have not ended.
    """

    def __init__(self, plan: Plan, *, is_traced: bool = False) -> None:
        self.plan = plan
        self.world = World(plan.seed, is_traced=is_traced)
        self.network = Network(self.world)
        self.complaints: list[str] = []
        self.acknowledged = 0
        self.left = 0
        self.world.early_share, self.world.early_s = plan.pace.early_share, plan.pace.early_s
        self.world.threads_s = {"engine": plan.pace.work_s, "file-store": plan.pace.store_s}
        self.network.store_s = plan.pace.store_s
        self.faults_end_s = 0.0
        self.silent_until_s = 0.0  # until then, requests may get no answer
        self.disturbed_until_s = 0.0  # until then, they may be refused for a while
        self.has_failed_over = False  # a server refuses the next chunk that needs the node, whenever that is
        self.was_reset = False  # connections to the store may have broken, and nobody has seen it yet
        self.was_reloaded = False  # a new connection of /streams is then of another version than its sessions
        self.clocks_apart_s = 0.0  # all steps of clocks, added
        self.versions = [*plan.versions]  # of the model that the servers offer
        self.database = Database(self.world)
        self.stores: list[Valkey] = []
        self.cluster: Cluster | None = None
        self.hosts: list[Host] = []
        self.clients: list[Client] = []
        self.keyring: Keyring
        self._channels: defaultdict[tuple[str, str], deque[Callable[[], None]]] = defaultdict(deque)

    def complain(self, what: str) -> None:
        self.world.note("oracle", what)
        self.complaints.append(f"{self.world.now_s - 1000.0:.4f} s: {what}")

    def settings(self) -> Any:
        url = {
            "memory": "memory://",
            "file": f"file://{self.database.path}",
            "valkey": "valkey://store/0" + ("?replicas=1" if self.plan.replicas else ""),
            "cluster": "valkey-cluster://node0,node1,node2/",
        }[self.plan.store]
        plan = self.plan
        retention = {
            "session_idle_s": plan.session_idle_s, "session_age_s": plan.age_s, "ended_keep_s": ENDED_KEEP_S,
            "sweep_interval_s": plan.sweep_s,
        }  # fmt: skip
        keys = self.keyring.path
        return settings_of(
            url, STORE_TIMEOUT_S, keys=keys, limits=plan.limits, retention=retention, batching=plan.batching
        )

    def lives_s(self, has_ended: bool) -> float:
        """Return how long a session stays at least after a chunk, by whatever clock."""
        if has_ended and SHORT_OF_ROOM & self.plan.limits.keys():
            return 0.0  # its last reply makes room for others
        return (ENDED_KEEP_S if has_ended else self.plan.session_idle_s) - self.clocks_apart_s

    def age_s(self) -> tuple[float, float]:
        """Return the least and the greatest age at which a session expires, by whatever clock."""
        return self.plan.age_s - self.clocks_apart_s, self.plan.age_s + self.clocks_apart_s

    @property
    def is_short_of_room(self) -> bool:
        return bool(SHORT_OF_ROOM & self.plan.limits.keys())

    @property
    def many_share(self) -> float:
        """Return the share of clients of ``/streams`` with very many sessions: 0 if there is no room for them."""
        return 0.0 if self.is_short_of_room or self.plan.keys else self.plan.many_share

    def may_refuse(self, sent_s: float, problem: str | None, *, is_patient: bool) -> bool:
        """Return whether a request that was sent then may be told to come again later, or never gets through.

        Args:
            problem: the code of the last refusal, or None if it is not known.
        """
        is_limited = problem in LIMITED and (self.is_short_of_room if is_patient else self._is_crowded)
        if problem in ("store-unavailable", "later") and self.has_failed_over:
            return not is_patient
        return is_limited or (not is_patient and sent_s <= self.disturbed_until_s)

    @property
    def _is_crowded(self) -> bool:
        """Return whether requests at once may be too many: for a limit, or for a slow engine within its time."""
        return bool(self.plan.limits) or self.is_slow

    @property
    def is_slow(self) -> bool:
        """Return whether the engine may have more to do than it can in time."""
        return self.plan.pace.work_s >= SLOW_S

    def expires_s(self, may_have_ended: bool) -> float:
        """Return how long after its last use a session stays at most, by whatever clock."""
        idle_s = self.plan.session_idle_s
        return (max(ENDED_KEEP_S, idle_s) if may_have_ended else idle_s) + self.clocks_apart_s

    def balance(self, name: str) -> str:
        """Choose a server for a request, as a balancer that hashes on the session, and at times does not."""
        up = [host.name for host in self.hosts if host.is_up] or [host.name for host in self.hosts]
        if len(up) == 1:
            return up[0]
        draw = self.world.random
        return draw.choice(up) if draw.random() < self.plan.roaming else up[hash_of(name) % len(up)]

    async def call(self, client: Client, name: str, method: str, message: Any, timeout_s: float) -> Any:
        """Call a method of a server's gRPC service from a client's process.

        Raises:
            ServiceProblem: the server has refused.
            Broken: there is no answer.
        """
        process = client.process
        (host,) = (host for host in self.hosts if host.name == name)
        answer = process.create_future()
        serving: list[asyncio.Task[None]] = []
        metadata = [(name.lower(), value) for name, value in client.headers.items()]

        def tell(result: Any) -> None:
            def arrive() -> None:
                if not (answer.done() or process.is_dead):
                    process.call_soon(_settle, answer, result)

            self.world.at(self.network.arrival_s(host.process, process), arrive)

        async def serve() -> None:
            try:
                tell(await host.server.call(method, message, Context(process.address, metadata)))
            except Aborted as aborted:
                tell(aborted.problem)

        def arrive() -> None:
            if not host.is_up or host.process.is_dead:
                tell(Broken("nobody listens"))
            else:
                host.process.call_soon(lambda: serving.append(host.process.create_task(serve())))

        def leave() -> None:
            for task in serving:
                host.process.call_soon(task.cancel)

        channel = self._channels[client.name, name]  # what was sent first arrives first
        channel.append(arrive)
        self.world.at(self.network.arrival_s(process, host.process), lambda: channel.popleft()())
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise Broken("the server does not answer") from None
        finally:
            if not answer.done() or answer.cancelled():
                gone_s = self.network.arrival_s(process, host.process)
                self.world.at(gone_s, leave)

    def run(self) -> list[str]:
        """Run the world to its end. Returns what went wrong."""
        world = self.world
        gc.disable()
        with world.clocks():
            try:
                self._begin()
                if not world.run(lambda: self.left == 0, LONGEST_S):
                    names = [client.name for client in self.clients if not client.has_ended]
                    self.complain(f"after {LONGEST_S} s these clients wait: {names}")
                else:
                    self._end()
            except Stuck as error:
                self.complain(str(error))
            finally:
                for process in self.network.processes:
                    process.bury()
                self.database.close()
                self.keyring.close()
                gc.enable()
        return self.complaints + world.faults

    def _begin(self) -> None:
        world, plan = self.world, self.plan
        self.keyring = Keyring(self, plan.keys)
        if plan.store == "valkey":
            self.stores = [Valkey(self.network, "store")]
            self.stores[0].has_replica = plan.replicas > 0
        elif plan.store == "cluster":
            self.cluster = Cluster(self.network, 3)
            self.stores = self.cluster.nodes
        self.hosts = [Host(self, f"server{number}") for number in range(plan.servers)]
        for host in self.hosts:
            host.start()
        self.left = len(plan.clients)
        for number, client in enumerate(plan.clients):
            draw = random.Random(client.seed)
            name = f"{client.kind}{number}"
            self.clients.append(KINDS[client.kind](self, name, client.chunks, draw, client.key))
            world.after(STARTED_S + client.begins_s, self.clients[-1].begin)
        for fault in plan.faults:
            world.after(STARTED_S + fault.at_s, partial(self._strike, fault))

    def _strike(self, fault: FaultPlan) -> None:
        """Let a fault happen, and end."""
        world, draw = self.world, random.Random(fault.seed)
        host = draw.choice(self.hosts)
        store = draw.choice(self.stores) if self.stores else None
        lasts_s = fault.lasts_s
        world.note("fault", f"{fault.kind} for {lasts_s:.3f} s")
        until_s = world.now_s + lasts_s + RECOVERY_S + (DRAINED_S if fault.kind == "drain" else 0.0)
        self.faults_end_s = max(self.faults_end_s, until_s)
        if fault.kind in SEVERE and not (fault.kind == "stall" and self.plan.store == "file"):
            self.disturbed_until_s = max(self.disturbed_until_s, until_s)
        if fault.kind in SILENCING:
            self.silent_until_s = max(self.silent_until_s, until_s)
        if fault.kind in ("kill", "drain"):
            if not host.is_up or (fault.kind == "drain" and self.plan.store == "memory"):
                return
            if fault.kind == "kill":
                host.kill(is_silent=draw.random() < 0.3)
                if self.plan.store == "memory":
                    for client in self.clients:
                        client.may_end()
            else:
                host.drain()
            world.after(max(lasts_s, 0.5) + (DRAINED_S if fault.kind == "drain" else 0.0), partial(self._restart, host))
        elif fault.kind in ("pause", "stall"):
            process = host.process
            process.is_stalled = fault.kind == "stall"
            process.is_paused = True
            host.paused_until_s = world.now_s + lasts_s
            world.after(lasts_s, process.resume)
        elif fault.kind == "cut":
            servers, stores = [each.name for each in self.hosts], [each.name for each in self.stores]
            near = draw.choice([*servers, *(client.name for client in self.clients)])
            self.network.cut(near, draw.choice([host.name, *stores]), lasts_s)
        elif fault.kind == "reload":
            self.was_reloaded = True
            for number in range(draw.randint(1, 20)):
                world.after(number * lasts_s / 20, partial(self._offer, draw.choice((["1", "2"], ["2"], ["1"]))))
            world.after(lasts_s, partial(self._offer, ["1", "2"]))  # every session can go on
        elif fault.kind == "clock":
            step_s = draw.uniform(-4, 4)
            host.process.clock_s += step_s
            self.clocks_apart_s += abs(step_s)
        elif fault.kind == "store-fail":
            self.database.fail_share = 0.3
            if store is not None:
                store.fail_share = 0.3
            world.after(lasts_s, partial(self._mend, store))
        elif store is None:
            return
        elif fault.kind in ("store-kill", "store-lose"):
            self._kill_store(store, lasts_s, draw, loses=fault.kind == "store-lose")
        elif fault.kind == "store-takeover":
            if self.plan.replicas:  # the primary loses its replica first
                store.cut_off(lasts_s)
                world.after(draw.uniform(0, lasts_s), partial(self._take_over, store, draw))
        elif fault.kind == "store-cutoff":
            store.cut_off(lasts_s)
        elif fault.kind == "store-pause":
            process = store.process
            process.is_paused = True
            world.after(lasts_s, process.resume)
        elif fault.kind == "store-reset":
            self.was_reset = True
            for number in range(draw.randint(1, 20)):
                world.after(number * lasts_s / 20, partial(self.network.reset, store.process))
        elif fault.kind == "store-full":
            store.is_full = True
            world.after(lasts_s, partial(setattr, store, "is_full", False))
        elif fault.kind == "move" and self.cluster is not None:
            for number in range(draw.randint(1, 20)):
                world.after(number * lasts_s / 20, self.cluster.move_some)

    def _offer(self, versions: list[str]) -> None:
        """Let all servers offer these versions of the model."""
        self.versions = versions
        for host in self.hosts:
            if host.is_up:
                host.server.offer(self.versions)

    def _restart(self, host: Host) -> None:
        if not host.process.is_dead:  # it drained
            if not host.ended.done() and host.paused_until_s < self.world.now_s - DRAINED_S:
                self.complain(f"{host.name} has not ended after its drain")
            host.kill(is_silent=False)
        host.start()

    def _mend(self, store: Valkey | None) -> None:
        self.database.fail_share = 0.0
        if store is not None:
            store.fail_share = 0.0

    def _kill_store(self, store: Valkey, lasts_s: float, draw: random.Random, *, loses: bool) -> None:
        """Kill a store, and let it, or its replica, come back. It may lose the last changes."""
        if store.process.is_dead or store.is_replica or (loses and self.plan.replicas):
            return
        if loses:
            store.forget(draw.uniform(0, 2))
            for client in self.clients:
                client.may_end()
        if self.cluster is not None:
            self.has_failed_over = True
            self.cluster.fail_over(store, lasts_s)
        else:
            self._crash_store(store, lasts_s, draw)

    def _take_over(self, store: Valkey, draw: random.Random) -> None:
        """Let the primary die, and its replica take its place."""
        if not store.process.is_dead:
            store.take_over()
            self._crash_store(store, draw.uniform(0, 2), draw)

    def _crash_store(self, store: Valkey, lasts_s: float, draw: random.Random) -> None:
        store.crash(is_silent=draw.random() < 0.5)
        self.world.after(lasts_s, store.start)

    def _end(self) -> None:
        """Let all sessions expire, and see that nothing is left."""
        world = self.world
        # all faults are over; sessions expire, and sweeps see it
        rest_s = max(0.0, self.faults_end_s - world.now_s)
        world.run(lambda: False, rest_s + max(self.plan.session_idle_s, ENDED_KEEP_S))
        looks_s = world.now_s + 4 * self.plan.sweep_s
        for host in self.hosts:
            while not self._is_clean(host) and world.now_s < looks_s:
                world.run(lambda: False, 1.0)  # counting the tasks and timers takes long
            if not self._is_clean(host):
                names = sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks(host.process))  # type: ignore[union-attr]
                timers = world.timers_of(host.process)
                self.complain(f"{host.name} still holds {host.server.held}, has the tasks {names}, and {timers} timers")
        self._see_records_expire()
        self._probe()

    def _see_records_expire(self) -> None:
        """See that the store forgets sessions that have expired."""
        world, sweep_s = self.world, self.plan.sweep_s
        gone_s = world.now_s + FORGOTTEN_S + 2 * sweep_s + self.clocks_apart_s
        while self.database.records and world.now_s < gone_s:
            world.run(lambda: False, max(60.0, sweep_s))
        count = self.database.records + sum(store.keys_beyond(gone_s) for store in self.stores)
        if count:
            self.complain(f"{count} records of expired sessions stay in the store")

    def _probe(self) -> None:
        """Let a new client of every server have its chunks answered: no turn and no permit is missing."""
        world, key = self.world, PROBE if self.plan.keys else ""
        for host in self.hosts:
            probes = (
                Infer(self, f"probe-{host.name}", 2, random.Random(0), key),
                Streams(self, host.name, 2, random.Random(0), key),
            )
            probes[1].count = 1
            for probe in probes:
                probe.naps = probe.leaves = 0.0
                probe.transport.host = partial(str, host.name)
                self.clients.append(probe)
                self.left += 1
                probe.begin()
        if not world.run(lambda: self.left == 0, 6 * TIMEOUT_S):
            self.complain(f"servers do not answer: {[client.name for client in self.clients if not client.has_ended]}")

    def _is_clean(self, host: Host) -> bool:
        """Return whether a server holds nothing for clients, and has only the tasks that it always has."""
        tasks, most = asyncio.all_tasks(host.process), host.server.background_tasks
        return host.server.held == NOTHING and len(tasks) == most + 1 and self.world.timers_of(host.process) <= most


def hash_of(name: str) -> int:
    return int.from_bytes(hash_step(name.encode(), ()), "big")


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
