"""What an experiment consists of: conditions, training, the search that every neuron model gets, and its runs.

Equal effort: each model and architecture of an experiment has the same number of search runs of the same length, on
the experiment's base condition with a seed of its own, over learning rates and time constants (the fixed one of LIF
and ALIF, the mean of the initial ones of HetNeu and HetSyn). The best on validation data is used in all conditions
except those with a search of their own and those of the paper's settings, where every model has the paper's learning
rate and (initial) time constant. ``catalog`` has the experiments themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from experiments.runs.run import REFINED, NeuronModel, RunSpec, TaskSpec, Training
from hetsyn_model.run_folder import RunError
from hetsyn_model.spec import Variant

NEURONS: tuple[Variant, ...] = ("hetsyn", "hetneu", "alif", "homneu")
FIXED_TAU: tuple[Variant, ...] = ("alif", "homneu")  # whose time constants are not learned
SEARCH_SEED = 1000
BASE, PAPER = "base", "paper-settings"
WHOLE = f"{PAPER}-whole-file"  # nothing is left out of the training file to choose the update


@dataclass(frozen=True)
class Refinement:
    """The second stage of a search, longer than the first: around its best pair, as many candidates for every model.

    Attributes:
        updates: of each candidate.
        decay_factors: learning rate of the decays over that of the weights, for models that train their decays.
        rate_factors: on the learning rate, for models that do not.
    """

    updates: int
    decay_factors: tuple[float, ...]
    rate_factors: tuple[float, ...]

    def chooses(self, condition: Condition, run: RunSpec) -> bool:
        """Whether a run of a condition has a factor on the decays' learning rate that this stage may have chosen."""
        searched = condition.settings is None and run.condition != search_name(condition.name)
        trained = Cell(run.model, run.recurrent).trains_decays
        return searched and trained and run.training.decay_rate_factor in self.decay_factors


@dataclass(frozen=True)
class SearchPlan:
    """What a search tries.

    Attributes:
        learning_rates: tried in all pairs with ``tau_steps``.
        tau_steps: time constants, see :func:`experiments.tasks.neurons.network_spec`.
        updates: of each candidate.
        lstm_rates: learning rates of the LSTM, as many as there are pairs.
        refinement: what is tried with the best pair; None for no second stage.
        seeds: of the searches. A run of seed s takes what the search of ``seeds[s % len(seeds)]`` finds: where a seed
            leaves out a part of the data, a search can leave out that part too.
    """

    learning_rates: tuple[float, ...]
    tau_steps: tuple[float, ...]
    updates: int
    lstm_rates: tuple[float, ...] = ()
    refinement: Refinement | None = None
    seeds: tuple[int, ...] = (SEARCH_SEED,)


NO_SEARCH = SearchPlan((), (), 0)  # where all conditions have settings


@dataclass(frozen=True)
class ChosenSettings:
    """What a search finds.

    Attributes:
        learning_rate: of the weights.
        tau_steps: time constant, see :func:`experiments.tasks.neurons.network_spec`.
        decay_rate_factor: see :class:`experiments.runs.run.Training`; None for the experiment's.
    """

    learning_rate: float
    tau_steps: float
    decay_rate_factor: float | None = None


@dataclass(frozen=True)
class Condition:
    """One variation of an experiment.

    Attributes:
        name: in results and report.
        task_spec: settings of the task.
        models: the neuron models that run in it.
        recurrent: the architectures that run in it.
        seeds: number of runs of each, with seeds from 0.
        extended: by architecture (whether it is recurrent), more seeds than ``seeds``: where a verdict was still open
            after those, and the page said how many are needed.
        masked_share: share of the decays that training does not change.
        settings: used instead of what the search found.
        own_search: whether every cell is searched for this condition apart, with the same candidates.
        analysed: whether trained networks are analysed, for the first of the architectures.
        training: instead of the experiment's.
        fixed_tau_steps: time constant of LIF and ALIF instead of that of ``settings``.
        kernel: of the synapses of every model, see :func:`experiments.tasks.kernels.with_kernel`.
    """

    name: str
    task_spec: TaskSpec
    models: tuple[NeuronModel, ...]
    recurrent: tuple[bool, ...]
    seeds: int
    masked_share: float = 0.0
    settings: ChosenSettings | None = None
    own_search: bool = False
    analysed: bool = False
    training: Training | None = None
    fixed_tau_steps: float | None = None
    kernel: str = ""
    extended: tuple[tuple[bool, int], ...] = ()

    def seeds_of(self, recurrent: bool) -> int:
        """The number of runs of each model with an architecture."""
        return dict(self.extended).get(recurrent, self.seeds)

    @property
    def most_seeds(self) -> int:
        return max(self.seeds_of(recurrent) for recurrent in self.recurrent)

    @property
    def searched_on(self) -> str | None:
        """The condition whose search gives this one its settings; None for a condition with ``settings``."""
        if self.settings is not None:
            return None
        return self.name if self.own_search else BASE

    def has(self, cell: Cell) -> bool:
        return cell.model in self.models and cell.recurrent in self.recurrent

    def analyses(self, run: RunSpec) -> bool:
        return self.analysed and run.recurrent == self.recurrent[0]


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: of the command and the results.
        task: key of :data:`experiments.runs.run.TASKS`.
        training: of every final run.
        search: what every cell tries first.
        conditions: in the order of their runs.
        analysis_streams: test streams for the exact form, see :func:`experiments.runs.analysis.analyse`.
        changed_streams: test streams for changed inputs and lesions; 0: only banks are compared.
    """

    name: str
    task: str
    training: Training
    search: SearchPlan
    conditions: tuple[Condition, ...]
    analysis_streams: int
    changed_streams: int

    def condition(self, name: str) -> Condition:
        return next(condition for condition in self.conditions if condition.name == name)


@dataclass(frozen=True)
class Cell:
    """A neuron model and an architecture; each cell has one search.

    Attributes:
        model: the neuron model.
        recurrent: whether hidden layers are recurrent.
    """

    model: NeuronModel
    recurrent: bool

    @property
    def trains_decays(self) -> bool:
        return self.model in ("hetsyn", "hetneu", "hetsyn-resonance")


def search_runs(experiment: Experiment, cell: Cell, condition: str = BASE) -> list[RunSpec]:
    """The candidates of a cell, on a condition that has a search of its own or on the base."""
    search = experiment.search
    pairs = [(rate, tau) for rate in search.learning_rates for tau in search.tau_steps]
    if cell.model == "lstm":
        pairs = [(rate, 1.0) for rate in search.lstm_rates]
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


def search_name(condition: str) -> str:
    """The condition's name of the candidates."""
    return "search" if condition == BASE else f"search-{condition}"


def refined_name(condition: str) -> str:
    """The condition's name of the candidates of the second stage."""
    return search_name(condition) + REFINED


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
        for seed in range(condition.seeds_of(cell.recurrent))
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


def cells(experiment: Experiment) -> list[Cell]:
    """In the order in which the conditions name them."""
    named = [
        Cell(model, recurrent)
        for condition in experiment.conditions
        for model in condition.models
        for recurrent in condition.recurrent
    ]
    return list(dict.fromkeys(named))


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
