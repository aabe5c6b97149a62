"""The experiments themselves, one function each, and their small versions for ``--smoke``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from experiments.delayed_match import DelayedMatchSpec
from experiments.neurons import bank_state_bytes, exact_state_bytes, network_spec, parameter_count
from experiments.pattern_generation import PatternGenerationSpec
from experiments.plan import BASE, NEURONS, PAPER, ChosenSettings, Condition, Experiment, SearchPlan
from experiments.run import RunSpec, TaskSpec, Training, open_task
from experiments.shd import ShdSource, ShdSpec
from experiments.speech import SpeechSpec
from experiments.vision import ImageSpec
from hetsyn_model.spec import NetworkSpec, Variant


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


def shd(name: str, data_set: ShdSource, updates: int) -> Experiment:
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
