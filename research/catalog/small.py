"""The small version of an experiment, for ``--smoke``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from research.runs.plan import BASE, Experiment, SearchPlan
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.mnist1d import Mnist1dSpec
from research.tasks.motion import MotionSpec
from research.tasks.pattern_generation import PatternGenerationSpec
from research.tasks.shd import ShdSpec
from research.tasks.vision import ImageSpec

SMALL: dict[type, dict[str, Any]] = {
    PatternGenerationSpec: {"template_ms": 60, "gap_ms": 20, "validation_trials": 2, "test_trials": 2},
    DelayedMatchSpec: {"delay_ms": 200, "validation_trials": 32, "test_trials": 32},
    ImageSpec: {"images": "drawn", "validation_images": 20, "test_images": 20},
    ShdSpec: {"data_set": "drawn"},
    MotionSpec: {"window_s": 1.0, "skip_s": 0.2},
    Mnist1dSpec: {"levels": 4},
}


def smoke(experiment: Experiment, *, has_data: bool = False) -> Experiment:
    """Keep the path, in seconds: one search of two candidates, one seed, tiny networks and tests.

    Args:
        experiment: the experiment.
        has_data: whether there are files of SHD; without, its spikes are drawn.
    """
    named = {condition.name: condition for condition in experiment.conditions}
    base = named.get(BASE, experiment.conditions[0])
    spec: Any = base.task_spec
    small = {} if has_data and isinstance(spec, ShdSpec) else SMALL[type(spec)]
    task_spec = replace(spec, hidden=tuple(6 for _ in spec.hidden), **small)
    training, search = experiment.training, experiment.search
    return replace(
        experiment,
        training=replace(training, updates=4, evaluate_every=2, batch=min(training.batch, 8), bank_size=4),
        search=SearchPlan(
            search.learning_rates[:2], search.tau_steps[:1], updates=2, seeds=tuple(seeds[:1] for seeds in search.seeds)
        ),
        conditions=(replace(base, task_spec=task_spec, seeds=1, recurrent=base.recurrent[:1]),),
    )
