"""The experiments as data: conditions, training, the search that every neuron model gets, and seeds.

Equal effort: each model and architecture of an experiment has the same number of search runs of the same length, on
the experiment's base condition with a seed of its own, over learning rates and time constants (the fixed one of LIF
and ALIF, the mean of the initial ones of HetNeu and HetSyn). The best on validation data is used in all conditions but
those that have a search of their own and those of the paper's settings, where every model has the paper's learning
rate and (initial) time constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from experiments.delayed_match import DelayedMatchSpec
from experiments.neurons import bank_state_bytes, exact_state_bytes, network_spec, parameter_count
from experiments.pattern_generation import PatternGenerationSpec
from experiments.run import NeuronModel, RunSpec, TaskSpec, Training, open_task
from experiments.shd import DataSet, ShdSpec
from experiments.speech import SpeechSpec
from experiments.vision import ImageSpec
from hetsyn_model.run_folder import RunError
from hetsyn_model.spec import NetworkSpec, Variant

NEURONS: tuple[Variant, ...] = ("hetsyn", "hetneu", "alif", "homneu")
SEARCH_SEED = 1000
BASE, PAPER = "base", "paper-settings"


@dataclass(frozen=True)
class SearchPlan:
    """learning_rates and tau_steps: all pairs are tried, each for so many updates. lstm_rates: as many in all."""

    learning_rates: tuple[float, ...]
    tau_steps: tuple[float, ...]
    updates: int
    lstm_rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class ChosenSettings:
    """What a search finds: tau_steps as for :func:`network_spec`."""

    learning_rate: float
    tau_steps: float


@dataclass(frozen=True)
class Condition:
    """What is varied. seeds: 0 to this. settings: instead of what the search found. own_search: whether every cell is
    searched for this condition apart, with the same candidates. updates: instead of the experiment's. analysed: whether
    the claims about trained networks are evaluated, for the first of the architectures."""

    name: str
    task_spec: TaskSpec
    models: tuple[NeuronModel, ...]
    recurrent: tuple[bool, ...]
    seeds: int
    masked_share: float = 0.0
    settings: ChosenSettings | None = None
    own_search: bool = False
    updates: int | None = None
    analysed: bool = False

    @property
    def searched_on(self) -> str | None:
        """The condition whose search gives this one its settings; None where they are given."""
        if self.settings is not None:
            return None
        return self.name if self.own_search else BASE

    def has(self, cell: Cell) -> bool:
        return cell.model in self.models and cell.recurrent in self.recurrent

    def analyses(self, run: RunSpec) -> bool:
        return self.analysed and run.recurrent == self.recurrent[0]


@dataclass(frozen=True)
class Experiment:
    """conditions: in the order of their runs. analysis_streams, changed_streams: see :func:`claims.analyse`."""

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
    """A neuron model and an architecture: what one search is for."""

    model: NeuronModel
    recurrent: bool


def search_runs(experiment: Experiment, cell: Cell, condition: str = BASE) -> list[RunSpec]:
    """The candidates of a cell, on a condition that has a search of its own or on the base."""
    search, base = experiment.search, experiment.condition(condition)
    pairs = [(rate, tau) for rate in search.learning_rates for tau in search.tau_steps]
    if cell.model == "lstm":
        pairs = [(rate, 1.0) for rate in search.lstm_rates]
    training = search_training(experiment)
    return [
        RunSpec(
            experiment=experiment.name,
            condition=search_name(condition),
            task=experiment.task,
            task_spec=base.task_spec,
            model=cell.model,
            recurrent=cell.recurrent,
            seed=SEARCH_SEED,
            learning_rate=rate,
            tau_steps=tau,
            training=training,
        )
        for rate, tau in pairs
    ]


def search_training(experiment: Experiment) -> Training:
    """A candidate's: the experiment's, shorter."""
    updates = experiment.search.updates
    return replace(
        experiment.training, updates=updates, evaluate_every=min(experiment.training.evaluate_every, updates)
    )


def search_name(condition: str) -> str:
    """What the candidates' condition is called."""
    return "search" if condition == BASE else f"search-{condition}"


