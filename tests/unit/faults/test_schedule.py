"""Which faults a script has."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.long.faults.schedule import LASTS_S, MIXES, Kind, schedule


@pytest.mark.parametrize("store", MIXES)
def test_a_seed_says_all(store: str) -> None:
    assert schedule(store, 60, 2, 7) == schedule(store, 60, 2, 7)
    assert schedule(store, 60, 2, 7) != schedule(store, 60, 2, 8)


@pytest.mark.parametrize("store", MIXES)
@pytest.mark.parametrize("count", [0, 1, 9, 54])
def test_it_has_so_many_faults_each_within_its_bounds(store: str, count: int) -> None:
    faults = schedule(store, count, 2, 1)
    assert len(faults) == count
    for fault in faults:
        shortest_s, longest_s = LASTS_S[fault.kind]
        assert shortest_s <= fault.lasts_s <= longest_s
        assert 0 <= fault.replica < 2
        assert fault.wait_s > 0


@pytest.mark.parametrize("store", MIXES)
def test_every_kind_that_a_store_can_meet_happens_in_a_long_run(store: str) -> None:
    kinds = Counter(fault.kind for fault in schedule(store, 54, 2, 3))
    assert set(kinds) == set(MIXES[store])


def test_a_store_meets_no_fault_that_it_cannot_have() -> None:
    assert Kind.damaged_file not in MIXES["valkey"]
    assert Kind.full_store not in MIXES["memory"]
    assert not {Kind.kill_store, Kind.pause_store} & (set(MIXES["file"]) | set(MIXES["memory"]))
