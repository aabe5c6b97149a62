"""What an experiment consists of: conditions, training, and the search that every neuron model gets.

Equal effort: each model and architecture of an experiment has the same number of search runs of the same length, on
the experiment's base condition with a seed of its own, over learning rates and time constants (the fixed one of LIF
and ALIF, the mean of the initial ones of HetNeu and HetSyn). The best on validation data is used in all conditions
except those with a search of their own and those of the paper's settings, where every model has the paper's learning
rate and (initial) time constant. ``catalog`` has the experiments themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from hetsyn_model.spec import Variant
from research.runs.run import NeuronModel, RunSpec, TaskSpec, Training

NEURONS: tuple[Variant, ...] = ("hetsyn", "hetneu", "alif", "homneu")
FIXED_TAU: tuple[Variant, ...] = ("alif", "homneu")  # their time constants are not learned
SEARCH_SEED = 1000
BASE, PAPER = "base", "paper-settings"
WHOLE = f"{PAPER}-whole-file"  # nothing is left out of the training file to choose the update


@dataclass(frozen=True)
class SearchPlan:
    """What a search tries.

    Attributes:
        learning_rates: tried in all pairs with ``tau_steps``.
        tau_steps: time constants, see :func:`research.tasks.neurons.network_spec`.
        updates: of each candidate.
        seeds: of each search, which takes the candidate that is best in the mean over them. A run of seed s takes what
            the search ``s % len(seeds)`` finds: where a seed leaves out a part of the data, a search can leave out that
            part too.
    """

    learning_rates: tuple[float, ...]
    tau_steps: tuple[float, ...]
    updates: int
    seeds: tuple[tuple[int, ...], ...] = ((SEARCH_SEED,),)


NO_SEARCH = SearchPlan((), (), 0)  # where all conditions have settings


@dataclass(frozen=True)
class ChosenSettings:
    """What a search finds.

    Attributes:
        learning_rate: of the weights.
        tau_steps: time constant, see :func:`research.tasks.neurons.network_spec`.
    """

    learning_rate: float
    tau_steps: float


@dataclass(frozen=True)
class Cell:
    """A neuron model, and whether hidden layers are recurrent; each cell has one search."""

    model: NeuronModel
    recurrent: bool


@dataclass(frozen=True)
class Condition:
    """One variation of an experiment.

    Attributes:
        name: in results and report.
        task_spec: settings of the task.
        models: the neuron models that run in it.
        recurrent: the architectures that run in it.
        seeds: number of runs of each, with seeds from 0.
        masked_share: share of the decays that training does not change.
        settings: used instead of what the search found.
        own_search: whether every cell is searched for this condition apart, with the same candidates.
        training: instead of the experiment's.
        fixed_tau_steps: time constant of LIF and ALIF instead of that of ``settings``.
        filters: see :class:`research.runs.run.RunSpec`.
    """

    name: str
    task_spec: TaskSpec
    models: tuple[NeuronModel, ...]
    recurrent: tuple[bool, ...]
    seeds: int
    masked_share: float = 0.0
    settings: ChosenSettings | None = None
    own_search: bool = False
    training: Training | None = None
    fixed_tau_steps: float | None = None
    filters: int = 0

    @property
    def searched_on(self) -> str | None:
        """The condition that this one takes its settings from; None for a condition with ``settings``."""
        if self.settings is not None:
            return None
        return self.name if self.own_search else BASE

    def has(self, cell: Cell) -> bool:
        return cell.model in self.models and cell.recurrent in self.recurrent


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: of the command and the results.
        task: key of :data:`research.runs.run.TASKS`.
        training: of every final run.
        search: what every cell tries first.
        conditions: in the order of their runs.
    """

    name: str
    task: str
    training: Training
    search: SearchPlan
    conditions: tuple[Condition, ...]

    def condition(self, name: str) -> Condition:
        return next(condition for condition in self.conditions if condition.name == name)


def search_name(condition: str) -> str:
    """Name the candidates of a condition's search."""
    return "search" if condition == BASE else f"search-{condition}"


def cells(experiment: Experiment) -> list[Cell]:
    """List the cells in the order in which the conditions name them."""
    named = [
        Cell(model, recurrent)
        for condition in experiment.conditions
        for model in condition.models
        for recurrent in condition.recurrent
    ]
    return list(dict.fromkeys(named))


def search_runs(experiment: Experiment, cell: Cell, condition: str = BASE) -> list[RunSpec]:
    """List the candidates of a cell, on a condition that has a search of its own or on the base."""
    search, base = experiment.search, experiment.condition(condition)
    training = replace(
        experiment.training,
        updates=search.updates,
        evaluate_every=min(experiment.training.evaluate_every, search.updates),
    )
    return [
        replace(
            _described(experiment, base, cell, seed, ChosenSettings(rate, tau)),
            condition=search_name(condition),
            training=training,
        )
        for seed in chain(*search.seeds)
        for rate in search.learning_rates
        for tau in search.tau_steps
    ]


def searched_as(experiment: Experiment, condition: str, seed: int) -> str:
    """Name the search on a condition that gives a run of this seed its settings."""
    seeds = experiment.search.seeds
    return condition if len(seeds) == 1 else f"{condition}, search {seeds[seed % len(seeds)][0]}"


def final_run(
    experiment: Experiment, condition: Condition, cell: Cell, seed: int, chosen: Mapping[str, ChosenSettings]
) -> RunSpec:
    """Describe one seed of a cell in a condition; ``chosen`` is what the searches found, by :func:`searched_as`."""
    settings = condition.settings or chosen[searched_as(experiment, condition.searched_on or BASE, seed)]
    return _described(experiment, condition, cell, seed, settings)


def _described(
    experiment: Experiment, condition: Condition, cell: Cell, seed: int, settings: ChosenSettings
) -> RunSpec:
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
        filters=condition.filters,
    )