def searched_conditions(experiment: Experiment, cell: Cell) -> list[str]:
    """The base, and the conditions of a cell with a search of their own."""
    own = [condition.name for condition in experiment.conditions if condition.own_search and condition.has(cell)]
    return [BASE, *own]


def final_run(
    experiment: Experiment, condition: Condition, cell: Cell, seed: int, chosen: Mapping[str, ChosenSettings]
) -> RunSpec:
    """One seed of a cell in a condition. chosen: by condition that was searched."""
    settings = condition.settings or chosen[condition.searched_on or BASE]
    return RunSpec(
        experiment=experiment.name,
        condition=condition.name,
        task=experiment.task,
        task_spec=condition.task_spec,
        model=cell.model,
        recurrent=cell.recurrent,
        seed=seed,
        learning_rate=settings.learning_rate,
        tau_steps=settings.tau_steps,
        training=training_of(experiment, condition),
        masked_share=condition.masked_share,
    )


def final_runs(experiment: Experiment, cell: Cell, chosen: Mapping[str, ChosenSettings]) -> list[RunSpec]:
    """The runs of a cell in every condition that has it. chosen: by condition that was searched."""
    return [
        final_run(experiment, condition, cell, seed, chosen)
        for condition in experiment.conditions
        if condition.has(cell)
        for seed in range(condition.seeds)
    ]


def training_of(experiment: Experiment, condition: Condition) -> Training:
    """The experiment's, with the condition's own number of updates, if it has one."""
    return replace(experiment.training, updates=condition.updates or experiment.training.updates)


def belongs(experiment: Experiment, run: Mapping[str, Any]) -> bool:
    """Whether a described run (:meth:`RunSpec.to_dict`) is one that the plan has; an earlier plan's is not."""
    for condition in experiment.conditions:
        if run["condition"] == condition.name:
            training, masked = training_of(experiment, condition), condition.masked_share
        elif run["condition"] == search_name(condition.name):
            training, masked = search_training(experiment), 0.0
        else:
            continue
        try:
            described = RunSpec.from_dict(dict(run))
        except RunError:  # of a task that had other settings
            return False
        planned = replace(described, task_spec=condition.task_spec, training=training, masked_share=masked)
        return planned == described
    return False


def cells(experiment: Experiment) -> list[Cell]:
    """In the order in which the conditions name them."""
    found = [
        Cell(model, recurrent)
        for condition in experiment.conditions
        for model in condition.models
        for recurrent in condition.recurrent
    ]
    return list(dict.fromkeys(found))


def run_count(experiment: Experiment) -> tuple[int, int]:
    """Search runs and final runs."""
    every = cells(experiment)
    searches = {cell: searched_conditions(experiment, cell) for cell in every}
    return (
        sum(len(search_runs(experiment, cell, name)) for cell, names in searches.items() for name in names),
        sum(
            len(final_runs(experiment, cell, dict.fromkeys(names, ChosenSettings(1.0, 1.0))))
            for cell, names in searches.items()
        ),
    )


def matched_hidden(
    experiment_task: str, task_spec: TaskSpec, *, recurrent: bool, measure: Callable[[NetworkSpec], int], goal: int
) -> tuple[int, ...]:
    """Hidden sizes of the largest HetSyn network, all layers in proportion, whose measure is within the goal."""
    full = task_spec.hidden
    best = tuple(1 for _ in full)
    for size in range(1, full[0] * 8):
        hidden = tuple(max(1, round(size * n / full[0])) for n in full)
        if measure(_untrained(experiment_task, replace(task_spec, hidden=hidden), "hetsyn", recurrent)) > goal:
            break
        best = hidden
    return best


def _untrained(task: str, task_spec: TaskSpec, model: Variant, recurrent: bool) -> NetworkSpec:
    run = RunSpec("", "", task, task_spec, model, recurrent, 0, 1.0, 10.0, Training(1, 1, "step"))
    return network_spec(open_task(run).shape, model, recurrent=recurrent, tau_steps=10.0)


