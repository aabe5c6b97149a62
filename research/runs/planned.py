"""The runs of an experiment's plan: candidates of the searches, then every condition, model and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from research.runs.plan import BASE, FIXED_TAU, Cell, ChosenSettings, Condition, Experiment, cells, search_name
from research.runs.run import RunSpec


class Search(NamedTuple):
    """A search of a cell: its name (:func:`searched_as`), the condition that was searched, its candidates' seed."""

    name: str
    condition: str
    seed: int


def search_runs(experiment: Experiment, cell: Cell, condition: str = BASE) -> list[RunSpec]:
    """List the candidates of a cell, on a condition that has a search of its own or on the base."""
    search, base = experiment.search, experiment.condition(condition)
    training = replace(
        experiment.training,
        updates=search.updates,
        evaluate_every=min(experiment.training.evaluate_every, search.updates),
    )
    return [
        RunSpec(
            experiment=experiment.name,
            condition=search_name(condition),
            task=experiment.task,
            task_spec=base.task_spec,
            model=cell.model,
            recurrent=cell.recurrent,
            seed=seed,
            learning_rate=rate,
            tau_steps=tau,
            training=training,
            kernel=base.kernel,
        )
        for seed in search.seeds
        for rate in search.learning_rates
        for tau in search.tau_steps
    ]


def searches(experiment: Experiment, cell: Cell) -> list[Search]:
    """List the searches of a cell: on the base where a condition uses it, and on those with a search of their own."""
    having = [condition.searched_on for condition in experiment.conditions if condition.has(cell)]
    names = sorted(dict.fromkeys(name for name in having if name is not None), key=lambda name: name != BASE)
    return [
        Search(searched_as(experiment, name, index), name, seed)
        for name in names
        for index, seed in enumerate(experiment.search.seeds)
    ]


def searched_as(experiment: Experiment, condition: str, seed: int) -> str:
    """Name the search on a condition whose settings a run of a seed takes."""
    seeds = experiment.search.seeds
    return condition if len(seeds) == 1 else f"{condition}, search {seeds[seed % len(seeds)]}"


def final_run(
    experiment: Experiment, condition: Condition, cell: Cell, seed: int, chosen: Mapping[str, ChosenSettings]
) -> RunSpec:
    """Describe one seed of a cell in a condition; ``chosen`` is what the searches found, by :func:`searched_as`."""
    settings = condition.settings or chosen[searched_as(experiment, condition.searched_on or BASE, seed)]
    fixed_tau_steps = condition.fixed_tau_steps if cell.model in FIXED_TAU else None
    return RunSpec(
        experiment=experiment.name,
        condition=condition.name,
        task=experiment.task,
        task_spec=condition.task_spec,
        model=cell.model,
        recurrent=cell.recurrent,
        seed=seed,
        learning_rate=settings.learning_rate,
        tau_steps=fixed_tau_steps or settings.tau_steps,
        training=condition.training or experiment.training,
        masked_share=condition.masked_share,
        kernel=condition.kernel,
    )


def final_runs(experiment: Experiment, cell: Cell, chosen: Mapping[str, ChosenSettings]) -> list[RunSpec]:
    """List the runs of a cell in every condition that has it; arguments as of :func:`final_run`."""
    return [
        final_run(experiment, condition, cell, seed, chosen)
        for condition in experiment.conditions
        if condition.has(cell)
        for seed in range(condition.seeds_of(cell))
    ]


def run_count(experiment: Experiment) -> tuple[int, int]:
    """Count search runs and final runs."""
    every = cells(experiment)
    conditions = {(cell, search.condition) for cell in every for search in searches(experiment, cell)}
    finals = sum(c.seeds_of(cell) for c in experiment.conditions for cell in every if c.has(cell))
    return sum(len(search_runs(experiment, *of)) for of in conditions), finals
