"""The simulation of `benchmarks capacity` keeps the laws of queues, and its costs come out of what is measured."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.capacity import kept
from benchmarks.capacity.measurement import CALIBRATED, Observed, bare_loop, closed, cold_s, stored_loop, streams
from benchmarks.capacity.simulation import Simulated, simulate
from benchmarks.capacity.sizing import Basis, sizing
from benchmarks.capacity.stores import node_costs
from benchmarks.capacity.system import Load, LoopCosts, NodeCosts, System, capacities

LOOP = LoopCosts(1e-4, ((1, 5e-4), (4, 9e-4), (64, 5e-3)), commit_s=3e-4, record_s=3e-5, refuse_s=1e-4)
NODE = NodeCosts(turn_s=1e-3, command_s=1e-4, record_s=2e-5, record_bytes=11_000)
BARE = System(replace(LOOP, commit_s=0.0, record_s=0.0))
STORED = System(LOOP, node=NODE)

cost_s = st.floats(1e-6, 3e-3)


@st.composite
def systems(draw: st.DrawFn) -> System:
    first_s, more_s = draw(cost_s), draw(cost_s)
    loop = LoopCosts(
        draw(cost_s), ((1, first_s), (64, first_s + 63 * more_s)), draw(cost_s), draw(cost_s), draw(cost_s)
    )
    node = NodeCosts(draw(cost_s), draw(cost_s), draw(cost_s), 11_000, shares_turns=draw(st.booleans()))
    return System(
        loop,
        loops=draw(st.integers(1, 4)),
        node=draw(st.sampled_from([None, node])),
        nodes=draw(st.integers(1, 3)),
        proxy_s=draw(cost_s),
        proxies=draw(st.integers(0, 3)),
    )


@settings(max_examples=15, deadline=None)
@given(systems(), st.integers(1, 200), st.sampled_from([0.0, 0.05, 0.5]), st.integers(0, 9))
def test_no_part_works_longer_than_there_is_time_and_none_answers_more_than_is_sent(
    system: System, sessions: int, period_s: float, seed: int
) -> None:
    seconds = 0.5
    simulated = simulate(system, Load(sessions, period_s), seconds, warmup_s=0.2, seed=seed)
    # a turn counts when it begins, and one may begin before the measured time
    longest_s = 64 * 1.2e-2 + 0.1
    assert all(busy * seconds <= seconds + longest_s for busy in simulated.busy.values())
    assert simulated.answered_per_s <= (sessions * (seconds / period_s + 2) if period_s else inf) / seconds
    assert simulated.in_service <= sessions * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(systems(), st.integers(1, 300))
def test_throughput_is_never_above_the_smallest_capacity(system: System, sessions: int) -> None:
    # a file takes no other loop's command into its turn, so its batches need not be full for its law to hold
    seconds = 0.6
    simulated = simulate(system, closed(sessions), seconds, warmup_s=0.2)
    # what is in the service when the measured time begins may be nearly done
    assert simulated.answered_per_s <= 1.01 * min(capacities(system).values()) + sessions / seconds


@pytest.mark.parametrize("system", [BARE, STORED, replace(STORED, loops=3, nodes=2, proxies=2, proxy_s=2e-4)])
@pytest.mark.parametrize("load", [Load(40), Load(300), closed(1), closed(100)], ids=str)
def test_littles_law(system: System, load: Load) -> None:
    simulated = simulate(system, load, seconds=3.0, warmup_s=1.0)
    assert simulated.in_service == pytest.approx(simulated.answered_per_s * simulated.mean_ms / 1e3, rel=0.05)


@pytest.mark.parametrize("load", [Load(30), Load(200), closed(1), closed(64)], ids=str)
def test_the_utilisation_law(load: Load) -> None:
    proportional = LoopCosts(1e-4, ((0, 0.0), (64, 64 * 1e-4)))  # a chunk costs the same in any batch
    system = System(proportional, proxies=1, proxy_s=5e-5)
    simulated = simulate(system, load, seconds=3.0)
    assert simulated.busy["loop"] == pytest.approx(2e-4 * simulated.answered_per_s, rel=0.02)
    assert simulated.busy["proxy"] == pytest.approx(5e-5 * simulated.answered_per_s, rel=0.02)


@pytest.mark.parametrize(
    ("part", "system"),
    [
        ("loop", replace(STORED, proxies=2, proxy_s=1e-6)),
        ("proxy", replace(STORED, proxies=1, proxy_s=1e-3)),
        ("store", replace(STORED, loops=4, node=replace(NODE, record_s=4e-4), proxies=4, proxy_s=1e-6)),
        ("store", replace(STORED, loops=2, nodes=3, node=replace(NODE, command_s=4e-2))),
        ("store", replace(STORED, loops=3, node=replace(NODE, turn_s=3e-2, shares_turns=False))),
    ],
)
def test_a_crowd_saturates_the_smallest_part_and_no_other(part: str, system: System) -> None:
    most = capacities(system)
    assert min(most, key=most.__getitem__) == part
    simulated = simulate(system, closed(600), seconds=4.0, warmup_s=1.0)
    assert simulated.answered_per_s == pytest.approx(most[part], rel=0.12)
    assert simulated.busy[part] > 0.9
    assert simulated.busy[part] == max(simulated.busy.values())


def test_a_light_load_is_answered_as_it_comes_and_a_chunk_takes_its_own_time() -> None:
    simulated = simulate(BARE, Load(1), seconds=5.0)
    assert simulated.answered_per_s == pytest.approx(10, abs=0.3)
    assert simulated.p50_ms == pytest.approx(0.6)
    assert simulated.refused_per_s == 0


def test_batches_fill_under_load() -> None:
    batches = [simulate(BARE, closed(sessions)).mean_batch for sessions in (1, 8, 64, 256)]
    assert batches == sorted(batches)
    assert batches[0] == 1
    assert batches[-1] == 64


def test_a_full_server_refuses_what_it_has_no_room_for_and_answers_the_rest_in_time() -> None:
    system = replace(BARE, max_waiting=200)
    offered = Load(800)
    simulated = simulate(system, offered, seconds=2.0, warmup_s=1.0)
    assert simulated.refused_per_s > 0.2 * offered.offered_per_s
    assert simulated.answered_per_s + simulated.refused_per_s == pytest.approx(offered.offered_per_s, rel=0.03)
    # refusing takes time from answering
    assert 0.3 * capacities(system)["loop"] < simulated.answered_per_s < capacities(system)["loop"]
    assert simulated.p50_ms < 1.5e3 * 200 / simulated.answered_per_s


def test_behind_a_store_that_is_too_slow_chunks_get_503_when_they_have_waited_too_long() -> None:
    slow = replace(STORED, node=replace(NODE, turn_s=1.0), store_timeout_s=1.5)
    simulated = simulate(slow, Load(500, 1.0), seconds=10.0, warmup_s=5.0)
    assert simulated.refused_per_s > 0
    assert simulated.p99_ms < 1e3 * (1.5 + 2 * 1.1)
    assert simulate(STORED, Load(500, 1.0), seconds=5.0).refused_per_s == 0


def test_processes_that_share_cores_take_turns() -> None:
    alone = simulate(replace(BARE, loops=2), closed(128))
    shared = simulate(replace(BARE, loops=2, cores=1), closed(128))
    assert shared.answered_per_s == pytest.approx(alone.answered_per_s / 2, rel=0.1)


def test_the_same_seed_gives_the_same_result() -> None:
    assert simulate(STORED, Load(100), seed=3) == simulate(STORED, Load(100), seed=3)
    assert simulate(STORED, Load(100), seed=3) != simulate(STORED, Load(100), seed=4)


def seen(simulated: Simulated) -> Observed:
    loop_s = simulated.busy["loop"] / simulated.answered_per_s
    return Observed(simulated.answered_per_s, simulated.p50_ms, simulated.p99_ms, loop_s, 0.0, 1e-5, "simulated")


def observed(system: System) -> list[Observed]:
    """What the closed loops of the calibration would show of a system."""
    return [seen(simulate(system, closed(sessions), seconds=3.0)) for sessions in CALIBRATED]


def test_costs_come_out_of_the_loads_that_they_caused() -> None:
    compute_s = 5e-3 / 64
    bare = bare_loop(observed(BARE), compute_s)
    assert bare.chunk_s == pytest.approx(LOOP.chunk_s, rel=0.02)
    for chunks, expected_s in LOOP.batches:
        assert bare.batch_s(chunks) == pytest.approx(expected_s, rel=0.02)
    # a store's commits have as many records as its loop's batches have chunks, if it is quick
    quick = replace(STORED, node=NodeCosts(0.0, 1e-9, 1e-9, 11_000))
    stored = stored_loop(bare, observed(quick))
    assert stored.commit_s == pytest.approx(LOOP.commit_s, rel=0.1)
    assert stored.record_s == pytest.approx(LOOP.record_s, rel=0.1)


def test_what_a_turn_after_idle_time_costs_comes_out_of_a_light_load() -> None:
    load = streams(20)
    cold = replace(BARE, loop=replace(BARE.loop, cold_s=3e-4))
    assert cold_s(BARE, load, seen(simulate(cold, load))) == pytest.approx(3e-4, rel=0.1)


def test_a_file_costs_time_for_each_commit_and_its_turns_are_not_shared(tmp_path: Path) -> None:
    found = node_costs(f"file://{tmp_path / 'sessions.db'}", [], record_bytes=2_000, seconds=0.1)
    assert 0 < found.turn_s < 1
    assert found.record_bytes == 2_000
    assert not found.shares_turns


def test_costs_that_are_none_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for text in (None, "{", "[]", "{}"):
        path = tmp_path / "costs.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(SystemExit, match="no results of this benchmark"):
            kept(path)


def test_sizing_says_for_each_load_what_gives_way() -> None:
    basis = Basis(BARE.loop, 2e-5, LOOP, NODE)
    rows = sizing(basis, workers=2, period_s=1.0, is_quick=True)
    assert {row["sessions"] for row in rows} == {1_000, 10_000, 25_000, 100_000, 1_000_000}
    assert {row["replicas"] for row in rows} == {1, 10, 100}
    for row in rows:
        most = row["capacities_per_s"]
        assert most[row["smallest"]] == min(most.values())
        assert row["needed"] == pytest.approx(row["offered_per_s"] / min(most.values()))
        if row["simulated"] is not None and row["needed"] < 0.6 and row["store"] == "memory":
            assert row["simulated"]["refused_per_s"] == 0
    one = {row["replicas"]: row["smallest"] for row in rows if row["store"] == "one Valkey"}
    assert one[1] == "loop"
    assert one[100] == "store"
