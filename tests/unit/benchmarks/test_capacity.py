"""The simulation of `benchmarks capacity` keeps the laws of queues, and its costs come out of what is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.capacity.arrangements import Share, closed, many, streams
from benchmarks.capacity.calibration import (
    CALIBRATED,
    LIGHT,
    as_sent,
    bare_loop,
    cold_s,
    commits_of,
    fitted,
    known_system,
)
from benchmarks.capacity.comparison import compared, kept
from benchmarks.capacity.counts import Simulated
from benchmarks.capacity.measurement import Observed, typical, typical_costs
from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.sizing import Basis, sizing
from benchmarks.capacity.stores import node_costs
from benchmarks.capacity.system import Load, LoopCosts, NodeCosts, System, capacities
from tests.support.paths import ROOT

COMMITS = ((1, 3.3e-4), (4, 4.2e-4), (64, 2.2e-3))
LOOP = LoopCosts(1e-4, ((1, 5e-4), (4, 9e-4), (64, 5e-3)), COMMITS, refuse_s=1e-4)
NODE = NodeCosts(turn_s=1e-3, command_s=1e-4, record_s=2e-5, record_bytes=11_000)
BARE = System(replace(LOOP, commits=((1, 0.0),)))
STORED = System(LOOP, node=NODE)

cost_s = st.floats(1e-6, 3e-3)


@st.composite
def systems(draw: st.DrawFn) -> System:
    def curve() -> tuple[tuple[int, float], ...]:
        first_s, more_s = draw(cost_s), draw(cost_s)
        return (1, first_s), (64, first_s + 63 * more_s)

    more = {name: draw(cost_s) for name in ("refuse_s", "pass_s", "cold_s", "waking_s")}
    loop = LoopCosts(draw(cost_s), curve(), curve(), **more)
    node = NodeCosts(draw(cost_s), draw(cost_s), draw(cost_s), 11_000, shares_turns=draw(st.booleans()))
    return System(
        loop,
        loops=draw(st.sampled_from([2, 4])),
        workers=draw(st.sampled_from([1, 2])),
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
    most = capacities(system)
    # commits that wait for a node join, so that a loop has less to do than when each batch makes one for each node; and
    # of few sessions it may be that none comes to another worker
    most["loop"] = capacities(replace(system, nodes=1, workers=1))["loop"]
    # what is in the service when the measured time begins may be nearly done
    assert simulated.answered_per_s <= 1.01 * min(most.values()) + sessions / seconds


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
        ("store", replace(STORED, loops=2, nodes=2, node=replace(NODE, command_s=4e-2))),
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


def test_a_loop_has_a_commit_of_each_node_under_way() -> None:
    slow = replace(STORED, node=replace(NODE, turn_s=4e-2))
    one, four = (simulate(replace(slow, nodes=nodes), closed(256)).answered_per_s for nodes in (1, 4))
    assert one == pytest.approx(capacities(slow)["store"], rel=0.1)
    assert four > 2 * one


def test_work_that_takes_more_or_less_time_takes_as_much_on_average() -> None:
    steady, spread_out = (simulate(replace(BARE, spread=deviation), closed(1), 10.0) for deviation in (0.0, 0.2))
    assert spread_out.answered_per_s == pytest.approx(steady.answered_per_s, rel=0.02)
    assert spread_out.p99_ms > 1.2 * steady.p99_ms


def test_a_load_generator_takes_time_for_request_and_reply_and_wakes_up() -> None:
    system = replace(BARE, client_s=4e-5, client_wake_s=1e-4, wire_s=3e-5)
    light = simulate(system, Load(1), seconds=5.0)
    assert light.p50_ms == pytest.approx(0.6 + 0.04 + 2 * 0.1 + 0.03)
    # in a closed loop it sends as soon as it has read
    assert simulate(system, closed(1)).p50_ms == pytest.approx(0.6 + 0.04 + 0.1 + 0.03)


def test_a_proxy_takes_time_for_request_and_reply_and_wakes_up() -> None:
    system = replace(BARE, proxies=1, proxy_s=4e-5, proxy_wake_s=2e-5)
    assert simulate(system, Load(1), seconds=5.0).p50_ms == pytest.approx(0.6 + 0.04 + 2 * 0.02)


def test_workers_pass_on_what_is_not_theirs() -> None:
    loop = replace(BARE.loop, pass_s=2e-4)
    one, two = (simulate(replace(BARE, loop=loop, loops=2, workers=n), Load(400, 10.0), 20.0) for n in (1, 2))
    assert one.mean_ms == pytest.approx(0.6, rel=0.05)
    # half of the chunks come to the other worker, which takes 0.1 ms for the request and 0.1 ms for the reply
    assert two.mean_ms == pytest.approx(0.7, rel=0.05)
    assert two.busy["loop"] / one.busy["loop"] == pytest.approx(0.7 / 0.6, rel=0.05)
    full = [simulate(replace(BARE, loop=loop, loops=2, workers=n), closed(256)).answered_per_s for n in (1, 2)]
    most = [capacities(replace(BARE, loop=loop, loops=2, workers=n))["loop"] for n in (1, 2)]
    assert full == pytest.approx(most, rel=0.1)


def test_a_full_worker_refuses_before_it_passes_on() -> None:
    loop = replace(BARE.loop, pass_s=2e-3, refuse_s=1e-6)
    full = replace(BARE, loop=loop, loops=2, workers=2, max_waiting=20)
    simulated = simulate(full, Load(3_000, 0.5), seconds=2.0, warmup_s=1.0)
    assert simulated.refused_per_s > 0.5 * 6_000
    # it answers nearly as many as it can: a refusal takes next to nothing
    assert simulated.answered_per_s > 0.6 * capacities(full)["loop"]


def test_processes_that_share_cores_take_turns() -> None:
    alone = simulate(replace(BARE, loops=2), closed(128))
    shared = simulate(replace(BARE, loops=2, cores=1), closed(128))
    assert shared.answered_per_s == pytest.approx(alone.answered_per_s / 2, rel=0.1)


def test_the_same_seed_gives_the_same_result() -> None:
    assert simulate(STORED, Load(100), seed=3) == simulate(STORED, Load(100), seed=3)
    assert simulate(STORED, Load(100), seed=3) != simulate(STORED, Load(100), seed=4)


def seen(simulated: Simulated) -> Observed:
    loop_s = simulated.busy["loop"] / simulated.answered_per_s
    client_s = simulated.busy.get("client", 0.0) / simulated.answered_per_s
    return Observed(
        simulated.answered_per_s,
        simulated.p50_ms,
        simulated.p99_ms,
        loop_s,
        proxy_s=0.0,
        client_s=client_s,
        lag_s=0.0,
        mean_batch=simulated.mean_batch,
    )


def observed(system: System) -> list[Observed]:
    """What the closed loops of the calibration would show of a system."""
    return [seen(simulate(system, closed(sessions), seconds=3.0)) for sessions in CALIBRATED]


def test_costs_come_out_of_the_loads_that_they_caused() -> None:
    compute_s = 5e-3 / 64
    bare = bare_loop(observed(BARE), compute_s)
    assert bare.chunk_s == pytest.approx(LOOP.chunk_s, rel=0.02)
    for chunks, seconds in bare.batches:
        assert seconds == pytest.approx(LOOP.batch_s(chunks), rel=0.02)
    # a store's commits have as many records as its loop's batches have chunks, if it is quick
    quick = replace(STORED, node=NodeCosts(0.0, 1e-9, 1e-9, 11_000))
    commits = commits_of(bare, observed(quick))
    for records, seconds in commits:
        assert seconds == pytest.approx(LOOP.commit_s([records])[0], rel=0.15)


def test_what_a_turn_after_idle_time_costs_comes_out_of_a_light_load() -> None:
    load = replace(streams(20), tick_s=1e-3)
    cold = replace(BARE, loop=replace(BARE.loop, cold_s=3e-4))
    assert cold_s(BARE, load, seen(simulate(cold, load))) == pytest.approx(3e-4, rel=0.2)


def test_one_worker_is_known_from_closed_loops_and_light_loads() -> None:
    loop = replace(BARE.loop, cold_s=2e-4, waking_s=1e-4)
    system = replace(BARE, loop=loop, client_s=2e-5, client_wake_s=5e-5, wire_s=4e-5, spread=0.2, cores=2)
    light = replace(seen(simulate(system, as_sent(LIGHT, observe_lag(6e-4)))), lag_s=6e-4)
    known = known_system(observed(system), light, 5e-3 / 64, 2)
    # also with 64 sessions it rests now and then
    assert 2e-5 <= known.client_s <= 2e-5 + 5e-5
    assert known.client_s + known.client_wake_s == pytest.approx(2e-5 + 5e-5, rel=0.01)
    assert known.wire_s == pytest.approx(4e-5, rel=0.15)
    assert known.loop.cold_s == pytest.approx(2e-4, rel=0.2)
    assert known.loop.cold_s + known.loop.waking_s == pytest.approx(3e-4, rel=0.15)
    assert known.spread == pytest.approx(0.2, rel=0.2)


def test_a_value_is_fitted_between_its_ends() -> None:
    assert fitted(lambda x: x * x, 0.25, 1.0) == pytest.approx(0.5, abs=1e-3)
    assert fitted(lambda x: 1.0 + x, 0.5, 1.0) == 0.0
    assert fitted(lambda x: x, 7.0, 1.0) == 1.0


def test_a_store_that_has_rested_takes_longer_and_one_that_has_not_does_not() -> None:
    rested = replace(STORED, node=replace(NODE, cold_s=4e-4))
    light = [simulate(system, Load(1, 0.1)).p50_ms for system in (STORED, rested)]
    assert light[1] - light[0] == pytest.approx(0.4, rel=0.05)
    full = [simulate(system, closed(300)).p50_ms for system in (STORED, rested)]
    assert full[1] == pytest.approx(full[0], rel=0.02)


def test_the_thread_of_a_file_waits_for_its_loop_and_a_server_of_its_own_does_not() -> None:
    node = replace(NODE, turn_s=1e-4, command_s=0.0, record_s=7e-6)
    file, server = (replace(STORED, node=replace(node, shares_turns=shares)) for shares in (False, True))
    alone = [simulate(system, closed(1)).p50_ms for system in (file, server)]
    assert alone[0] == pytest.approx(alone[1], rel=0.01)  # the loop rests meanwhile
    busy = [simulate(system, Load(200, 0.1, 1e-3)).p50_ms for system in (file, server)]
    assert busy[0] > 1.15 * busy[1]


def observe_lag(lag_s: float) -> Observed:
    return Observed(400.0, 1.0, 1.0, 1e-3, 0.0, 1e-5, lag_s, 1.2)


def test_streams_are_sent_in_the_steps_of_the_load_generator_and_closed_loops_at_once() -> None:
    light = observe_lag(7e-4)
    assert as_sent(streams(10), light).tick_s == pytest.approx(1.4e-3)
    assert as_sent(closed(10), light) == closed(10)


def test_streams_are_a_share_of_what_the_server_does() -> None:
    assert Share(0.4).at(5_000) == streams(200)
    assert many(0.3).at(5_000) == streams(3_000, 2.0)
    assert Share(0.2).at(1.0).sessions == 1


def test_the_typical_run_has_the_median_of_each_figure() -> None:
    runs = [replace(observe_lag(1e-3), p50_ms=p50, loop_s=loop) for p50, loop in ((1, 3e-3), (2, 1e-3), (9, 2e-3))]
    assert typical(runs) == replace(runs[0], p50_ms=2, loop_s=2e-3)
    costs = [replace(NODE, turn_s=turn) for turn in (1e-3, 2e-3, 9e-3)]
    assert typical_costs(costs) == replace(NODE, turn_s=2e-3)


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


def test_kept_results_come_again_from_what_they_measured() -> None:
    path = ROOT / "benchmarks/results/capacity.json"
    results = json.loads(path.read_text())
    again = compared(kept(path))
    assert again["agreement"] == results["agreement"]
    both = [*zip(again["comparison"], results["comparison"], strict=True)]
    for now, then in (*both, *zip(again["calibration"], results["calibration"], strict=True)):
        assert now["measured"] == then["measured"]
        assert now["median"] == pytest.approx(then["median"], rel=1e-6)


def test_sizing_says_for_each_load_what_gives_way() -> None:
    basis = Basis(BARE.loop, 2, 2e-5, 1e-5, LOOP, NODE)
    rows = sizing(basis, period_s=1.0, is_quick=True)
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
