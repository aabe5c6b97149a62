"""The names in the help of ``hetsyn experiment`` are those of the experiments."""

from __future__ import annotations

from experiments.catalog import EXPERIMENTS
from experiments.runs.names import EXPERIMENT_NAMES


def test_the_names_are_those_of_the_experiments() -> None:
    assert tuple(EXPERIMENTS) == EXPERIMENT_NAMES
