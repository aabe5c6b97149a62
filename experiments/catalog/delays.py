"""Delays of spikes on the synthesised digits: learned, fixed at random, none; with time constants and without."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from experiments.catalog.voices import shd
from experiments.runs.plan import BASE, NEURONS, Condition, Experiment
from experiments.runs.run import NeuronModel
from experiments.tasks.shd import Delays, ShdSpec

SEEDS = 5
# with a learned time constant a synapse, and with one fixed time constant: only delays are left to tell times apart
MODELS: tuple[NeuronModel, ...] = ("hetsyn", "homneu")


def delays() -> Experiment:
    plan = shd("delays", "synthesised", updates=300)
    base = plan.conditions[0].task_spec
    assert isinstance(base, ShdSpec)
    paths = [path for path in get_args(Delays) if path != "none"]
    # a delay a unit is 192 or 892 values more, 0.1 or 0.4% of HetSyn's: sizes stay
    return replace(
        plan,
        conditions=(
            Condition(BASE, base, NEURONS, (True,), SEEDS, analysed=True),
            *(Condition(path, replace(base, delays=path), MODELS, (True,), SEEDS, own_search=True) for path in paths),
        ),
    )
