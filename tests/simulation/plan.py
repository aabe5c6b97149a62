"""What a seed draws: which servers, store and clients a world has, and which faults come when.

A world has few kinds of faults, of clients and of what they do, and much of each ("swarm testing"): kinds that are
mixed in every world dilute one another, and what needs much of two of them never happens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

CLIENTS = ("infer", "carried", "stream", "streams", "wild", "wild")
KEY_NAMES = ("red", "blue")
STORES = ("memory", "file", "valkey", "cluster")
SERVER_FAULTS = ("kill", "pause", "stall", "cut", "clock", "reload")
STORE_FAULTS = ("store-kill", "store-lose", "store-pause", "store-reset", "store-fail", "store-full")
FAULTS = {
    "memory": SERVER_FAULTS,
    "file": (*SERVER_FAULTS, "drain", "store-fail"),
    "valkey": (*SERVER_FAULTS, "drain", *STORE_FAULTS, "store-cutoff", "store-takeover"),
    "cluster": (*SERVER_FAULTS, "drain", *STORE_FAULTS, "move"),
}
"""Those that a world with a store can have."""

LIMITS: dict[str, Callable[[random.Random], float]] = {
    "max_sessions": lambda draw: draw.choice((2, 5, 10, 70)),
    "max_session_bytes": lambda draw: draw.randint(8_000, 20_000),  # a client's share has room for a session
    "max_waiting": lambda draw: draw.randint(2, 8),
    "max_waiting_steps": lambda draw: draw.randint(200, 1000),
    "queue_timeout_s": lambda draw: 10 ** draw.uniform(-1.0, 0.3),
    "client_share": lambda draw: draw.choice((0.3, 1.0)),
}
BATCHING: dict[str, Callable[[random.Random], float]] = {
    "max_batch": lambda draw: draw.randint(1, 4),
    "engine_threads": lambda draw: 1,  # noqa: ARG005
    "inline_s": lambda draw: 0.0,  # noqa: ARG005
}


@dataclass(frozen=True)
class Pace:
    """How close to one another things happen.

    Attributes:
        think_s: mean time of a client between two chunks.
        beat_s: clients that have thought go on together, once in this time; 0 if each does at its own moment.
        work_s: mean time of a batch on a thread of the engine, besides the latency.
        store_s: the same of a message to or from the store, or of a transaction.
        early_share, early_s: of ``World``.
    """

    think_s: float
    beat_s: float
    work_s: float
    store_s: float
    early_share: float
    early_s: float


@dataclass(frozen=True)
class ClientPlan:
    kind: str
    seed: int
    begins_s: float
    chunks: int
    key: str = ""


@dataclass(frozen=True)
class FaultPlan:
    kind: str
    at_s: float
    lasts_s: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """What happens in a world, but for the order of things.

    Attributes:
        versions: of the model, at first.
        many_share: share of clients of ``/streams`` with very many sessions.
        roaming: share of requests for which the balancer does not choose the session's server.
        keys: the most sessions of each access key; empty if everybody is let in.
        replicas: of a Valkey that is no cluster; each change waits for them.
        shares_address: all clients have one address, as behind a gateway.
    """

    seed: int
    store: str
    servers: int
    pace: Pace
    session_idle_s: float
    sweep_s: float
    age_s: float
    versions: tuple[str, ...]
    many_share: float
    roaming: float
    limits: Mapping[str, float]
    batching: Mapping[str, float]
    clients: tuple[ClientPlan, ...]
    faults: tuple[FaultPlan, ...]
    keys: Mapping[str, int]
    shares_address: bool
    replicas: int


def drawn(seed: int) -> Plan:
    """Draw a plan."""
    draw = random.Random(seed)
    store = draw.choice(STORES)
    servers = 1 if store == "memory" else draw.randint(1, 3)
    pace = _pace(store, draw)
    span_s = 20 * (pace.think_s + pace.work_s + 0.02)
    kinds = sorted({draw.choice(CLIENTS) for _ in range(draw.choice((1, 1, 2, 4)))})
    clients = tuple(
        ClientPlan(draw.choice(kinds), draw.getrandbits(32), draw.uniform(0, span_s / 2), draw.randint(3, 25))
        for _ in range(draw.randint(3, 12))
    )
    fault_kinds = draw.sample(FAULTS[store], draw.choice((1, 2, 4)))
    faults = tuple(
        FaultPlan(
            draw.choice(fault_kinds),
            draw.uniform(0, span_s),
            draw.expovariate(draw.choice((0.1, 0.5))),
            draw.getrandbits(32),
        )
        for _ in range(draw.choice((0, 1, 2, 4, 8)))
    )
    session_idle_s, sweep_s = draw.choice(((30.0, 15.0), (4.0, 2.0), (4.0, 60.0)))
    age_s = draw.choice((86_400.0, 86_400.0, 86_400.0, 3.0))
    versions = draw.choice((("1",), ("1", "2")))
    many_share, roaming = draw.choice((0.0, 0.0, 0.0, 0.5)), draw.choice((0.02, 0.1, 0.5))
    limited = draw.choice((0.0, 0.0, 0.2, 0.5))
    limits = {name: choose(draw) for name, choose in LIMITS.items() if draw.random() < limited}
    batching = {name: choose(draw) for name, choose in BATCHING.items() if draw.random() < 0.3}
    if pace.work_s:
        batching["inline_s"] = 0.0
        if "queue_timeout_s" in limits:  # a few batches before a chunk's own are in time
            limits["queue_timeout_s"] = max(limits["queue_timeout_s"], 5 * pace.work_s)
    keys = {name: draw.randint(1, 4) for name in KEY_NAMES} if draw.random() < 0.15 else {}
    openers = draw.choice((0.5, 1.0)) if keys else draw.choice((0.0, 0.0, 0.3))
    clients = tuple(_with_key(client, openers, keys, draw) for client in clients)
    shares_address, replicas = draw.random() < 0.3, draw.choice((0, 1)) if store == "valkey" else 0
    return Plan(
        seed, store, servers, pace, session_idle_s, sweep_s, age_s, versions, many_share, roaming, limits, batching,
        clients, faults, keys, shares_address, replicas,
    )  # fmt: skip


def _pace(store: str, draw: random.Random) -> Pace:
    return Pace(
        think_s=draw.choice((0.0, 0.01, 0.25)),
        beat_s=draw.choice((0.0, 0.0, 0.05, 0.25)),
        work_s=draw.choice((0.0, 0.0, 0.01, 0.1, 0.3)),
        store_s=draw.choice((0.0, 0.0, 0.005, 0.03 if store == "file" else 0.005)),
        early_share=draw.choice((0.05, 0.5, 0.8)),
        early_s=draw.choice((0.002, 0.05)),
    )


def _with_key(client: ClientPlan, openers: float, keys: Mapping[str, int], draw: random.Random) -> ClientPlan:
    """Give a client a key, if there are keys, and let a share of the clients be openers."""
    kind = "opener" if draw.random() < openers else client.kind
    return replace(client, kind=kind, key=draw.choice([*keys]) if keys else "")


def shrunk(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Drop faults and clients while the world still fails."""
    smaller = True
    while smaller:
        faults, clients = plan.faults, plan.clients
        less = [replace(plan, faults=faults[:n] + faults[n + 1 :]) for n in range(len(faults))]
        less += [replace(plan, clients=clients[:n] + clients[n + 1 :]) for n in range(len(clients))]
        smaller = False
        for one in less:
            if fails(one):
                plan, smaller = one, True
                break
    return plan
