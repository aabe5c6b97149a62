"""Kernels: fractional orders against tuned time constants, and pairs against single exponentials.

Rules, stated before any run:

- *Fractional*: on Fashion-MNIST in rows, each order's network (HetNeu's synapses, whose time constants are learned, and
  the reset through the neuron's own synapse) has a search of its own over the same rates and time constants as order 1,
  which is the control: HetNeu with its time constant tuned. An order **wins** if the 95% interval of its mean
  difference from order 1, over the same seeds, is above 0; it **loses** if the interval is below; else it is open,
  and the interval says what could have been missed.
- *Pair*: on the same task, HetSyn's synapses as pairs against single exponentials, each with its own search. At equal
  neurons a pair has twice the parameters, so the verdict is that of ``pair``, with fewer neurons and about the
  parameters of ``base``; ``pair-same-neurons`` is reported beside it.
- Noise is read from the changed inputs of the trained networks (deletion, jitter), which the report draws for every
  condition that is analysed: the claim that fractional neurons forget a disturbance is **kept** if the loss at 20 and
  40% deleted spikes is smaller than that of order 1, by the same interval.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.runs.plan import BASE, Condition, Experiment, SearchPlan
from experiments.runs.run import Training
from experiments.tasks.kernels import LEARNED, with_kernel
from experiments.tasks.neurons import parameter_count
from experiments.tasks.vision import ImageSpec
from hetsyn_model.spec import NetworkSpec

ORDERS = ("1", "0.9", "0.7", "0.5", "0.3", LEARNED)
CLASSES = 10
FRACTIONAL_BANK = 10  # holds every order over the window to 1e-3
SPEC = ImageSpec(
    *("fashion", "row", "crossings"), levels=4, hidden=(64, 32), dropout=0.1, rows_skipped=14, validation_images=2500
)
TRAINING = Training(800, 64, "cosine", 1.0, 4e-3, evaluate_every=200, bank_size=FRACTIONAL_BANK)
SEARCH = SearchPlan((2e-3, 5e-3), (4.0, 12.5, 40.0), updates=200)


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
    return Experiment("fractional", "vision", TRAINING, SEARCH, tuple(conditions), 256, 1000)


def pairs() -> Experiment:
    base = Condition(BASE, SPEC, ("hetsyn",), (True,), seeds=5, analysed=True)
    same = replace(base, name="pair-same-neurons", own_search=True, kernel="pair")
    fewer = replace(same, name="pair", task_spec=replace(SPEC, hidden=_fewer_neurons(SPEC)))
    return Experiment("pairs", "vision", replace(TRAINING, bank_size=8), SEARCH, (base, fewer, same), 256, 1000)


def _fewer_neurons(spec: ImageSpec) -> tuple[int, ...]:
    """Hidden layers, in the proportion of the task's, with which pairs have its number of parameters."""

    def parameters(hidden: tuple[int, ...], kernel: str) -> int:
        return parameter_count(with_kernel(NetworkSpec(spec.channels, hidden, CLASSES), kernel))

    allowed = parameters(spec.hidden, "")
    first = max(n for n in range(8, spec.hidden[0]) if parameters((n, n // 2), "pair") <= allowed)
    return first, first // 2
