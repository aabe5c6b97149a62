"""The kernels of synapses as sums over decays, and their coefficients in a bank's basis.

The general rule: the bank's least-squares coefficients of a kernel ``g(n) = int r^n dmu(r)`` are
``c_k = int c_k(r) dmu(r)``, with the c_k(r) of ``bank.py``. So another kernel needs other coefficients, and no other
state or operator.

    pair         g(n) = r^n - g r_f^n
    fractional   (1 - r) g(n) = int_0^1 (1 - R(u)) R(u)^n du,    R(u) = 1 / (1 + S(u)),
                 S(u) = (rate sin(pi p (1 - u)) / sin(pi p u))^(1 / p),    rate = (1 - r) / r

The fractional kernel is the impulse response of the implicit Gruenwald-Letnikov step of order p of
``D^p v = rate (u - v)``, divided by its first value 1 - r: ``v(t) (1 + rate) = rate u(t) - sum_(j>0) b_j v(t-j)`` with
``b_0 = 1, b_j = (1 - (1 + p) / j) b_(j-1)``. At order 1, S(u) is the rate, R(u) is r, and the kernel is r^n.

The integral is the spectral density of the relaxation, brought to a form without a pole: with ``S^p = w``, the density
is Lorentzian in w, and the uniform u is its distribution function (derived here; the samples of stable laws by Kanter,
Annals of Probability 3(4), 1975, have the same form). ``y = ln(u / (1 - u))`` makes the trapezoid rule converge
exponentially: NODES of them give 1e-6 of the kernel's norm at order 0.1, and 1e-9 from 0.5 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hetsyn_model.synapses.bank import Bank

Unit = Literal["first", "sum"]  # what is 1 of a fractional kernel: its first value, as of r^n, or its sum, as published
LOWEST_ORDER = 0.1  # below it, the sum over decays that stands for a kernel is no longer accurate
NODES = 192  # of the integral over u
FASTEST, SLOWEST = 32.0, -32.0  # ln S of a node: beyond, its decay is 0 or 1 to the last digit
SPAN = 32.0  # windows in the longest time constant of a node
NEAR_ONE = 1.0 - 1e-6  # orders above it have its gradient: at 1 itself, the integrand has none
DIRECT = 2048  # kernels from which on fractional coefficients are interpolated
DEGREES = (20, 16)  # of the Chebyshev polynomials in order and in logit(r)


@dataclass(frozen=True)
class Pair:
    """What a pair has beside the decay r.

    Attributes:
        fast: r_f, decay a step of the second current, shaped as r.
        factor: g, its weight relative to the first current's, shaped as r.
    """

    fast: Tensor
    factor: Tensor


@dataclass(frozen=True)
class Fractional:
    """What a fractional kernel has beside the decay r that it has at order 1.

    Attributes:
        order: p, in [0.1, 1], shaped as r.
        unit: what is 1: the kernel's ``first`` value or its ``sum``.
        window_steps: over which a bank keeps its error.
    """

    order: Tensor
    unit: Unit
    window_steps: int


Shape = Pair | Fractional


@dataclass(frozen=True)
class Mixture:
    """Kernels as sums ``g(n) = sum_m mass_m decay_m^n``.

    Attributes:
        decays: [..., m].
        masses: [..., m].
    """

    decays: Tensor
    masses: Tensor

    def response(self, steps: Tensor) -> Tensor:
        """Compute the kernels at these numbers of steps after a spike, [..., n]."""
        powers = self.decays.unsqueeze(-2) ** steps.to(self.decays.dtype).unsqueeze(-1)
        return (self.masses.unsqueeze(-2) * powers).sum(-1)

    def squared_norm(self) -> Tensor:
        """Sum the squared kernels over all steps, [...]."""
        gram = 1.0 / (1.0 - self.decays.unsqueeze(-1) * self.decays.unsqueeze(-2))
        return (self.masses.unsqueeze(-1) * gram * self.masses.unsqueeze(-2)).sum((-1, -2))


def map_parts(shape: Shape, change: Callable[[Tensor], Tensor]) -> Shape:
    """Return a shape with another tensor for each of its own."""
    if isinstance(shape, Pair):
        return Pair(change(shape.fast), change(shape.factor))
    return replace(shape, order=change(shape.order))


def parts(shape: Shape) -> tuple[Tensor, ...]:
    """List the tensors of a shape."""
    return (shape.fast, shape.factor) if isinstance(shape, Pair) else (shape.order,)


def mixture(decay: Tensor, shape: Shape, nodes: int = NODES) -> Mixture:
    """Write kernels as sums over decays, float64, differentiable in all values.

    Args:
        decay: r a step, any shape.
        nodes: points at which the integral of a fractional kernel is sampled.
    """
    r = decay.double()
    if isinstance(shape, Pair):
        factor = shape.factor.double()
        return Mixture(torch.stack([r, shape.fast.double()], -1), torch.stack([torch.ones_like(r), -factor], -1))
    return _fractional(r, shape, nodes)


def _fractional(r: Tensor, shape: Fractional, nodes: int) -> Mixture:
    order = shape.order.double().unsqueeze(-1)
    log_rate = torch.log((1.0 - r) / r).unsqueeze(-1)
    with torch.no_grad():  # where the integrand is sampled; its value does not depend on it
        reach = 24.0 * order + 5.0
        y = log_rate + reach * torch.linspace(-1.0, 1.0, nodes, dtype=torch.float64, device=r.device)
        half = reach / (nodes - 1)
        u, rest = torch.sigmoid(y), torch.sigmoid(-y)
        du = u * rest * 2.0 * half
        # the ends stand for all that lies beyond them
        du[..., 0] += torch.sigmoid(y[..., 0] - half[..., 0])
        du[..., -1] += torch.sigmoid(-y[..., -1] - half[..., 0])
    angle = math.pi * order
    log_s = (log_rate + torch.log(torch.sin(angle * rest) / torch.sin(angle * u))) / order
    log_s = log_s.clamp(SLOWEST, FASTEST)
    masses = torch.sigmoid(log_s) * du
    first = (1.0 - r).unsqueeze(-1)
    # a bank that ends at some time constant cannot follow slower ones: within the window they are all alike
    slowest = math.log(math.expm1(1.0 / (SPAN * shape.window_steps)))
    decays = torch.sigmoid(-slowest - softplus(2.0 * (log_s - slowest)) / 2.0)  # a smooth maximum
    return Mixture(decays, masses / first if shape.unit == "first" else masses)


def coefficients(bank: Bank, decay: Tensor, shape: Shape) -> Tensor:
    """Compute the coefficients of kernels in a bank's basis, ``c_k = int c_k(r) dmu(r)``, differentiable in all values.

    Args:
        decay: r a step, any shape, each in [0, 1].
        shape: what the kernels have beside it.

    Returns:
        float64 [*r.shape, K].
    """
    if isinstance(shape, Fractional) and decay.numel() > DIRECT:
        return _interpolated(bank, decay.double(), shape)
    if isinstance(shape, Pair):
        return _summed(bank, mixture(decay, shape))
    order = shape.order.double()
    c = _summed(bank, mixture(decay, replace(shape, order=order - (order - NEAR_ONE).clamp_min(0.0).detach())))
    # the very r^n at order 1, with the gradient of the integral: training must be able to leave 1
    r = decay.detach().double()
    whole = bank.coefficients(r) * (1.0 if shape.unit == "first" else 1.0 - r.unsqueeze(-1))
    return torch.where((order >= 1.0).unsqueeze(-1), whole + c - c.detach(), c)


def _summed(bank: Bank, of: Mixture) -> Tensor:
    return (bank.coefficients(of.decays) * of.masses.unsqueeze(-1)).sum(-2)


def _interpolated(bank: Bank, r: Tensor, shape: Fractional) -> Tensor:
    """Interpolate :func:`coefficients` for many kernels: Chebyshev, over the range of their orders and decays."""
    order = shape.order.double()
    axes = (_Axis.over(order, DEGREES[0]), _Axis.over(torch.logit(r), DEGREES[1]))
    orders, logits = torch.meshgrid(*(axis.nodes() for axis in axes), indexing="ij")
    with torch.no_grad():
        values = coefficients(bank, torch.sigmoid(logits), replace(shape, order=orders.clamp_max(1.0)))
        table = torch.einsum("xa,yb,abk->xyk", axes[0].transform(), axes[1].transform(), values)
    of_order, of_decay = axes[0].polynomials(order), axes[1].polynomials(torch.logit(r))
    return torch.stack([((of_order @ table[..., k]) * of_decay).sum(-1) for k in range(table.shape[-1])], -1)


@dataclass(frozen=True)
class _Axis:
    """Chebyshev polynomials over the range of some values."""

    middle: float
    half: float
    degree: int

    @staticmethod
    def over(values: Tensor, degree: int) -> _Axis:
        low, high = (float(end) for end in values.detach().aminmax())
        return _Axis((low + high) / 2, (high - low) / 2, degree if high > low else 1)

    def nodes(self) -> Tensor:
        angle = (torch.arange(self.degree, dtype=torch.float64) + 0.5) * math.pi / self.degree
        return self.middle + self.half * torch.cos(angle)

    def transform(self) -> Tensor:
        """Make the matrix from values at the nodes to factors of the polynomials, [degree, degree]."""
        angle = (torch.arange(self.degree, dtype=torch.float64) + 0.5) * math.pi / self.degree
        rows = torch.cos(torch.arange(self.degree, dtype=torch.float64).unsqueeze(1) * angle) * 2.0 / self.degree
        rows[0] /= 2.0
        return rows

    def polynomials(self, values: Tensor) -> Tensor:
        """Compute the polynomials at these points, [..., degree]."""
        x = (values - self.middle) / self.half if self.half else torch.zeros_like(values)
        found = [torch.ones_like(x), x]
        while len(found) < self.degree:
            found.append(2.0 * x * found[-1] - found[-2])
        return torch.stack(found[: self.degree], -1)
