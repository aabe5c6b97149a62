"""One run: the store, the replicas, the clients and the faults."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console

from service.contract.artifact import Artifact
from tests.long.faults.clients import Acknowledgements, Client, ReferenceRecording
from tests.long.faults.cluster import open_stage_store
from tests.long.faults.doors import CarriedDoor, Door
from tests.long.faults.hub import HubClient
from tests.long.faults.lines import HttpLine
from tests.long.faults.live import LiveClient, StreamClient
from tests.long.faults.report import RECOVERY_S, summary
from tests.long.faults.schedule import schedule
from tests.long.faults.script import Occurred, Script
from tests.long.faults.stage import Replica
from tests.long.faults.tally import Tally, as_reference
from tests.support.data.recordings import cut
from tests.support.paths import RECORDINGS, SPEECH
from tests.support.servers.target import HetsynTarget

CHUNKS_S = (0.05, 0.1)
IN_A_ROW = 4  # recordings of a longer session
REPLICAS = 2
TRANSPORTS = ("infer", "stream", "streams", "v2", "grpc", "carried")
UNDISTURBED_TIMEOUT_S = 30.0  # of a chunk
UNNUMBERED_EVERY = 4  # one of so many clients sends no numbers


async def disturbed(
    store_name: str,
    folder: Path,
    faults: int,
    chunks: int,
    clients: int,
    seed: int,
    appendfsync: str = "always",
    transport: str = "infer",
    *,
    replicas: int = 1,
    quick: bool = True,
) -> dict[str, Any]:
    """One run. The results as JSON values.

    Args:
        store_name: one of ``MIXES``.
        faults: number of faults.
        chunks: the least number of acknowledged chunks.
        clients: number of clients.
        seed: of the faults, and of the clients.
        transport: one of ``TRANSPORTS``. Carried sessions have no store: ``store_name`` is memory.
        replicas: of a cluster's node that must have a chunk before it is answered; without any, a failover may lose
            chunks, and the run passes if clients are told of every loss.
        quick: the run may be too short to prove anything.

    Raises:
        ServerError: a server or the store does not start.
    """
    console = Console(stderr=True)
    door = door_of(transport)
    recordings = await _recordings(folder, door)
    tally, acknowledgements = Tally(), Acknowledgements()

    def report(number: int, occurred: Occurred) -> None:
        took = "no recovery" if occurred.recovery_s is None else f"recovered after {occurred.recovery_s:.2f} s"
        console.print(
            f"{number + 1:3} of {faults}: {occurred.kind}, {took}, {occurred.errors} errors; "
            f"{tally.acknowledged:,} chunks, {tally.lost} lost, {tally.twice} twice, {tally.wrong} wrong",
            highlight=False,
            soft_wrap=True,
        )

    store = open_stage_store(store_name, folder, appendfsync, replicas, seed)
    servers: list[Replica] = []
    may_lose = store_name == "valkey-cluster" and not replicas
    try:
        store.start()
        servers = [
            Replica(
                store.url,
                folder / f"replica-{index}.log",
                *(_carry_keys(folder) if door is not None and door.carries else ()),
                with_grpc=door is not None and door.needs_grpc,
            )
            for index in range(REPLICAS)
        ]
        for server in servers:
            server.start()
        for server in servers:
            await server.ready()
        streams: list[Client | LiveClient] = []
        for index in range(clients):
            common = (tally, acknowledgements, seed)
            if door is None:
                targets = [_target(server, HetsynTarget) for server in servers]
                kind = {"stream": StreamClient, "streams": HubClient}[transport]
                streams.append(kind(index, recordings, targets, *common, pinned=store_name == "memory"))
                continue
            doors = [door(_target(server, door.target_type)) for server in servers]
            streams.append(
                Client(
                    index, recordings, doors, *common,
                    pinned=store_name == "memory" and not door.carries,
                    is_numbering=index % UNNUMBERED_EVERY != UNNUMBERED_EVERY - 1,
                    may_lose=may_lose,
                )
            )  # fmt: skip
        script = Script(servers, store, streams, tally, acknowledgements, report)
        occurred = await script.play(schedule(store_name, faults, REPLICAS, seed), chunks)
    finally:
        for server in servers:
            server.kill()
        store.close()
    settings = {
        "store": store.described,
        "clients": clients,
        "replicas": REPLICAS,
        "seed": seed,
        "transport": transport,
    }
    # in a cluster, a fault lasts until the cluster is whole, and recovery is the start of a process on a busy machine
    limit_s = inf if store_name == "valkey-cluster" else RECOVERY_S
    return summary(settings, tally, acknowledgements, occurred, quick=quick, may_lose=may_lose, recovery_s=limit_s)


def door_of(transport: str) -> type[Door] | None:
    """The door of a transport with one answer a chunk; None for WebSockets."""
    match transport:
        case "infer":
            return Door
        case "carried":
            return CarriedDoor
        case "v2" | "grpc":
            from tests.long.faults.triton import GrpcDoor, OpenInferenceDoor  # late: tritonclient is optional

            return OpenInferenceDoor if transport == "v2" else GrpcDoor
    return None


def _carry_keys(folder: Path) -> tuple[str, str]:
    """The option that names the replicas' keys, in a file that is made if need be."""
    path = folder / "carry-keys"
    if not path.exists():
        path.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    return "--carry-keys", str(path)


