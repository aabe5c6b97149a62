"""Worlds that seeds decide: nothing acknowledged is lost, nothing counts twice, and nothing is left behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.plan import drawn
from tests.simulation.world import Simulation
from tests.support.paths import ROOT
from tests.support.seed import SEED

WORLDS, PARTS = 64, 8
NIGHT_WORLDS, NIGHT_PARTS = 100_000, 200


@pytest.fixture(autouse=True)
def _without_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_world_keeps_every_acknowledged_chunk(part: int) -> None:
    for seed in range(part, WORLDS, PARTS):
        complaints = Simulation(drawn(seed)).run()
        assert not complaints, f"python -m tests.simulation --seed {seed}: {complaints[0]}"


def test_a_seed_gives_the_same_world_again_in_any_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "100", "--worlds", "12"]

    def sign_of(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout[-2000:]
        return ran.stdout.split()[-1]

    with ThreadPoolExecutor() as pool:
        signs = set(pool.map(sign_of, "12"))
    assert len(signs) == 1


@pytest.mark.long
def test_worlds_of_the_day_s_seed() -> None:
    size = NIGHT_WORLDS // NIGHT_PARTS
    first = SEED * NIGHT_WORLDS

    def run(part: int) -> str:
        seeds = ["--seed", str(first + part * size), "--worlds", str(size)]
        ran = subprocess.run(
            [sys.executable, "-m", "tests.simulation", *seeds], cwd=ROOT, capture_output=True, text=True
        )
        return "" if ran.returncode == 0 else ran.stdout

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = "".join(pool.map(run, range(NIGHT_PARTS)))
    assert not failed, failed