def _matched(task: str, spec: TaskSpec, bank_size: int, recurrent: bool, seeds: int) -> tuple[Condition, ...]:
    """HetSyn as small as HetNeu of the base condition: in trained values; in state (HetSyn's bank, HetNeu exact)."""
    hetneu = _untrained(task, spec, "hetneu", recurrent)
    by_parameters = matched_hidden(
        task, spec, recurrent=recurrent, measure=parameter_count, goal=parameter_count(hetneu)
    )
    by_state = matched_hidden(
        *(task, spec),
        recurrent=recurrent,
        measure=lambda s: bank_state_bytes(s, bank_size),
        goal=exact_state_bytes(hetneu),
    )
    return tuple(
        Condition(name, replace(spec, hidden=hidden), ("hetsyn",), (recurrent,), seeds)
        for name, hidden in (("same-parameters", by_parameters), ("same-state", by_state))
    )


def pattern_generation() -> Experiment:
    spec = PatternGenerationSpec()
    training = Training(updates=600, batch=1, schedule="step", evaluate_every=50, bank_size=6)
    return Experiment(
        "pattern-generation",
        "pattern-generation",
        training,
        SearchPlan((2e-3, 5e-3), (20.0, 60.0, 200.0), updates=150),
        (
            Condition(BASE, spec, NEURONS, (True, False), seeds=3, analysed=True),
            Condition(PAPER, spec, NEURONS, (True,), seeds=3, settings=ChosenSettings(1e-3, 20.0), updates=1000),
            *_matched("pattern-generation", spec, training.bank_size, True, 3),
        ),
        analysis_streams=4,
        changed_streams=20,
    )


def delayed_match() -> Experiment:
    spec = DelayedMatchSpec(validation_trials=256)
    # half of the paper's updates: a hundred HetSyn neurons have solved the task after 100
    training = Training(updates=500, batch=32, schedule="step", evaluate_every=25, bank_size=6)
    both, recurrent = (True, False), (True,)
    paper = ChosenSettings(5e-3, 8.0)  # 40 ms

    def hidden(size: int) -> DelayedMatchSpec:
        return replace(spec, hidden=(size,))

    return Experiment(
        "delayed-match",
        "delayed-match",
        training,
        SearchPlan((5e-3, 1e-2), (8.0, 40.0, 160.0), updates=250),
        (
            Condition(PAPER, spec, NEURONS, both, seeds=3, settings=paper, analysed=True),
            Condition(BASE, spec, NEURONS, both, seeds=3, analysed=True),
            Condition("masked-0.8", spec, ("hetsyn",), recurrent, seeds=3, masked_share=0.8, settings=paper),
            *_matched("delayed-match", spec, training.bank_size, True, 3),
            # what trains a hundred neurons does not train five
            Condition(f"{PAPER}-hidden-5", hidden(5), NEURONS, both, seeds=5, settings=paper, updates=1000),
            Condition(f"{PAPER}-delay-2500", replace(spec, delay_ms=2500), NEURONS, recurrent, 3, settings=paper),
            Condition("hidden-5", hidden(5), NEURONS, both, seeds=5, own_search=True, updates=1000),
            Condition("noise-channels-90", replace(spec, noise_channels=90), NEURONS, recurrent, seeds=3),
            *(
                Condition(f"{PAPER}-hidden-{size}", hidden(size), NEURONS, recurrent, 3, settings=paper)
                for size in (20, 50)
            ),
            Condition("masked-1", spec, ("hetsyn",), recurrent, seeds=3, masked_share=1.0, settings=paper),
        ),
        analysis_streams=128,
        changed_streams=250,
    )


def vision_rows() -> Experiment:
    # the paper trains 150 epochs of pixels; a row a step, four epochs of 55,000 images are what two cores have time for
    spec = ImageSpec(
        *("fashion", "row", "crossings"),
        levels=4,
        hidden=(128, 64),
        dropout=0.1,
        rows_skipped=14,
        validation_images=2500,
    )
    training = Training(856, 256, "cosine", 2.0, 4e-3, evaluate_every=107, bank_size=4)
    return Experiment(
        "vision-rows",
        "vision",
        training,
        SearchPlan((2e-3, 5e-3), (4.0, 12.5, 40.0), updates=107, lstm_rates=(5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)),
        (
            Condition(BASE, spec, (*NEURONS, "lstm"), (True,), seeds=3, analysed=True),
            *_matched("vision", spec, training.bank_size, True, 3),
        ),
        analysis_streams=1000,
        changed_streams=1000,
    )


