"""Images as sequences."""

from __future__ import annotations

from research.catalog.matched import matched
from research.runs.plan import BASE, NEURONS, Condition, Experiment, Refinement, SearchPlan
from research.runs.run import Training
from research.tasks.vision import ImageSpec

ROWS = ImageSpec(
    *("fashion", "row", "crossings"),
    levels=4,
    hidden=(128, 64),
    dropout=0.1,
    rows_skipped=14,
    validation_images=2500,
)
# the paper trains 150 epochs of digits, a pixel a step; four epochs of 55,000 images are what two cores have time for
ROWS_TRAINING = Training(856, 256, "cosine", 1.0, 4e-3, evaluate_every=107, bank_size=8)


def vision_rows() -> Experiment:
    return Experiment(
        "vision-rows",
        "vision",
        ROWS_TRAINING,
        SearchPlan(
            *((2e-3, 5e-3), (4.0, 12.5, 40.0), 107),
            lstm_rates=(5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
            refinement=Refinement(428, decay_factors=(0.2, 0.4, 1.0, 2.0), rate_factors=(0.5, 1.0, 1.5, 2.0)),
        ),
        (
            Condition(BASE, ROWS, (*NEURONS, "lstm"), (True,), seeds=5, analysed=True),
            *matched("vision", ROWS, 8, True, 5),
        ),
        analysis_streams=1000,
        changed_streams=1000,
    )
