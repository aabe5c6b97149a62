"""The runs of an experiment's plan: candidates of the searches, then every condition, model and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from hetsyn_model.run_folder import RunError
from research.runs.plan import (
    BASE,
    FIXED_TAU,
    SEARCH_SEED,
    Cell,
    ChosenSettings,
    Condition,
    Experiment,
    cells,
    refined_name,
    search_name,
)
from research.runs.run import NeuronModel, RunSpec, Training


def search_runs(experiment: Experiment, cell: Cell, condition: str = BASE) -> list[RunSpec]:
    """The candidates of a cell, on a condition that has a search of its own or on the base."""
    search, pairs = experiment.search, _candidates(experiment, cell.model)
    if not pairs:
        return []
    training, base = search_training(experiment), experiment.condition(condition)
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
        for rate, tau in pairs
    ]


def _candidates(experiment: Experiment, model: NeuronModel) -> list[tuple[float, float]]:
    """Learning rates and time constants of the first stage."""
    search = experiment.search
    if model == "lstm":
        return [(rate, 1.0) for rate in search.lstm_rates]
    return [(rate, tau) for rate in search.learning_rates for tau in search.tau_steps]


def refinement_runs(
    experiment: Experiment, cell: Cell, best: ChosenSettings, condition: str = BASE, seed: int = SEARCH_SEED
) -> list[RunSpec]:
    """The second stage of a cell's search, around the best settings of the first; none where the plan has none."""
    refinement = experiment.search.refinement
    if refinement is None:
        return []
    like = replace(
        search_runs(experiment, cell, condition)[0],
        condition=refined_name(condition),
        seed=seed,
        learning_rate=best.learning_rate,
        tau_steps=best.tau_steps,
        training=search_training(experiment, refinement.updates),
    )
    if cell.trains_decays:
        return [
            replace(like, training=replace(like.training, decay_rate_factor=factor))
            for factor in refinement.decay_factors
        ]
    return [replace(like, learning_rate=factor * best.learning_rate) for factor in refinement.rate_factors]


def search_training(experiment: Experiment, updates: int | None = None) -> Training:
    """A candidate's: the experiment's, shorter."""
    updates = updates or experiment.search.updates
    return replace(
        experiment.training, updates=updates, evaluate_every=min(experiment.training.evaluate_every, updates)
    )


def searched_conditions(experiment: Experiment, cell: Cell) -> list[str]:
    """The conditions that a cell is searched on: the base where one uses it, and those with a search of their own."""
    having = [condition.searched_on for condition in experiment.conditions if condition.has(cell)]
    names = list(dict.fromkeys(name for name in having if name is not None))
    return sorted(names, key=lambda name: name != BASE)


class Search(NamedTuple):
    """A search of a cell.

    Attributes:
        name: see :func:`searched_as`.
        condition: that was searched.
        seed: of its candidates.
    """

    name: str
    condition: str
    seed: int


def searches(experiment: Experiment, cell: Cell) -> list[Search]:
    """All searches of a cell."""
    return [
        Search(searched_as(experiment, condition, index), condition, seed)
        for condition in searched_conditions(experiment, cell)
        for index, seed in enumerate(experiment.search.seeds)
    ]


def searched_as(experiment: Experiment, condition: str, seed: int) -> str:
    """The name of the search on a condition whose settings a run of a seed takes; the condition's, if it has one."""
    seeds = experiment.search.seeds
    return condition if len(seeds) == 1 else f"{condition}, search {seeds[seed % len(seeds)]}"


