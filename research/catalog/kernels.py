"""Kernels: fractional orders against tuned time constants, and pairs against single exponentials.

Order 1 is the control: HetNeu with its time constant searched. Every order has a search of its own over the same rates
and time constants, and then over the rate of its decays. At equal neurons a pair has twice the parameters, so the
verdict is on ``pair``, with fewer neurons; ``pair-same-neurons`` is reported beside it.
``research/worth/sentences.toml`` has the rules.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from hetsyn_model.spec import NetworkSpec
from research.runs.plan import BASE, Condition, Experiment, Refinement, SearchPlan
from research.runs.run import Training
from research.tasks.kernels import LEARNED
from research.tasks.neurons import parameter_count
from research.tasks.vision import ImageSpec

ORDERS = ("1", "0.9", "0.7", "0.5", "0.3", LEARNED)
CLASSES = 10
FRACTIONAL_BANK = 10  # decays; the page has the kernel errors that they leave
SPEC = ImageSpec(
    *("fashion", "row", "crossings"), levels=4, hidden=(64, 32), dropout=0.1, rows_skipped=14, validation_images=2500
)
TRAINING = Training(800, 64, "cosine", 1.0, 4e-3, evaluate_every=100, bank_size=FRACTIONAL_BANK)
# candidates as long as the final runs, and several of each: single runs of 200 updates chose settings by chance
# a second stage for the decays' rate, because most candidates of order 1 break down, and those of other orders do not
ORDERS_SEARCH = SearchPlan(
    *((5e-3, 1e-2, 2e-2), (2.0, 4.0, 12.5, 40.0)),
    updates=800,
    repeats=2,
    refinement=Refinement(800, decay_factors=(0.2, 0.4, 1.0, 2.0), rate_factors=(0.5, 1.0, 1.5, 2.0)),
)
PAIRS_SEARCH = SearchPlan((5e-3, 1e-2, 2e-2), (2.0, 4.0, 12.5), updates=800, repeats=3)


def fractional() -> Experiment:
    conditions = [
        Condition(
            BASE if order == "1" else f"order-{order}",
            SPEC,
            ("hetneu",),
            (True,),
            seeds=5,
            own_search=order != "1",
            analysed=True,
            kernel=f"order-{order}",
        )
        for order in ORDERS
    ]
    return Experiment("fractional", "vision", TRAINING, ORDERS_SEARCH, tuple(conditions), 256, 1000)


def pairs() -> Experiment:
    base = Condition(BASE, SPEC, ("hetsyn",), (True,), seeds=5, analysed=True)
    same = replace(base, name="pair-same-neurons", own_search=True, kernel="pair")
    fewer = replace(same, name="pair", task_spec=replace(SPEC, hidden=pair_hidden(SPEC)))
    return Experiment("pairs", "vision", replace(TRAINING, bank_size=8), PAIRS_SEARCH, (base, fewer, same), 256, 1000)


def pair_hidden(spec: ImageSpec) -> tuple[int, ...]:
    """Two hidden layers, the second half of the first, with which pairs have about HetSyn's number of parameters."""

    def parameters(hidden: tuple[int, ...]) -> int:
        return parameter_count(NetworkSpec(spec.channels, hidden, CLASSES))

    # a pair has four values a synapse, and an exponential two
    allowed = parameters(spec.hidden) // 2
    first = bisect_right(range(1, spec.hidden[0]), allowed, key=lambda n: parameters((n, max(1, n // 2))))
    return first, first // 2
