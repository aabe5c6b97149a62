"""Delays of spikes: learned, fixed at random, none; with time constants and without."""

from __future__ import annotations

from dataclasses import replace

from research.catalog.matched import matched_hidden, untrained
from research.catalog.streams import mnist1d
from research.runs.plan import BASE, Condition, Experiment, SearchPlan
from research.runs.run import NeuronModel
from research.tasks.delays import DELAYED
from research.tasks.mnist1d import Mnist1dSpec
from research.tasks.neurons import parameter_count

SERIES_SEEDS = 20
# with a learned time constant a synapse, and with one fixed time constant: only delays are left to tell times apart
MODELS: tuple[NeuronModel, ...] = ("hetsyn", "homneu")
LEARNED = tuple(delays for delays in DELAYED if delays.endswith("learned"))
WIDE = "wide"  # with as many trained values as HetSyn has


def delays_series() -> Experiment:
    """On MNIST-1D, where learning is long enough for a delay to cross its whole range."""
    plan, base = mnist1d(), Mnist1dSpec()
    goal = parameter_count(untrained("mnist1d", base, "hetsyn", recurrent=True))

    def wide(spec: Mnist1dSpec) -> Mnist1dSpec:
        return replace(
            spec,
            hidden=matched_hidden("mnist1d", spec, recurrent=True, measure=parameter_count, goal=goal, model="homneu"),
        )

    specs = {path: replace(base, delays=path) for path in DELAYED}
    return replace(
        plan,
        name="delays-series",
        # candidates as long as the final runs: short ones took settings for HetSyn that are not its best
        search=SearchPlan((5e-3, 1e-2, 2e-2), (2.5, 5.0, 20.0), updates=plan.training.updates),
        conditions=(
            Condition(BASE, base, MODELS, (True,), SERIES_SEEDS),
            *(
                # a delay a unit is 64 or 96 values more, 0.5 or 0.7% of HetSyn's
                Condition(path, spec, MODELS, (True,), SERIES_SEEDS, own_search=True)
                for path, spec in specs.items()
            ),
            *(
                Condition(name, wide(spec), ("homneu",), (True,), SERIES_SEEDS, own_search=True)
                for name, spec in {WIDE: base, **{f"{WIDE}-{path}": specs[path] for path in LEARNED}}.items()
            ),
        ),
    )
