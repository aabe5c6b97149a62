"""Synapses in the bank form: K decays shared by a layer instead of one a synapse.

The exact form is equation 8 of arXiv 2508.11644; the bank is this project's own approximation of it
(``docs/explanation/timescale-bank.md``). A synapse's kernel is ``r^n ~ sum_k c_k(r) alpha_k^n`` for n >= 0, with the
least-squares coefficients

    B(r)    = prod_l (r - alpha_l) / (1 - r alpha_l)
    c_k(r)  = B(r) * gamma_k / (r - alpha_k), the factor of alpha_k cancelled
    gamma_k = (1 - alpha_k^2) * prod_{l != k} (1 - alpha_k alpha_l) / (alpha_k - alpha_l)

They are accurate to the last digits where a solver loses all of them. ``|B(r)|`` is the relative L2 error of the
kernel; ``bank_fit.py`` makes it small.

A layer's currents are then ``U_k(t) = alpha_k U_k(t-1) + sum_i (w_ji c_k(r_ji)) x_i(t)``, [K, neurons] instead of
[neurons, inputs]. Input and recurrent synapses of a layer share one U. A decay of exactly 1 (a perfect integrator) has
no square-summable kernel and gets a column of its own, alpha = 1.

Sums of spikes are exact (:func:`dyadic`): torch, ONNX Runtime and any batch give the same currents, bit for bit.
``exact_products.py`` does the same for inputs that are real numbers.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hetsyn_model import native
from hetsyn_model.events import Events, event_product, pointer
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import Shapes, State
from hetsyn_model.synapses.exact_products import values_product
from hetsyn_model.synapses.synapse import ExactWeights, SynapsePath

WEIGHT_BITS = 16  # bits of a served weight: half the memory traffic, and no more spikes differ than with 32


class BankError(ModelError):
    """No bank of the allowed size meets the error bound; the message says what was reached."""

    code = "no-bank"


@dataclass(frozen=True)
class Bank:
    """The decays of one layer's bank.

    Attributes:
        decays: alpha a step, fastest first; an integrator (1.0), if any, comes last.
    """

    decays: tuple[float, ...]

    @property
    def size(self) -> int:
        return len(self.decays)

    @property
    def integrator(self) -> bool:
        return self.decays[-1] == 1.0

    def coefficients(self, r: Tensor) -> Tensor:
        """Compute the coefficients c_k(r) of decays ``r`` in [0, 1], float64 [*r.shape, K]; differentiable in r."""
        leaky = [alpha for alpha in self.decays if alpha < 1.0]
        wide = r.to(torch.float64)
        c = _compiled(wide, leaky) if leaky and native.runs(wide) else _leaky(wide, leaky)
        if not self.integrator:
            return c
        at_one = (r >= 1.0).unsqueeze(-1)
        # the exact term's value with the fit's gradient, so that r = 1 can leave 1 in training
        c = torch.where(at_one, c - c.detach(), c)
        return torch.cat([c, at_one.to(torch.float64)], dim=-1)


def _leaky(wide: Tensor, leaky: Sequence[float]) -> Tensor:
    """Compute the coefficients [*shape, K] of the decays below 1, in plain torch."""
    factors = [(wide - alpha) / (1.0 - wide * alpha) for alpha in leaky]
    # products of all factors but one, from both ends: dividing B by that factor fails if r is on the grid
    before, after = [torch.ones_like(wide)], [torch.ones_like(wide)]
    for factor in factors[:-1]:
        before.append(before[-1] * factor)
    for factor in reversed(factors[1:]):
        after.insert(0, after[0] * factor)
    gamma = _gamma(leaky)
    columns = [gamma[k] * before[k] * after[k] / (1.0 - wide * leaky[k]) for k in range(len(leaky))]
    return torch.stack(columns, -1) if columns else wide.new_zeros(*wide.shape, 0)


class _Coefficients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, leaky: Sequence[float]) -> Tensor:
        r = wide.contiguous()
        decays, gamma = (torch.tensor(values, dtype=torch.float64) for values in (leaky, _gamma(leaky)))
        c, slope = (r.new_empty(len(leaky), *r.shape) for _ in range(2))
        native.required().function("coefficients", r)(
            *map(pointer, (r, decays, gamma, c, slope)),
            *map(ctypes.c_int64, (r.numel(), len(leaky))),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(slope)
        return c.movedim(0, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return (grad.movedim(-1, 0) * slope).sum(0), None


def _compiled(wide: Tensor, leaky: Sequence[float]) -> Tensor:
    """Compute the same as :func:`_leaky` by the compiled library, with the same bits."""
    found: Tensor = _Coefficients.apply(wide, leaky)
    return found


def _gamma(leaky: Sequence[float]) -> list[float]:
    return [
        (1 - alpha * alpha) * math.prod((1 - alpha * other) / (alpha - other) for other in leaky if other != alpha)
        for alpha in leaky
    ]


@dataclass(frozen=True)
class BankWeights:
    """One layer's synapses through its bank. Columns are k-major: column ``k * neurons + j``.

    Attributes:
        weight_in: [i, K * neurons], input weights in the basis of the bank.
        weight_rec: [neurons, K * neurons], recurrent weights; None without recurrence.
        bias: [K * neurons], constant drive a step; None without.
        decays: alpha a step, [K].
        grid: [K * neurons], a power of two; a column's weights and bias are multiples of it.
        value_channels: channels of an input of real numbers (``exact_products.py``); 0 for spikes.
    """

    weight_in: Tensor
    weight_rec: Tensor | None
    bias: Tensor | None
    decays: Tensor
    grid: Tensor
    value_channels: int = 0

    @property
    def neurons(self) -> int:
        return self.weight_in.shape[1] // self.decays.shape[0]

    @property
    def is_recurrent(self) -> bool:
        return self.weight_rec is not None

    @property
    def dtype(self) -> torch.dtype:
        return self.weight_in.dtype

    @property
    def device(self) -> torch.device:
        return self.weight_in.device

    def state(self) -> Shapes:
        """List the currents: U of each decay and neuron."""
        return {"bank_current": (self.decays.shape[0], self.neurons)}

    def step(self, state: State, entered: Tensor, own: Tensor | None) -> tuple[State, Tensor]:
        """Run one step of the layer's currents. Returns them, and their sum [b, j], the first term of equation 5.

        Args:
            entered: [b, K * j], the result of :meth:`enter`.
            own: [b, j], the layer's own spikes that arrive in this step; None without recurrence.
        """
        if self.weight_rec is not None and own is not None:
            entered = entered + own @ self.weight_rec
        # so an export derives the shape from weights once, and not from the state in each step
        drive = entered.view(-1, self.decays.shape[0], self.neurons)
        current = self.decays.unsqueeze(-1) * state["bank_current"] + drive
        return {"bank_current": current}, sum_bank(current)

    def enter(self, x: Tensor | Events) -> Tensor:
        """Compute the drive of input and bias for :meth:`step`, in one step, [b, K * j], or in all, [b, t, K * j].

        Sums of spikes are exact in any order. For values this order, the recurrent part last, is part of the result.
        """
        if self.value_channels:
            values = x.dense(self.dtype) if isinstance(x, Events) else x
            drive = values_product(values, self.weight_in, self.value_channels)
        elif isinstance(x, Tensor) and x.dim() == 2:
            drive = x @ self.weight_in
        else:
            drive = event_product(x, self.weight_in)
        return drive if self.bias is None else drive + self.bias


def sum_bank(current: Tensor) -> Tensor:
    """Sum [b, K, j] over the decays to [b, j], in the order of every implementation."""
    total = current[:, 0]
    for k in range(1, current.shape[1]):
        total = total + current[:, k]
    return total


def compile_bank(bank: Bank, exact: ExactWeights, *, takes_values: bool = False) -> BankWeights:
    """Express a layer's synapses in the bank's basis, differentiable in weights, decays and biases."""
    paths = [exact.input] if exact.recurrent is None else [exact.input, exact.recurrent]
    # input rows last: autograd adds up the gradients of a shared decay in the reverse order of these operations, and
    # another order rounds differently
    recurrent = None if exact.recurrent is None else _weight_rows(bank, exact.recurrent)
    drives = [_bias_row(bank, path, path.bias) for path in paths if path.bias is not None]
    rows = {"input": _weight_rows(bank, exact.input)}
    if recurrent is not None:
        rows["recurrent"] = recurrent
    if drives:
        rows["bias"] = drives[0] if len(drives) == 1 else drives[0] + drives[1]
    rounded, grid = dyadic(rows)
    return BankWeights(
        rounded["input"],
        rounded.get("recurrent"),
        rounded["bias"].squeeze(0) if "bias" in rounded else None,
        torch.tensor(bank.decays, dtype=exact.dtype, device=exact.device),
        grid,
        exact.input.weight.shape[1] if takes_values else 0,
    )


def _weight_rows(bank: Bank, path: SynapsePath) -> Tensor:
    """Compute w_ji * c_k(r_ji), [i, K * j]."""
    c = bank.coefficients(path.decay).to(path.weight.dtype)  # [j | 1, i | 1, K]
    return (path.weight.unsqueeze(-1) * c).permute(1, 2, 0).reshape(path.weight.shape[1], -1)


def _bias_row(bank: Bank, path: SynapsePath, bias: Tensor) -> Tensor:
    """Sum the constant drives of a neuron's synapses, [1, K * j]."""
    c = bank.coefficients(path.decay).to(bias.dtype)
    return (bias.unsqueeze(-1) * c).sum(1).T.reshape(1, -1)


