"""A Valkey whose settings change while servers run: it evicts, or becomes a replica."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tests.long.hostile.case import Case, Figure, Skipped, at_most, exactly
from tests.long.hostile.stage import READY_TIMEOUT_S, AttackedServer, Stage
from tests.long.hostile.wire import Client
from tests.support.servers.server_process import free_port
from tests.support.stores.valkey import BINARY, MISSING, ValkeyServer

SWEEP = "--set=sweep_interval_s=1"
NOTICED_S = 8.0


def start_valkey(stage: Stage, name: str, *options: str, is_started: bool = True) -> ValkeyServer:
    """A Valkey that ends with the stage.

    Raises:
        Skipped: no such program on this machine.
    """
    if BINARY is None:
        raise Skipped(MISSING)
    folder = Path(stage.folder) / name
    folder.mkdir()
    valkey = ValkeyServer(folder, "--appendfsync", "no", *options, port=free_port())
    if is_started:
        valkey.start()
    stage.finally_call(lambda: valkey.__exit__(None, None, None))
    return valkey


def _noticed_s(server: AttackedServer) -> float:
    """The seconds until the server says that it is not ready."""
    began_s = time.monotonic()
    while server.is_ready() and time.monotonic() - began_s < NOTICED_S:
        time.sleep(0.1)
    return time.monotonic() - began_s


def attack_policy(stage: Stage) -> Mapping[str, Figure]:
    valkey = start_valkey(stage, "valkey")
    servers = [stage.server("--store", valkey.url, SWEEP) for _ in range(2)]
    client, other = (Client(server.port) for server in servers)
    client.chunk("good", seq=0)
    valkey.command("CONFIG", "SET", "maxmemory", "8mb")
    valkey.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    noticed_s = _noticed_s(servers[0])
    acknowledged = [f"evicted-{n}" for n in range(1_000) if client.outcome(f"evicted-{n}", seq=0) == "200"]
    began_anew = sum(
        answer.status == 200 and answer.json()["seq"] == 0
        for answer in (other.chunk(session) for session in acknowledged[:200])
    )
    chunk = client.outcome("good", seq=1)
    valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    valkey.command("CONFIG", "SET", "maxmemory", "0")
    deadline_s = time.monotonic() + NOTICED_S
    while (later := client.outcome("good", seq=1)) != "200" and time.monotonic() < deadline_s:
        time.sleep(0.2)
    return {
        "noticed_s": noticed_s,
        "acknowledged": len(acknowledged),
        "silently_begun_anew": began_anew,
        "chunk_meanwhile": chunk,
        "chunk_when_right_again": later,
    }


def attack_late(stage: Stage) -> Mapping[str, Figure]:
    """Valkey is down when the server starts, and comes up with a policy that evicts."""
    valkey = start_valkey(stage, "valkey", "--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru", is_started=False)
    server = stage.server("--store", valkey.url, SWEEP, is_awaited=False)
    client = Client(server.port)
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while (down := client.outcome("a", seq=0)) != "503" and time.monotonic() < deadline_s:
        time.sleep(0.2)
    valkey.start()
    time.sleep(3.0)  # three searches for expired sessions
    acknowledged = sum(client.outcome(f"late-{number}", seq=0) == "200" for number in range(20))
    return {"chunk_while_down": down, "acknowledged_of_20": acknowledged, "ready": int(server.is_ready())}


def attack_replica(stage: Stage) -> Mapping[str, Figure]:
    primary = start_valkey(stage, "primary")
    first = stage.server("--store", primary.url, SWEEP)
    Client(first.port).chunk("a", seq=0)
    replica = start_valkey(stage, "replica", "--replicaof", f"127.0.0.1 {primary.port}")
    deadline_s = time.monotonic() + 20.0
    while b"master_link_status:up" not in replica.command("INFO", "replication") and time.monotonic() < deadline_s:
        time.sleep(0.1)
    server = stage.server("--store", replica.url, SWEEP, is_awaited=False)
    try:
        server.await_ready(6.0)
        ready, chunk = 1, Client(server.port).outcome("a", seq=1)
    except Exception:  # it may end, or never be ready
        ready, chunk = 0, "none"
    primary.command("REPLICAOF", "127.0.0.1", str(replica.port))
    noticed_s = _noticed_s(first)
    return {"ready_on_a_replica": ready, "chunk_on_a_replica": chunk, "noticed_s": noticed_s}


CASES = (
    Case(
        "valkey-policy",
        "Valkey begins to evict while servers run: chunks are acknowledged that it then drops.",
        attack_policy,
        {"noticed_s": at_most(6), "silently_begun_anew": exactly(0), "chunk_when_right_again": exactly("200")},
        {"acknowledged": 1_500, "silently_begun_anew": 186},
    ),
    Case(
        "valkey-late",
        "Valkey comes up after the server with a policy that evicts: chunks are acknowledged.",
        attack_late,
        {"acknowledged_of_20": exactly(0), "ready": exactly(0), "chunk_while_down": exactly("503")},
        {"acknowledged_of_20": 20, "ready": 0},
    ),
    Case(
        "valkey-replica",
        "A server on a replica that cannot be written says that it is ready.",
        attack_replica,
        {"ready_on_a_replica": exactly(0), "noticed_s": at_most(6)},
        {"ready_on_a_replica": 1, "chunk_on_a_replica": "503"},
    ),
)
