"""Worlds that seeds decide: nothing acknowledged is lost, nothing counts twice, and nothing is left behind."""

from __future__ import annotations

import os

import pytest

from tests.simulation.world import Simulation, drawn
from tests.support.seed import SEED

WORLDS, PARTS = 1_000, 20
NIGHT_WORLDS = 100_000


def _check(seeds: range) -> None:
    for seed in seeds:
        complaints = Simulation(drawn(seed)).run()
        assert not complaints, f"python -m tests.simulation --seed {seed}: {complaints}"


@pytest.mark.parametrize("part", range(PARTS))
def test_a_world_keeps_every_acknowledged_chunk(part: int) -> None:
    size = WORLDS // PARTS
    _check(range(part * size, (part + 1) * size))


def test_a_seed_gives_the_same_world_again() -> None:
    for seed in range(5):
        first, second = (Simulation(drawn(seed), is_traced=True) for _ in range(2))
        first.run()
        second.run()
        assert first.world.trace == second.world.trace


@pytest.mark.long
def test_many_worlds_with_the_day_s_seed() -> None:
    _check(range(SEED * NIGHT_WORLDS, (SEED + 1) * NIGHT_WORLDS))


assert os
