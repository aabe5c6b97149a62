"""The load of ``hetsyn bench`` on any server of streams, with the server's CPU time and what it answers."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from http.client import HTTPException, HTTPResponse
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.server_process import ServerProcess, Stopwatch
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.ramp import Goal, RampSettings
from hetsyn_client.loadtest.run import ClosedLoop, RunSettings, Search, measure, run_loop, saturate
from hetsyn_client.loadtest.target import Address, Outcome, Response, Target

EXCHANGE_TIMEOUT_S = 10.0
DISTURBING_CORES = 0.15
QUIET_S = 0.25


class StreamTarget(Target, Protocol):
    """A target whose answers can be read."""

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        """What a reply says of the session so far."""


class LoadError(Exception):
    """A server refused a chunk or did not answer; the message says what it said."""


@dataclass(frozen=True)
class Figures:
    """What a stretch of closed loop showed.

    p50_ms, p99_ms: of the latency. cpu_ms: the server's CPU time a chunk. others_cores: how many cores were busy with
    anything but the server and the load; a figure from a disturbed machine can be told by it.
    """

    chunks_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    others_cores: float


def typical(rounds: Sequence[Figures]) -> Figures:
    """Medians over the rounds that nothing disturbed; the quietest round where all were disturbed.

    Other programs only ever take speed away, so a disturbed round says nothing about a server.
    """
    quiet = [one for one in rounds if one.others_cores <= DISTURBING_CORES]
    if not quiet:
        quiet = [min(rounds, key=lambda one: one.others_cores)]
    return Figures(
        **{field.name: statistics.median(getattr(one, field.name) for one in quiet) for field in fields(Figures)}
    )


class _Counted:
    """A target that counts the chunks that were applied, those of the warm-up included: CPU time belongs to all."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.address = target.address
        self.request = target.request
        self.drop = target.drop
        self.applied = 0

    def judge(self, response: Response) -> Outcome:
        outcome = self._target.judge(response)
        self.applied += outcome is Outcome.APPLIED
        return outcome


def closed_loop(
    target: Target, server: ServerProcess, load: Load, concurrency: int, settings: RunSettings, patience_s: float = 0.0
) -> Figures:
    """``concurrency`` sessions at a time, each sending its next chunk when the last is answered.

    Args:
        patience_s: how long to wait, at most, until other programs leave the machine alone.

    Raises:
        LoadError: a chunk failed; a server's errors are not its speed.
    """
    _wait_for_quiet(server, patience_s)
    counted = _Counted(target)
    watch = Stopwatch(server)
    measured = run_loop(measure(counted, load, ClosedLoop(concurrency), settings))
    lap = watch.lap()
    _check(measured)
    return Figures(
        measured.achieved_per_s,
        measured.latency.at(50.0),
        measured.latency.at(99.0),
        1e3 * lap.server_s / max(1, counted.applied),
        lap.others_cores,
    )


def _wait_for_quiet(server: ServerProcess, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        watch = Stopwatch(server)
        time.sleep(QUIET_S)
        if watch.lap().others_cores <= DISTURBING_CORES:
            return


def real_time_streams(target: Target, load: Load, goal: Goal, settings: RunSettings, ramp: RampSettings) -> Search:
    """The search for the largest number of real-time streams that holds the goal."""
    return run_loop(saturate(target, load, goal, settings, ramp))


def _check(measured: Measurement) -> None:
    if measured.failures or not measured.answered:
        raise LoadError(f"{measured.answered} answered, {measured.unanswered} not, errors: {measured.errors}")


def exchange(address: Address, request: bytes) -> bytes:
    """The body of the reply to one request, on a connection of its own.

    Raises:
        LoadError: a reply other than 200, or none.
    """
    try:
        with socket.create_connection((address.host, address.port), EXCHANGE_TIMEOUT_S) as connection:
            connection.sendall(request)
            with HTTPResponse(connection) as response:
                response.begin()
                body = response.read()
    except (OSError, HTTPException) as error:
        raise LoadError(str(error) or type(error).__name__) from error
    if response.status != 200:
        raise LoadError(f"{response.status}: {body[:300]!r}")
    return body


def answers(target: StreamTarget, sessions: int, chunks: Sequence[bytes]) -> NDArray[np.float32]:
    """Probabilities [session, chunk, outputs] of sessions that take turns, so that a mixed-up state shows.

    Session s hears the chunks from the s-th on.

    Raises:
        LoadError: a chunk failed.
    """
    heard: list[list[NDArray[np.float32]]] = [[] for _ in range(sessions)]
    for seq in range(len(chunks)):
        is_last = seq + 1 == len(chunks)
        for s in range(sessions):
            chunk = chunks[(s + seq) % len(chunks)]
            request = target.request(f"answers-{s}", seq, chunk, is_last=is_last)
            heard[s].append(target.probabilities(exchange(target.address, request)))
    return np.array(heard)
