"""The load of ``hetsyn bench`` on any server of streams, with the server's CPU time and its answers."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from http.client import HTTPException, HTTPResponse
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.cpu_contention import QUIET_CORES, CpuContention, CpuUsage
from benchmarks.load.requests import RequestWay
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.run import Loop, Measurement, RunSettings, measure, run_loop
from hetsyn_client.loadtest.search import Found, Trial, next_streams, try_streams
from hetsyn_client.loadtest.senders import Way
from tests.support.servers.server_process import ServerProcess
from tests.support.servers.target import Address, Target

EXCHANGE_TIMEOUT_S = 10.0
# of --smoke: so few sessions at a time that a chunk is answered within the run on a busy machine, too
SMOKE_CONCURRENCIES = (2,)
SMOKE_RUN = RunSettings(duration_s=1.0, warmup_s=0.05)  # a busy machine answers nothing in 0.3 s
PROBE_SESSION = "probe"  # of the chunk that asks whether a server is ready


class StreamTarget(Target, Protocol):
    """A target with answers that can be read."""

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        """Probabilities [outputs] of the session so far, from the body of a reply."""


class LoadError(Exception):
    """A server refused a chunk or did not answer. The message has its answer."""


@dataclass(frozen=True)
class Figures:
    """The figures of one closed loop.

    Attributes:
        chunks_per_s: throughput.
        p50_ms: median latency.
        p99_ms: 99th percentile of the latency.
        cpu_ms: CPU time of the server a chunk.
        others_cores: cores that programs other than server and load generator used. Disturbed figures show here.
    """

    chunks_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    others_cores: float

    @property
    def is_quiet(self) -> bool:
        """Whether other programs left the machine to the server."""
        return self.others_cores <= QUIET_CORES


def typical(rounds: Sequence[Figures]) -> Figures:
    """Medians over the quiet rounds; the round with the least disturbance if none was quiet.

    Other programs only ever slow a server down, so a disturbed round says little about it.
    """
    quiet = [one for one in rounds if one.is_quiet]
    if not quiet:
        quiet = [min(rounds, key=lambda one: one.others_cores)]
    return Figures(
        **{field.name: statistics.median(getattr(one, field.name) for one in quiet) for field in fields(Figures)}
    )


def closed_loop(
    target: Target, server: ServerProcess, load: Load, concurrency: int, settings: RunSettings, patience_s: float = 0.0
) -> Figures:
    """Run ``concurrency`` sessions at a time. Each sends its next chunk when the last is answered.

    Args:
        target: the server's interface.
        server: its process.
        load: the chunks.
        concurrency: number of sessions at a time.
        patience_s: the longest wait for other programs before the run.

    Raises:
        LoadError: a chunk failed, or a process of the server ended.
    """
    contention = CpuContention(server.pids)
    run_loop(contention.until_quiet(patience_s))
    contention.usage()
    measured = run_loop(measure(RequestWay(target), load, Loop(concurrency, is_open=False), settings))
    usage = contention.usage()
    _check(measured)
    if usage is None:
        raise LoadError("a process of the server ended during the run")
    return Figures(
        measured.achieved_per_s,
        measured.latency.percentiles[50.0],
        measured.latency.percentiles[99.0],
        1e3 * usage.server_s / max(1, measured.applied),
        usage.other_cores,
    )


@dataclass(frozen=True)
class SearchLimits:
    """The most trials of a search, and the longest wait for other programs before each."""

    max_trials: int = 40
    patience_s: float = 15.0


async def find_streams(
    way: Callable[[], Way],
    pids: Callable[[], Iterable[int]],
    load: Load,
    limit_ms: float,
    settings: RunSettings,
    limits: SearchLimits,
) -> tuple[Found, list[CpuUsage | None]]:
    """Search as ``hetsyn bench --find-streams``. Returns the use of the cores in each trial, too.

    Args:
        way: makes what carries the chunks of a trial to the server.
        pids: of the server's processes, beside which others may use the cores.
        load: chunks to send.
        limit_ms: of the p99.
        settings: of each trial.
        limits: most trials, and how long each may wait for a quiet machine.
    """
    contention = CpuContention(pids)
    trials: list[Trial] = []
    usages: list[CpuUsage | None] = []
    while len(trials) < limits.max_trials and (streams := next_streams(trials)) is not None:
        await contention.until_quiet(limits.patience_s)
        contention.usage()
        trials.append(await try_streams(way(), load, streams, limit_ms, settings))
        usages.append(contention.usage())
    return Found(limit_ms, trials), usages


def _check(measured: Measurement) -> None:
    if measured.failures or not measured.answered:
        raise LoadError(f"{measured.answered} answered, {measured.unanswered} not, errors: {measured.errors}")


def exchange(address: Address, request: bytes) -> bytes:
    """Send one request on a connection of its own. Returns the body of the reply.

    Raises:
        LoadError: no reply, or a status other than 2xx.
    """
    try:
        with socket.create_connection((address.host, address.port), EXCHANGE_TIMEOUT_S) as connection:
            connection.sendall(request)
            with HTTPResponse(connection) as response:
                response.begin()
                body = response.read()
    except (OSError, HTTPException) as error:
        raise LoadError(str(error) or type(error).__name__) from error
    if not 200 <= response.status < 300:
        raise LoadError(f"{response.status}: {body[:300]!r}")
    return body


def missing_answer(target: Target, chunk: bytes) -> Callable[[], str | None]:
    """Make the probe of a ``ServerProcess``: it sends a chunk, and returns the error until the server answers."""

    def missing() -> str | None:
        try:
            exchange(target.address, target.request(PROBE_SESSION, 0, chunk, is_last=True))
        except LoadError as error:
            return str(error)
        return None

    return missing


def answers(target: StreamTarget, sessions: int, chunks: Sequence[bytes]) -> NDArray[np.float32]:
    """Probabilities [session, chunk, outputs] of sessions that take turns, so that mixed-up states show.

    Session s begins with chunk s, and goes on in a cycle.

    Raises:
        LoadError: a chunk failed.
    """
    probabilities: list[list[NDArray[np.float32]]] = [[] for _ in range(sessions)]
    for seq in range(len(chunks)):
        is_last = seq + 1 == len(chunks)
        for s in range(sessions):
            chunk = chunks[(s + seq) % len(chunks)]
            request = target.request(f"answers-{s}", seq, chunk, is_last=is_last)
            probabilities[s].append(target.probabilities(exchange(target.address, request)))
    return np.array(probabilities)
