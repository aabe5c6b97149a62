"""From what was measured to the costs of the simulation.

Costs come from closed loops of ``CALIBRATED`` sessions, and from the load ``LIGHT``. All other loads set no cost.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.capacity.arrangements import Arrangement, closed, streams
from benchmarks.capacity.measurement import Observed
from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.stores import FULL
from benchmarks.capacity.system import Curve, Load, LoopCosts, NodeCosts, System

CALIBRATED = (1, 4, FULL)  # sessions of the closed loops that costs come from
LIGHT = streams(40)
CALIBRATING = (*map(closed, CALIBRATED), LIGHT)  # the loads that set costs
HALVINGS = 10
MOST_SPREAD = 0.5
LATEST_S = 1e-3  # of a part that wakes up


def bare_loop(seen: Sequence[Observed], compute_s: float) -> LoopCosts:
    """The costs of a loop without a store.

    Args:
        seen: closed loops of ``CALIBRATED`` sessions.
        compute_s: of the engine alone.
    """
    # The time of a full batch is known as a whole. What is not the engine's is taken to be each chunk's own.
    chunk_s = max(0.0, seen[-1].loop_s - compute_s)
    # A refused chunk is read and answered, but has no session and no result: by hand 50 to 53 us, with 117 for chunk_s.
    return LoopCosts(chunk_s, _batches(chunk_s, seen), refuse_s=chunk_s / 2)


def _batches(chunk_s: float, seen: Sequence[Observed]) -> Curve:
    """Times of batches: what is not each chunk's own. Sessions of a closed loop do not all share a batch."""
    return tuple((one.mean_batch, max(0.0, one.mean_batch * (one.loop_s - chunk_s))) for one in seen)


def wire_s(seen: Observed) -> float:
    """The time in which nobody works, from a closed loop of one session: what is left of its chunk's time."""
    return max(0.0, 1 / seen.answered_per_s - seen.loop_s - seen.client_s)


def as_sent(load: Load, light: Observed) -> Load:
    """A load with the steps of time in which the load generator sends: half of one is its lag under ``LIGHT``."""
    return replace(load, tick_s=2 * light.lag_s) if load.period_s else load


def cold_s(system: System, load: Load, seen: Observed) -> float:
    """What a turn after some time without work costs more.

    Args:
        system: one loop, whose costs are known but for this one.
        load: so light that most turns are such ones.
        seen: the load on the server.
    """
    expected = simulate(system, load)
    if not expected.cold_turns_per_s:  # a server so slow that it never rests
        return 0.0
    missing_s = seen.loop_s - expected.busy["loop"] / expected.answered_per_s
    return max(0.0, missing_s * expected.answered_per_s / expected.cold_turns_per_s)


def commits_of(bare: LoopCosts, seen: Sequence[Observed]) -> Curve:
    """Times of commits: what chunks take more with a store than without, in batches of the same size."""
    sizes = [(one.mean_batch, one.loop_s) for one in seen]
    return tuple((n, max(0.0, n * (loop_s - bare.chunk_s) - bare.batch_s(n))) for n, loop_s in sizes)


def fitted(of: Callable[[float], float], goal: float, most: float) -> float:
    """The value at which something that grows with it reaches a goal.

    Args:
        of: what grows.
        goal: that it has to reach.
        most: the largest value.

    Returns:
        From 0 to the most; one of these two where no value between them reaches the goal.
    """
    low, high = 0.0, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) < goal else (low, middle)
    return low if low == 0.0 else high


def known_system(seen: Sequence[Observed], light: Observed, compute_s: float, cores: float) -> System:
    """One worker without store and proxy.

    Args:
        seen: closed loops of ``CALIBRATED`` sessions.
        light: the load ``LIGHT``.
        compute_s: of the engine alone.
        cores: that server, store, proxy and load generator may use together.
    """
    client_s = seen[-1].client_s
    bare = System(
        bare_loop(seen, compute_s),
        client_s=client_s,
        client_wake_s=max(0.0, seen[0].client_s - client_s),
        wire_s=wire_s(seen[0]),
        cores=cores,
    )

    def tail(spread: float) -> float:
        alone = simulate(replace(bare, spread=spread), closed(1))
        return alone.p99_ms / alone.p50_ms

    bare = replace(bare, spread=fitted(tail, seen[0].p99_ms / seen[0].p50_ms, MOST_SPREAD))
    load = as_sent(LIGHT, light)
    cold = replace(bare, loop=replace(bare.loop, cold_s=cold_s(bare, load, light)))

    def waking(waking_s: float) -> System:
        return replace(cold, loop=replace(cold.loop, waking_s=waking_s))

    return waking(fitted(lambda value: simulate(waking(value), load).p50_ms, light.p50_ms, LATEST_S))


def system_of(
    arrangement: Arrangement, seen: Sequence[Observed], light: Observed, known: System, node: NodeCosts | None
) -> System:
    """The arrangement as the simulation sees it.

    Args:
        arrangement: that was measured.
        seen: closed loops of ``CALIBRATED`` sessions.
        light: the load ``LIGHT``.
        known: one worker without store and proxy.
        node: its store; None for memory.
    """
    full = seen[-1]
    system = replace(known, loops=arrangement.workers, client_s=full.client_s, node=node)
    if arrangement.workers > 1:
        # Not of a lone session, whose workers rest between its chunks: what that takes is counted as such. With two
        # workers half of the chunks are taken to be passed on.
        bare = known.loop
        more = [one.loop_s - bare.chunk_s - bare.batch_s(one.mean_batch) / one.mean_batch for one in seen[1:]]
        passed_on = 1 - 1 / arrangement.workers
        system = replace(
            system,
            workers=arrangement.workers,
            loop=replace(known.loop, pass_s=max(0.0, statistics.fmean(more)) / passed_on),
        )
    if arrangement.has_proxy:
        system = replace(
            system,
            proxies=1,
            proxy_s=full.proxy_s,
            proxy_wake_s=max(0.0, seen[0].proxy_s - full.proxy_s) / 2,  # a lone session lets it rest twice a chunk
        )
    load = as_sent(LIGHT, light)
    if node is not None:
        stored = replace(system, loop=replace(known.loop, commits=commits_of(known.loop, seen)))

        def rested(cold_s: float) -> System:
            return replace(stored, node=replace(node, cold_s=cold_s))

        return rested(fitted(lambda value: simulate(rested(value), load).p50_ms, light.p50_ms, LATEST_S))
    return system
