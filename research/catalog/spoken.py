"""The Spiking Heidelberg Digits, with the paper's settings."""

from __future__ import annotations

from dataclasses import replace

from research.runs.plan import NEURONS, NO_SEARCH, PAPER, WHOLE, ChosenSettings, Condition, Experiment
from research.runs.run import Training
from research.tasks.shd import ShdSpec


def shd_recorded() -> Experiment:
    # an epoch is 255 batches of 32; the cosine is over 40 epochs; the bank is larger than in other plans, as the paper
    # trains the exact form, and the test is made in the exact form too
    training = Training(
        *(100 * 255, 32, "held-cosine", 2.0, 4e-3),
        evaluate_every=255,
        bank_size=12,
        clip=None,
        decay_weight_decay=4e-3,
        cosine_updates=40 * 255,
        test_each=True,
    )
    paper = Condition(
        *(PAPER, ShdSpec(), NEURONS, (True,)),
        seeds=10,
        settings=ChosenSettings(2e-3, 12.5),  # U(5, 20)
        fixed_tau_steps=20.0,
    )
    whole = replace(
        paper,
        name=WHOLE,
        task_spec=ShdSpec(whole_file=True),
        training=replace(training, choose="last"),
    )
    return Experiment("shd-recorded", "shd", training, NO_SEARCH, (paper, whole))
