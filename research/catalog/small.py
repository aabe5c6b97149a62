"""The small version of an experiment, for ``--smoke``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from research.runs.plan import BASE, Experiment
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.mnist1d import Mnist1dSpec
from research.tasks.motion import MotionSpec
from research.tasks.pattern_generation import PatternGenerationSpec
from research.tasks.shd import ShdSpec
from research.tasks.vision import ImageSpec


def smoke(experiment: Experiment, *, has_data: bool = False) -> Experiment:
    """Keep the path, in seconds: one search of two candidates, one seed, tiny networks and tests.

    Args:
        experiment: the experiment.
        has_data: whether there are files of SHD; without, its spikes are drawn.
    """
    named = {condition.name: condition for condition in experiment.conditions}
    base = named.get(BASE, experiment.conditions[0])
    spec: Any = base.task_spec
    small: dict[str, Any] = {"hidden": tuple(6 for _ in spec.hidden)}
    if isinstance(spec, PatternGenerationSpec):
        small |= {"template_ms": 60, "gap_ms": 20, "validation_trials": 2, "test_trials": 2}
    elif isinstance(spec, DelayedMatchSpec):
        small |= {"delay_ms": 200, "validation_trials": 32, "test_trials": 32}
    elif isinstance(spec, ImageSpec):
        small |= {"images": "drawn", "validation_images": 20, "test_images": 20}
    elif isinstance(spec, ShdSpec) and not has_data:
        small |= {"data_set": "drawn"}
    elif isinstance(spec, MotionSpec):
        small |= {"window_s": 1.0, "skip_s": 0.2}
    elif isinstance(spec, Mnist1dSpec):
        small |= {"levels": 4}
    batch = 1 if experiment.training.batch == 1 else 8
    return replace(
        experiment,
        training=replace(experiment.training, updates=4, evaluate_every=2, batch=batch, bank_size=4),
        search=replace(
            experiment.search,
            learning_rates=experiment.search.learning_rates[:2],
            tau_steps=experiment.search.tau_steps[:1],
            updates=2,
            seeds=tuple(seeds[:1] for seeds in experiment.search.seeds),
        ),
        conditions=(replace(base, task_spec=replace(spec, **small), seeds=1, recurrent=base.recurrent[:1]),),
    )
