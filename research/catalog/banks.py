"""HetSyn trained through banks of several sizes and in the exact form; each network is judged in all of them."""

from __future__ import annotations

from dataclasses import replace

from research.catalog.images import ROWS
from research.runs.plan import NO_SEARCH, ChosenSettings, Condition, Experiment
from research.runs.run import Training

TRAINED_SIZES = (2, 4, 6, 8, 12, 0)  # 0: the exact form
DECAY_FACTORS = (0.4, 2.0)
BANK_SEEDS, EXACT_SEEDS = 5, 3  # an update in the exact form takes ten times as long


def condition_name(size: int, decay_factor: float) -> str:
    """The name of the condition that trains at a size, with a factor on the decays' learning rate."""
    return f"{f'trained-{size}' if size else 'trained-exact'}-decays-{decay_factor:g}"


def bank_size() -> Experiment:
    # half the neurons and a quarter of the images, so that the exact form can be trained too
    spec = replace(ROWS, hidden=(64, 32))
    training = Training(800, 64, "cosine", 1.0, 4e-3, evaluate_every=100, bank_size=8)
    return Experiment(
        "bank-size",
        "vision",
        training,
        NO_SEARCH,
        tuple(
            Condition(
                condition_name(size, factor),
                spec,
                ("hetsyn",),
                (True,),
                seeds=BANK_SEEDS if size else EXACT_SEEDS,
                # learning rate and time constant that vision-rows' search has always found for HetSyn
                settings=ChosenSettings(5e-3, 4.0, factor),
                training=replace(training, bank_size=size),
                analysed=True,
            )
            for factor in DECAY_FACTORS
            for size in TRAINED_SIZES
        ),
        analysis_streams=10_000,
        changed_streams=0,
    )
