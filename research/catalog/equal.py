"""Equal numbers of trained values on every task: a decay a synapse, a neuron, a branch, none, and shared ones.

``whole`` is as many values as HetSyn has with the task's layers, ``half`` half of them; every model gets the largest
network within. Every condition has a search of its own, with the same candidates, on validation data alone.
``research/worth/sentences.toml`` has the rules.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import count

from hetsyn_model.spec import NetworkSpec
from research.catalog.paper_tasks import delayed_match, pattern_generation
from research.runs.plan import SEARCH_SEED, Condition, Experiment, SearchPlan
from research.runs.run import RunSpec, TaskSpec, Training, open_task
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.mnist1d import Mnist1dSpec
from research.tasks.motion import MotionSpec
from research.tasks.neurons import NeuronModel, network_spec, trained_values
from research.tasks.pattern_generation import PatternGenerationSpec
from research.tasks.vision import ImageSpec

COMPARED: tuple[tuple[NeuronModel, int], ...] = (
    *(("hetsyn", 0), ("hetneu", 0), ("alif", 0), ("homneu", 0)),
    *(("dh-snn", 4), ("free-bank", 2), ("free-bank", 4)),
)
SIZES = {"whole": 1.0, "half": 0.5}
SEEDS, ROWS_SEEDS = 10, 5  # a run of rows takes more than a minute
SEARCH_SEEDS = ((SEARCH_SEED, SEARCH_SEED + 1, SEARCH_SEED + 2),)


def untrained(task: str, task_spec: TaskSpec, model: NeuronModel) -> NetworkSpec:
    """Describe a model's recurrent network for a task."""
    run = RunSpec("", "", task, task_spec, model, True, 0, 1.0, 10.0, Training(1, 1, "step"))
    return network_spec(open_task(run).shape, model, recurrent=True, tau_steps=10.0)


def hidden_within(task: str, spec: TaskSpec, model: NeuronModel, filters: int, goal: int) -> tuple[int, ...]:
    """Find the hidden sizes of a model's largest network within a number of values, all layers in proportion."""

    def hidden(size: int) -> tuple[int, ...]:
        return tuple(max(1, round(size * n / spec.hidden[0])) for n in spec.hidden)

    def measured(size: int) -> int:
        return trained_values(untrained(task, replace(spec, hidden=hidden(size)), model), model, filters)

    beyond = next(size for size in (2**n for n in count()) if measured(size) > goal)
    return hidden(bisect_right(range(1, beyond), goal, key=measured))


def _equal(
    name: str, task: str, spec: TaskSpec, training: Training, search: SearchPlan, seeds: int = SEEDS
) -> Experiment:
    goal = trained_values(untrained(task, spec, "hetsyn"), "hetsyn")

    def condition(model: NeuronModel, filters: int, size: str) -> Condition:
        hidden = hidden_within(task, spec, model, filters, round(SIZES[size] * goal))
        label = f"{model}-{filters}" if filters else model
        task_spec = replace(spec, hidden=hidden)
        return Condition(f"{label}-{size}", task_spec, (model,), (True,), seeds, own_search=True, filters=filters)

    conditions = tuple(condition(model, filters, size) for size in SIZES for model, filters in COMPARED)
    return Experiment(name, task, training, search, conditions)


def _whole(search: SearchPlan) -> SearchPlan:
    # a quarter of the updates on one trace chose settings with five times the error of the best (research/settings.md)
    return replace(search, updates=1000, seeds=SEARCH_SEEDS)


def equal_trace() -> Experiment:
    plan = pattern_generation()
    return _equal("equal-trace", plan.task, PatternGenerationSpec(), plan.training, _whole(plan.search))


def equal_cue() -> Experiment:
    # ten neurons: with twenty, every model solves it
    plan = delayed_match()
    search = _whole(plan.search)
    return _equal("equal-cue", plan.task, DelayedMatchSpec(hidden=(10,)), plan.training, search, 2 * SEEDS)


def equal_series() -> Experiment:
    # twenty epochs of 3,500 series
    training = Training(1400, 50, "cosine", 1.0, 4e-3, evaluate_every=140, bank_size=8)
    search = SearchPlan((2e-3, 5e-3), (5.0, 20.0), updates=1400, seeds=SEARCH_SEEDS)
    return _equal("equal-series", "mnist1d", Mnist1dSpec(), training, search)


def equal_clothes() -> Experiment:
    spec = ImageSpec(levels=4, hidden=(128, 64), dropout=0.1, rows_skipped=14, validation_images=2500)
    # the paper trains 150 epochs of digits, a pixel a step; two cores have time for four of 55,000 images
    training = Training(856, 256, "cosine", 1.0, 4e-3, evaluate_every=107, bank_size=8)
    search = SearchPlan((2e-3, 5e-3), (4.0, 12.5, 40.0), updates=107)
    return _equal("equal-clothes", "vision", spec, training, search, ROWS_SEEDS)


def equal_motion() -> Experiment:
    # the seed is the person left out; the search of a seed has not heard that person (tasks/motion.py)
    training = Training(300, 32, "cosine", 1.0, 4e-3, evaluate_every=50, bank_size=8)
    search = SearchPlan((2e-3, 5e-3), (10.0, 50.0), updates=300, seeds=((SEARCH_SEED,), (SEARCH_SEED + 1,)))
    return _equal("equal-motion", "motion", MotionSpec(), training, search)