def final_run(
    experiment: Experiment, condition: Condition, cell: Cell, seed: int, chosen: Mapping[str, ChosenSettings]
) -> RunSpec:
    """One seed of a cell in a condition.

    Args:
        experiment: the experiment.
        condition: one of its conditions.
        cell: a cell of the condition.
        seed: of the run.
        chosen: what the searches found, by :func:`searched_as`.
    """
    searched = searched_as(experiment, condition.searched_on or BASE, seed)
    settings = condition.settings or chosen[searched]
    learning_rate, tau_steps = settings_of(condition, settings, cell.model)
    training = training_of(experiment, condition)
    if settings.decay_rate_factor is not None:
        training = replace(training, decay_rate_factor=settings.decay_rate_factor)
    return RunSpec(
        experiment=experiment.name,
        condition=condition.name,
        task=experiment.task,
        task_spec=condition.task_spec,
        model=cell.model,
        recurrent=cell.recurrent,
        seed=seed,
        learning_rate=learning_rate,
        tau_steps=tau_steps,
        training=training,
        masked_share=condition.masked_share,
        kernel=condition.kernel,
    )


def settings_of(condition: Condition, settings: ChosenSettings, model: NeuronModel) -> tuple[float, float]:
    """Learning rate and time constant of a model in a condition."""
    if condition.fixed_tau_steps is not None and model in FIXED_TAU:
        return settings.learning_rate, condition.fixed_tau_steps
    return settings.learning_rate, settings.tau_steps


def final_runs(experiment: Experiment, cell: Cell, chosen: Mapping[str, ChosenSettings]) -> list[RunSpec]:
    """The runs of a cell in every condition that has it; arguments as of :func:`final_run`."""
    return [
        final_run(experiment, condition, cell, seed, chosen)
        for condition in experiment.conditions
        if condition.has(cell)
        for seed in range(condition.seeds_of(cell))
    ]


def training_of(experiment: Experiment, condition: Condition) -> Training:
    """The condition's or the experiment's, with the decays' learning rate of a condition that sets it."""
    training, settings = condition.training or experiment.training, condition.settings
    if settings is None or settings.decay_rate_factor is None:
        return training
    return replace(training, decay_rate_factor=settings.decay_rate_factor)


def belongs(experiment: Experiment, run: Mapping[str, Any]) -> bool:
    """Whether the plan has a described run (:meth:`RunSpec.to_dict`); a run of an earlier plan is not in it."""
    refinement = experiment.search.refinement
    for condition in experiment.conditions:
        if run["condition"] == condition.name:
            training, masked = training_of(experiment, condition), condition.masked_share
        elif run["condition"] == search_name(condition.name):
            training, masked = search_training(experiment), 0.0
            if (run["learning_rate"], run["tau_steps"]) not in _candidates(experiment, run["model"]):
                return False
        elif refinement is not None and run["condition"] == refined_name(condition.name):
            training, masked = search_training(experiment, refinement.updates), 0.0
        else:
            continue
        try:
            described = RunSpec.from_dict(dict(run))
        except RunError:  # of a task that had other settings
            return False
        if refinement is not None and refinement.chooses(condition, described):
            training = replace(training, decay_rate_factor=described.training.decay_rate_factor)
        planned = replace(
            described,
            task_spec=condition.task_spec,
            training=training,
            masked_share=masked,
            kernel=condition.kernel,
        )
        if condition.settings is not None and not described.searching:
            # else a seed would count twice, with the settings of before and of now
            rate, tau = settings_of(condition, condition.settings, described.model)
            planned = replace(planned, learning_rate=rate, tau_steps=tau)
        return planned == described
    return False


def run_count(experiment: Experiment) -> tuple[int, int]:
    """Search runs and final runs."""
    every = cells(experiment)
    any_settings = ChosenSettings(1.0, 1.0)
    candidates = sum(
        len(search_runs(experiment, cell, name))
        + len(experiment.search.seeds) * len(refinement_runs(experiment, cell, any_settings, name))
        for cell in every
        for name in searched_conditions(experiment, cell)
    )
    chosen = {cell: {s.name: any_settings for s in searches(experiment, cell)} for cell in every}
    return candidates, sum(len(final_runs(experiment, cell, chosen[cell])) for cell in every)
