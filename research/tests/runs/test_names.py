"""The names in the help of ``python -m research`` are those of the experiments."""

from __future__ import annotations

from research.catalog import EXPERIMENTS
from research.runs.names import EXPERIMENT_NAMES


def test_the_names_are_those_of_the_experiments() -> None:
    assert tuple(EXPERIMENTS) == EXPERIMENT_NAMES
