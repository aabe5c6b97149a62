"""The ways to serve that are measured, with their loads, and the servers, stores and proxies of each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.capacity.system import Load
from benchmarks.contenders import RECORDINGS, ROOT, serve_speech, speech_target
from benchmarks.hostile.proxy import PROGRAM, configuration
from benchmarks.load import missing_answer
from benchmarks.server_process import ServerProcess, free_port
from benchmarks.valkey import BINARY, ValkeyServer
from hetsyn_client.loadtest.load import Load as Chunks
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.target import Address, HetsynTarget

CHUNK_S = 0.1
MANY_PERIOD_S = 2.0  # of streams that are so many that a session has left the caches when its next chunk comes


@dataclass(frozen=True)
class Share:
    """Streams that together send a share of what a server does at most.

    Attributes:
        of_most: the share.
        period_s: a stream has a chunk due so often.
    """

    of_most: float
    period_s: float = CHUNK_S

    def at(self, most_per_s: float) -> Load:
        """The load, where the server does so many chunks a second at most."""
        return streams(max(1, round(self.of_most * most_per_s * self.period_s)), self.period_s)


@dataclass(frozen=True)
class Arrangement:
    """A way to serve that is measured.

    Attributes:
        name: for tables.
        workers: of the server.
        store: ``memory``, ``file`` or ``valkey``.
        has_proxy: whether HAProxy stands in front, with the configuration of ``docker/``.
        sessions: of the closed loops to predict and to measure.
        shares: the streams to predict and to measure.
    """

    name: str
    workers: int
    store: str
    has_proxy: bool
    sessions: tuple[int, ...]
    shares: tuple[Share, ...]

    @property
    def missing(self) -> str | None:
        """What this machine lacks for it."""
        if self.store == "valkey" and BINARY is None:
            return "no valkey-server"
        return "no haproxy" if self.has_proxy and shutil.which(PROGRAM) is None else None

    def loads(self, most_per_s: float) -> list[tuple[Load, float]]:
        """All loads, each with its share of the most; 1 for closed loops."""
        found = [(closed(sessions), 1.0) for sessions in self.sessions]
        return found + [(share.at(most_per_s), share.of_most) for share in self.shares]


def closed(sessions: int) -> Load:
    return Load(sessions, 0.0)


def streams(sessions: int, period_s: float = CHUNK_S) -> Load:
    return Load(sessions, period_s)


def many(of_most: float) -> Share:
    return Share(of_most, MANY_PERIOD_S)


_USUAL = (Share(0.2), Share(0.4), many(0.3))
ARRANGEMENTS = (
    Arrangement(
        "memory", 1, "memory", False, (2, 16, 32, 128), (Share(0.2), Share(0.4), Share(0.6), many(0.2), many(0.4))
    ),
    Arrangement("file", 1, "file", False, (8, 32, 128), _USUAL),
    Arrangement("Valkey", 1, "valkey", False, (8, 32, 128), _USUAL),
    Arrangement("memory, 2 workers", 2, "memory", False, (16, 128), _USUAL),
    Arrangement("memory, proxy", 1, "memory", True, (16, 128), _USUAL),
)


@dataclass(frozen=True)
class Stage:
    """A server under measurement.

    Attributes:
        target: of the load.
        server: its processes.
        server_address: its own address, also behind a proxy.
        proxy: pids of the proxy.
        store: pids of the store.
        chunks: what it gets.
    """

    target: HetsynTarget
    server: ServerProcess
    server_address: Address
    proxy: Sequence[int]
    store: Sequence[int]
    chunks: Chunks


@contextmanager
def staged(arrangement: Arrangement, disk: Path) -> Iterator[Stage]:
    """The server runs within this context, with store and proxy.

    Args:
        arrangement: that is measured.
        disk: folder for the store's files.
    """
    chunks = recorded(RECORDINGS, CHUNK_S)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hetsyn-capacity-")))
        url, store = running.enter_context(stored(arrangement.store, disk))
        options = ["--store", url, "--client-share", "1", "--workers", str(arrangement.workers)]
        server, target = running.enter_context(serve_speech(chunks, *options))
        own, proxy = target.address, list[int]()
        if arrangement.has_proxy:
            address = Address("127.0.0.1", free_port())
            text = (ROOT / "docker/haproxy.cfg").read_text()
            one_thread = {"maxconn 4000": "maxconn 4000\n    nbthread 1"}
            file = folder / "haproxy.cfg"
            file.write_text(configuration(text, address.port, [target.address.port], one_thread))
            target = speech_target(address, chunks)
            missing = missing_answer(target, chunks.chunks[0])
            process = ServerProcess([PROGRAM, "-db", "-f", str(file)], {}, missing, folder / "haproxy.log")
            proxy = running.enter_context(process).pids()
        yield Stage(target, server, own, proxy, store, chunks)


@contextmanager
def stored(store: str, disk: Path) -> Iterator[tuple[str, Sequence[int]]]:
    """URL and pids of a store: ``memory``, ``file`` or ``valkey``. It ends with this context."""
    if store == "memory":
        yield "memory://", ()
        return
    with tempfile.TemporaryDirectory(prefix="hetsyn-capacity-", dir=disk) as name:
        if store == "file":
            yield f"file://{name}/sessions.db", ()
            return
        with ValkeyServer(Path(name)) as valkey:
            yield valkey.url, valkey.pids
