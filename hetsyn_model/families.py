"""Networks of other papers as values of our description, with the settings that the papers have.

Each function gives the parts of a :class:`hetsyn_model.spec.NetworkSpec` that make the family; sizes and decision are
the caller's: ``NetworkSpec(700, (128, 64), 20, **f_lif())``. ``docs/model.md`` says what is the same, and what is not.
"""

from __future__ import annotations

import math
from typing import TypedDict

from hetsyn_model.spec.kernel import LOWEST_ORDER, KernelSpec
from hetsyn_model.spec.neuron import NeuronSpec

NMDA_TAU_S, GABA_TAU_S = 35.5e-3, 14.2e-3  # of the DYNAP-SE's circuits at the biases of its simulator


class Family(TypedDict):
    """Fields of a network's description."""

    neuron: NeuronSpec
    kernel: KernelSpec


def f_lif(*, order: float = 0.5, tau: float = 2.0, step: float = 1.0, learned: bool = False) -> Family:
    """The fractional leaky integrate-and-fire neuron of f-SNN (arXiv 2507.16937), one order and rate a layer.

    Args:
        order: of the derivative; the paper searches one for each data set, 0.1 to 0.9.
        tau: of ``tau D^p v = u - v``, in units of the solver's time.
        step: of the solver in these units, h. The rate is ``h^p / tau``.
        learned: whether training changes order and rate.
    """
    rate = step**order / tau
    tau_steps = 1.0 / math.log1p(rate)  # of the decay 1 / (1 + rate) that the kernel has at order 1
    return {
        "neuron": NeuronSpec(
            decays="shared",
            tied=True,
            reset="same_kernel",
            learn_decays=learned,
            tau_init_steps=(tau_steps, tau_steps),
            # rates from 0.02 to 1
            decay_range=(0.5, 0.98) if learned else (0.0, 1.0),
        ),
        "kernel": KernelSpec(
            "fractional",
            order_init=(order, order),
            order_range=(LOWEST_ORDER, 1.0) if learned else (order, order),
            unit="sum",
        ),
    }


def dynap_pair(*, step_s: float = 1e-3, factor: float = 1.0, spread: float = 0.2) -> Family:
    """An excitatory and an inhibitory dynamic synapse as one, as on the DYNAP-SE (arXiv 2002.04924).

    Args:
        step_s: duration of a network's step.
        factor: strength of the inhibitory synapse relative to the excitatory one.
        spread: share by which initial time constants differ either way, as those of the chip's circuits do.
    """
    slow, fast = NMDA_TAU_S / step_s, GABA_TAU_S / step_s
    return {
        "neuron": NeuronSpec(tau_init_steps=((1 - spread) * slow, (1 + spread) * slow)),
        "kernel": KernelSpec(
            "pair",
            tau_fast_init_steps=((1 - spread) * fast, (1 + spread) * fast),
            factor_init=(factor, factor),
        ),
    }
