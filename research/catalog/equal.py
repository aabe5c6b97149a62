"""Equal numbers of trained values on every task: a decay a synapse, a neuron, a branch, none, and shared ones.

``whole`` is as many values as HetSyn has with the task's layers, ``half`` half of them; every model gets the largest
network within. Every condition has a search of its own, with the same candidates, on validation data alone.
``research/worth/sentences.toml`` has the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hetsyn_model.spec import NetworkSpec
from research.catalog.images import vision_rows
from research.catalog.matched import matched_hidden, untrained
from research.catalog.paper_tasks import delayed_match, pattern_generation
from research.catalog.streams import mnist1d, motion
from research.runs.plan import BASE, Condition, Experiment
from research.runs.run import TaskSpec
from research.tasks.dendrites import branch_values
from research.tasks.free_bank import free_bank_values
from research.tasks.neurons import NeuronModel, filters_of, parameter_count

COMPARED: tuple[tuple[NeuronModel, str], ...] = (
    *(("hetsyn", ""), ("hetneu", ""), ("alif", ""), ("homneu", "")),
    *(("dh-snn", "filters-4"), ("free-bank", "filters-2"), ("free-bank", "filters-4")),
)
SIZES = {"whole": 1.0, "half": 0.5}
SEEDS, ROWS_SEEDS = 10, 5  # a run of rows takes more than a minute


def trained_values(model: NeuronModel, kernel: str) -> Callable[[NetworkSpec], int]:
    """Choose what counts the trained values of a model's network, by the description of its layers."""
    if model == "dh-snn":
        return partial(branch_values, branches=filters_of(kernel))
    if model == "free-bank":
        return partial(free_bank_values, size=filters_of(kernel))
    return parameter_count


def _equal(name: str, plan: Experiment, spec: TaskSpec, seeds: int = SEEDS) -> Experiment:
    goal = parameter_count(untrained(plan.task, spec, "hetsyn", recurrent=True))

    def condition(model: NeuronModel, kernel: str, size: str) -> Condition:
        hidden = matched_hidden(
            *(plan.task, spec),
            recurrent=True,
            measure=trained_values(model, kernel),
            goal=round(SIZES[size] * goal),
            model=model,
        )
        label = f"{model}-{filters_of(kernel)}" if kernel else model
        task_spec = replace(spec, hidden=hidden)
        return Condition(f"{label}-{size}", task_spec, (model,), (True,), seeds, own_search=True, kernel=kernel)

    conditions = tuple(condition(model, kernel, size) for size in SIZES for model, kernel in COMPARED)
    return replace(plan, name=name, conditions=conditions, analysis_streams=0, changed_streams=0)


def equal_trace() -> Experiment:
    plan = pattern_generation()
    return _equal("equal-trace", plan, plan.condition(BASE).task_spec)


def equal_cue() -> Experiment:
    # ten neurons: with twenty, every model solves it
    plan = delayed_match()
    return _equal("equal-cue", plan, replace(plan.condition(BASE).task_spec, hidden=(10,)), 2 * SEEDS)


def equal_series() -> Experiment:
    plan = mnist1d()
    return _equal("equal-series", plan, plan.condition(BASE).task_spec)


def equal_clothes() -> Experiment:
    plan = vision_rows()
    return _equal("equal-clothes", plan, plan.condition(BASE).task_spec, ROWS_SEEDS)


def equal_motion() -> Experiment:
    plan = motion()
    return _equal("equal-motion", plan, plan.condition(BASE).task_spec)
