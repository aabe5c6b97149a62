"""The paper's two tasks that need no data: pattern generation and delayed match."""

from __future__ import annotations

from dataclasses import replace

from experiments.catalog.matched import matched
from experiments.delayed_match import DelayedMatchSpec
from experiments.pattern_generation import PatternGenerationSpec
from experiments.plan import BASE, NEURONS, PAPER, ChosenSettings, Condition, Experiment, SearchPlan
from experiments.run import Training


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
            *matched("pattern-generation", spec, training.bank_size, True, 3),
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
            *matched("delayed-match", spec, training.bank_size, True, 3),
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
