"""Resonant neurons (SE-adLIF) against those with time constants, with as many trained values and an equal search."""

from __future__ import annotations

from dataclasses import replace

from research.catalog.images import ROWS, ROWS_TRAINING
from research.catalog.matched import matched_hidden, untrained
from research.runs.plan import BASE, Condition, Experiment, Refinement, SearchPlan
from research.tasks.neurons import NeuronModel, parameter_count

SEEDS = 8
# with the same layers, within 1% of each other's trained values; those with a decay a synapse have twice as many, and
# get fewer neurons
SAME_LAYERS: tuple[NeuronModel, ...] = ("se-adlif", "hetneu", "alif", "homneu")
BY_SYNAPSE: tuple[NeuronModel, ...] = ("hetsyn", "hetsyn-resonance")


def resonance_rows() -> Experiment:
    goal = parameter_count(untrained("vision", ROWS, "se-adlif", recurrent=True))
    smaller = [
        Condition(
            f"same-parameters-{model}",
            replace(
                ROWS,
                hidden=matched_hidden("vision", ROWS, recurrent=True, measure=parameter_count, goal=goal, model=model),
            ),
            (model,),
            (True,),
            SEEDS,
            own_search=True,
        )
        for model in BY_SYNAPSE
    ]
    return Experiment(
        "resonance-rows",
        "vision",
        ROWS_TRAINING,
        # a rate of 1e-2 is that of SE-adLIF's paper
        SearchPlan(
            *((2e-3, 5e-3, 1e-2), (2.0, 6.0, 15.0)),
            updates=ROWS_TRAINING.updates // 5,
            refinement=Refinement(
                ROWS_TRAINING.updates // 2, decay_factors=(0.2, 0.4, 1.0, 2.0), rate_factors=(0.5, 1.0, 1.5, 2.0)
            ),
        ),
        (Condition(BASE, ROWS, SAME_LAYERS, (True,), SEEDS), *smaller),
        analysis_streams=0,
        changed_streams=0,
    )
