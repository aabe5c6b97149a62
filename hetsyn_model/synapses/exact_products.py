"""The drive w_ji x_i(t) of a bank for real numbers, exact in any order of the sum.

A bank's weights are whole numbers of 16 bits on a grid (``bank.py``), but a real number has 24 bits at any magnitude.
So the numbers of each step and stream are first rounded to one grid, which depends on the largest of them alone. In
float64, with L = ceil(log2 channels):

    s      = 2^(17 + L) * max_i |x_i|
    x_i'   = (s + x_i) - s
    drive  = float32(sum_i w_i x_i')

Both operations round to multiples of half the spacing of float64 at s. Every product and every partial sum then has at
most 53 bits, and float64 holds it exactly. The error is at most 2^(L - 36) of the largest number, and one channel is
not rounded at all, since x has 24 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SPARE_BITS = 17  # 53 of float64, less 16 of a weight and 20 of the alignment
ROWS = 1 << 14  # rows of a product at a time: float64 takes twice the memory of the result


def alignment(channels: int) -> float:
    """Return the factor from a step's largest magnitude to s."""
    return 2.0 ** (SPARE_BITS + (channels - 1).bit_length())


def aligned(values: Tensor, channels: int) -> Tensor:
    """Compute x' of values [..., channels], float64."""
    wide = values.to(torch.float64)
    s = wide.abs().amax(-1, keepdim=True) * alignment(channels)
    return (s + wide) - s


class _ValuesProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, channels: int) -> Tensor:
        ctx.save_for_backward(values, weight)
        rows, wide = values.reshape(-1, values.shape[-1]), weight.to(torch.float64)
        out = torch.empty(rows.shape[0], weight.shape[1], dtype=weight.dtype, device=weight.device)
        for part, into in zip(rows.split(ROWS), out.split(ROWS), strict=True):
            into.copy_(aligned(part, channels) @ wide)
        return out.view(*values.shape[:-1], weight.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:
        values, weight = ctx.saved_tensors
        rows, grad = values.reshape(-1, values.shape[-1]), grads[0].reshape(-1, weight.shape[1])
        return grads[0] @ weight.T if ctx.needs_input_grad[0] else None, rows.T @ grad, None


def values_product(values: Tensor, weight: Tensor, channels: int) -> Tensor:
    """Compute the drive of a layer, [..., columns], from values [b, channels] of one step, or [b, t, channels].

    A float64 network, which checks the mathematics, does not round the numbers. Gradients are those of
    ``values @ weight``. ``channels`` is a Python number, which a trace to TorchScript keeps as a constant.
    """
    values = values.to(weight.dtype)
    if weight.dtype == torch.float64:
        return values @ weight
    if values.dim() == 2:  # one step, which exports
        return (aligned(values, channels) @ weight.to(torch.float64)).to(weight.dtype)
    drive: Tensor = _ValuesProduct.apply(values, weight, channels)
    return drive