async def _recordings(folder: Path, door: type[Door] | None) -> list[ReferenceRecording]:
    """Recordings with the answers of an undisturbed server: one process, sessions in memory, one chunk at a time.

    Args:
        door: reads the answers. Over WebSockets an empty chunk ends a session, as ``CloseStream`` does; at a door the
            last one with sound.
    """
    apart = (b"",) if door is None else ()
    read = Door.reference if door is None else door.reference
    replica = Replica("memory://", folder / "undisturbed.log")
    replica.start()
    try:
        await replica.ready()
        target = _target(replica, HetsynTarget)
        return [
            await _undisturbed(target, f"{name}-{1000 * chunk_s:g}ms", (*pieces, *apart), read)
            for chunk_s in CHUNKS_S
            for name, pieces in _sessions(chunk_s)
        ]
    finally:
        replica.kill()


def _sessions(chunk_s: float) -> list[tuple[str, tuple[bytes, ...]]]:
    """Name and chunks of each session: a single recording, or several in a row."""
    single = [(path.stem, cut(path, chunk_s)[1]) for path in sorted(RECORDINGS.glob("*.wav"))]
    rows = [single[begin : begin + IN_A_ROW] for begin in range(0, len(single), IN_A_ROW)]
    joined = [("+".join(name for name, _ in row), tuple(c for _, chunks in row for c in chunks)) for row in rows]
    return [*single, *joined]


async def _undisturbed(
    target: HetsynTarget, name: str, chunks: Sequence[bytes], read: Callable[[bytes], bytes]
) -> ReferenceRecording:
    session = f"undisturbed-{name}".replace("+", "-")
    line, replies = HttpLine(target.address, UNDISTURBED_TIMEOUT_S), []
    for seq, chunk in enumerate(chunks):
        response = await line.exchange(target.request(session, seq, chunk, is_last=seq == len(chunks) - 1))
        replies.append(as_reference(read(response.body), session))
    line.cut()
    return ReferenceRecording(name, tuple(chunks), tuple(replies))


def _target(replica: Replica, kind: type[HetsynTarget]) -> HetsynTarget:
    manifest = Artifact.open(SPEECH).manifest
    content_type, _ = cut(next(RECORDINGS.glob("*.wav")), CHUNKS_S[0])  # all have one rate
    target = kind(replica.address, content_type, manifest.name, manifest.version)
    target.grpc_port = replica.grpc_port
    return target