def dyadic(rows: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Round rows [inputs, columns] so that every sum down a column, over all of them, is exact, and 16 bits hold each.

    With p mantissa bits and S the largest possible magnitude of a column's sum over all tensors, the column is
    rounded to multiples of ``2^(ceil(log2 S) + 1 - p)``, or of the smallest power of two at which its largest weight
    is within WEIGHT_BITS bits, whichever is coarser. float64, in which the mathematics is checked, keeps its
    mantissa. Gradients pass through unchanged.

    Returns:
        The rounded rows by name, and the grid [columns] that they are multiples of.
    """
    with torch.no_grad():
        largest = torch.stack([weight.abs().sum(0) for weight in rows.values()]).sum(0)
        mantissa = 1 - round(math.log2(torch.finfo(largest.dtype).eps))
        # one bit to spare: rounding can carry a sum over the next power of two
        grid = _power_of_two(largest) * 2.0 ** (1 - mantissa)
        if largest.dtype != torch.float64:
            peak = torch.stack([weight.abs().amax(0) for weight in rows.values()]).amax(0)
            grid = torch.maximum(grid, _power_of_two(peak / (2 ** (WEIGHT_BITS - 1) - 1)))
    rounded = {name: weight + (torch.round(weight / grid) * grid - weight).detach() for name, weight in rows.items()}
    return rounded, grid


def _power_of_two(values: Tensor) -> Tensor:
    """Round each value up to a power of two."""
    return torch.exp2(torch.ceil(torch.log2(values.clamp_min(1e-30))))
