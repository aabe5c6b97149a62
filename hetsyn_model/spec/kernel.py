"""What a synapse's current looks like after a spike: its kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from hetsyn_model.spec.errors import require

KernelShape = Literal["exponential", "pair", "fractional"]
KernelUnit = Literal["first", "sum"]
Range = tuple[float, float]

LOWEST_ORDER = 0.1  # below it, the sum over decays that stands for a kernel is no longer accurate
FRACTIONAL_DECAYS = (0.01, 0.9999)  # of order 1: at 0 there is no memory, at 1 no end of it


@dataclass(frozen=True)
class KernelSpec:
    """The kernel of every synapse, and what training may do to its values.

    The decay r of ``NeuronSpec`` belongs to every shape, and ``NeuronSpec.decays`` says for all values of a kernel
    whether a synapse, a neuron or a layer has them. ``docs/explanation/model.md`` has the equations. Lower and
    upper ends that are equal fix a value.

    Attributes:
        shape: ``exponential``, r^n; ``pair``, r^n - g r_f^n, an excitatory and an inhibitory synapse in one;
            ``fractional``, the response of a leaky integrator of order p, which is r^n at order 1.
        tau_fast_init_steps: of a pair, ends of the uniform distribution of the initial time constants of r_f.
        factor_init: of a pair, the same of g.
        factor_range: of a pair, where ``Network.clamp_decays_`` brings g. 0: today's exponential.
        order_init: of a fractional kernel, ends of the uniform distribution of the initial orders.
        order_range: of a fractional kernel, where ``Network.clamp_decays_`` brings the order.
        unit: what is 1 of a fractional kernel: its ``first`` value, as of r^n; or its ``sum`` over all steps, as
            published, with which a spike of weight 1 starts at 1 - r.
        window_steps: of a fractional kernel, the steps after a spike over which a bank keeps its error. It has no end
            of its own, and a bank does.
    """

    shape: KernelShape = "exponential"
    tau_fast_init_steps: Range = (2.0, 5.0)
    factor_init: Range = (0.5, 1.0)
    factor_range: Range = (0.0, 2.0)
    order_init: Range = (0.7, 0.7)
    order_range: Range = (LOWEST_ORDER, 1.0)
    unit: KernelUnit = "first"
    window_steps: int = 1000

    def __post_init__(self) -> None:
        require(self.shape in get_args(KernelShape), f"kernel.shape: {self.shape!r} is none of {get_args(KernelShape)}")
        low, high = self.tau_fast_init_steps
        require(
            0 < low <= high < math.inf, f"kernel.tau_fast_init_steps: {self.tau_fast_init_steps} is not 0 < low <= high"
        )
        _check_within("factor", self.factor_init, self.factor_range, (0.0, 1e3))
        _check_within("order", self.order_init, self.order_range, (LOWEST_ORDER, 1.0))
        require(self.unit in get_args(KernelUnit), f"kernel.unit: {self.unit!r} is none of {get_args(KernelUnit)}")
        require(
            self.unit == "first" or self.shape == "fractional",
            f"kernel.unit: {self.unit!r} needs shape 'fractional': leave it out",
        )
        require(
            isinstance(self.window_steps, int) and 1 <= self.window_steps <= 1_000_000,
            f"kernel.window_steps: {self.window_steps} is not a whole number from 1 to 1000000",
        )

    @property
    def is_exponential(self) -> bool:
        return self.shape == "exponential"

    @property
    def currents(self) -> int:
        """Currents of a synapse in the exact form."""
        return 2 if self.shape == "pair" else 1

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> KernelSpec:
        """A kernel from its fields, whose ranges may be lists."""
        pairs = {field.name for field in fields(KernelSpec) if field.type == "Range"}
        read: dict[str, Any] = {name: tuple(value) if name in pairs else value for name, value in values.items()}
        return KernelSpec(**read)


def _check_within(name: str, initial: Range, allowed: Range, ends: Range) -> None:
    low, high = allowed
    first, last = initial
    require(
        ends[0] <= low <= high <= ends[1],
        f"kernel.{name}_range: {allowed} is not {ends[0]} <= low <= high <= {ends[1]}",
    )
    require(low <= first <= last <= high, f"kernel.{name}_init: {initial} is not low <= high within {allowed}")