def vision_pixels() -> Experiment:
    # 3,500 training images instead of 60,000: ten epochs in batches of 50
    spec = ImageSpec("mnist-5k", "pixel", "crossings", levels=8, hidden=(64, 64), rows_skipped=14, shift=1)
    # Adam moves a decay by the learning rate whatever its gradient: at tau = 50 steps, r = 0.98, two updates of 0.01
    # made every synapse an integrator and the network a storm, from which it did not come back
    training = Training(700, 50, "cosine", 0.2, 4e-3, evaluate_every=70, bank_size=4)
    return Experiment(
        "vision-pixels",
        "vision",
        training,
        SearchPlan((2e-3, 5e-3), (12.5, 50.0), updates=140, lstm_rates=(1e-3, 2e-3, 4e-3, 8e-3)),
        (
            Condition(BASE, spec, (*NEURONS, "lstm"), (True,), seeds=3, analysed=True),
            # how far the best and the yardstick come with four times as long, which two cores have no time for thrice
            Condition("longer", spec, ("hetsyn", "lstm"), (True,), seeds=1, updates=2800),
        ),
        analysis_streams=100,
        changed_streams=250,
    )


def speech() -> Experiment:
    # the seed is the speaker left out; far less training than the shipped model's, no synthesised voices
    training = Training(312, 64, "cosine", 2.0, 4e-3, evaluate_every=39, bank_size=6)
    return Experiment(
        "speech",
        "speech",
        training,
        SearchPlan((2e-3, 5e-3), (4.0, 8.5, 20.0), updates=78),
        (Condition(BASE, SpeechSpec(), NEURONS, (True,), seeds=5, analysed=True),),
        analysis_streams=100,
        changed_streams=500,
    )


def shd(name: str, data_set: DataSet, updates: int) -> Experiment:
    # the paper trains 700-128-64-20 for a hundred epochs of 8,156 recordings; the seed chooses the validation speakers
    training = Training(updates, 32, "cosine", 2.0, 4e-3, evaluate_every=updates // 6, bank_size=4)
    return Experiment(
        name,
        "shd",
        training,
        SearchPlan((2e-3, 5e-3), (12.5, 40.0), updates=updates // 5),
        (Condition(BASE, ShdSpec(data_set), NEURONS, (True,), seeds=3, analysed=True),),
        analysis_streams=32,
        changed_streams=64,
    )


EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "pattern-generation": pattern_generation,
    "delayed-match": delayed_match,
    "vision-rows": vision_rows,
    "vision-pixels": vision_pixels,
    "speech": speech,
    "shd": partial(shd, "shd", "synthesised", updates=300),
    "shd-recorded": partial(shd, "shd-recorded", "recorded", updates=2550),
}


def smoke(experiment: Experiment) -> Experiment:
    """The same path in seconds: one search of two candidates, one seed, tiny networks and tests."""
    base = experiment.condition(BASE)
    spec: Any = base.task_spec
    small: dict[str, Any] = {"hidden": tuple(6 for _ in spec.hidden)}
    if isinstance(spec, PatternGenerationSpec):
        small |= {"template_ms": 60, "gap_ms": 20, "validation_trials": 2, "test_trials": 2}
    elif isinstance(spec, DelayedMatchSpec):
        small |= {"delay_ms": 200, "validation_trials": 32, "test_trials": 32}
    elif isinstance(spec, ImageSpec):
        small |= {"images": "mnist-5k", "validation_images": 20, "test_images": 20}
    elif isinstance(spec, SpeechSpec):
        small |= {"augmented": False}
    elif isinstance(spec, ShdSpec):
        small |= {"data_set": "drawn", "bins_a_step": 5}
    batch = 1 if experiment.training.batch == 1 else 8
    training = replace(experiment.training, updates=4, evaluate_every=2, batch=batch, bank_size=4)
    search = replace(
        experiment.search,
        learning_rates=experiment.search.learning_rates[:2],
        tau_steps=experiment.search.tau_steps[:1],
        lstm_rates=experiment.search.lstm_rates[:2],
        updates=2,
    )
    condition = replace(base, task_spec=replace(spec, **small), seeds=1, recurrent=base.recurrent[:1])
    return replace(
        experiment, training=training, search=search, conditions=(condition,), analysis_streams=4, changed_streams=8
    )
