"""Streams of values: the watch's motion, and digits as series."""

from __future__ import annotations

from dataclasses import replace

from research.runs.plan import BASE, NEURONS, SEARCH_SEED, Condition, Experiment, SearchPlan
from research.runs.run import Training
from research.tasks.mnist1d import Mnist1dSpec
from research.tasks.motion import PEOPLE, MotionSpec


def motion() -> Experiment:
    # the seed is the person left out; the search of a seed has not heard that person (tasks/motion.py)
    spec = MotionSpec()
    training = Training(300, 32, "cosine", 1.0, 4e-3, evaluate_every=50, bank_size=8)
    return Experiment(
        "motion",
        "motion",
        training,
        SearchPlan(
            *((2e-3, 5e-3), (10.0, 50.0)),
            updates=100,
            lstm_rates=(2e-3, 4e-3, 8e-3, 1.6e-2),
            seeds=(SEARCH_SEED, SEARCH_SEED + 1),
        ),
        (
            Condition(BASE, spec, (*NEURONS, "lstm"), (True,), seeds=PEOPLE, analysed=True),
            Condition("on-spikes", replace(spec, lstm_input="spikes"), ("lstm",), (True,), PEOPLE, own_search=True),
        ),
        analysis_streams=150,
        changed_streams=150,
    )


def mnist1d() -> Experiment:
    # twenty epochs of 3,500 series
    training = Training(1400, 50, "cosine", 1.0, 4e-3, evaluate_every=140, bank_size=8)
    return Experiment(
        "mnist1d",
        "mnist1d",
        training,
        SearchPlan((2e-3, 5e-3), (5.0, 20.0), updates=280, lstm_rates=(2e-3, 4e-3, 8e-3, 1.6e-2)),
        (Condition(BASE, Mnist1dSpec(), (*NEURONS, "lstm"), (True,), seeds=50, analysed=True),),
        analysis_streams=250,
        changed_streams=250,
    )
