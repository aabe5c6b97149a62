"""Networks of an experiment with another kernel: the same layers, weights and time constants."""

from __future__ import annotations

from dataclasses import replace

from hetsyn_model.run_folder import RunError
from hetsyn_model.spec import KernelSpec, NetworkSpec

LEARNED = "learned"
SHORTEST_TAU_STEPS, LONGEST_TAU_STEPS = 1.0, 2000.0  # of the initial second currents of pairs


def with_kernel(spec: NetworkSpec, kernel: str) -> NetworkSpec:
    """A network's description with another kernel.

    Args:
        spec: of a network of exponential kernels. For pairs its reset has a time constant of its own.
        kernel: empty for these; ``pair``, with g learned from 0.5 on, and a second current of a third of the first
            one's time constant; ``order-0.5``, fractional of this order; or ``order-learned``, from 0.7 on. The
            reset of fractional networks is the neuron's synapse to itself, also at order 1, where they are those of
            exponentials.

    Raises:
        RunError: there is no such kernel.
    """
    if not kernel:
        return spec
    if kernel == "pair":
        low, high = (max(tau / 3.0, SHORTEST_TAU_STEPS) for tau in spec.neuron.tau_init_steps)
        return replace(spec, kernel=KernelSpec("pair", tau_fast_init_steps=(low, high), factor_init=(0.5, 0.5)))
    shape, _, order = kernel.partition("-")
    try:
        value = 0.7 if order == LEARNED else float(order)
    except ValueError:
        shape = ""
    if shape != "order":
        raise RunError(f"kernel {kernel!r}: give pair, order-{LEARNED}, or an order such as order-0.5")
    allowed = KernelSpec().order_range if order == LEARNED else (value, value)
    return replace(
        spec,
        neuron=replace(spec.neuron, reset="same_kernel"),
        kernel=KernelSpec("fractional", order_init=(value, value), order_range=allowed),
    )
