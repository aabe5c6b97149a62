"""The decays of a bank, fitted to a layer's own: the smallest worst kernel error, or the smallest bank within a bound.

With h = atanh(r), the relative L2 error of a kernel is ``prod_k |tanh(h - h_k)|`` (``bank.py``). With x = exp(2 h) a
factor is ``(x - x_k) / (x + x_k)``: the best x_k for a whole interval are known, Zolotarev's points (Wachspress'
parameters of ADI), values of the elliptic function dn. A layer's decays mostly fill their interval, and nothing is to
be done then: by de la Vallee Poussin's argument, no grid of K decays is better than the smallest of the K + 1 local
maxima between the grid points. Where the decays leave gaps, a soft maximum of the errors, which hardens, is minimised.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ellipj, ellipkm1
from threadpoolctl import ThreadpoolController
from torch import Tensor

from hetsyn_model.bank import Bank, BankError
from hetsyn_model.spec import ERROR_BOUND

KERNEL_SAMPLES = 400  # decays, spread over a layer's own, that the grid is fitted to
LARGEST_BANK = 32  # enough for ERROR_BOUND of any float32 decays, from 0 to the last one below 1
RESOLVED = 1e-8  # a kernel error below which more decays only crowd the grid
NEAR_THE_BEST = 1.02  # a worst error, over the least that is possible, that is not worth an optimisation

Numbers = NDArray[np.float64]


def kernel_error(bank: Bank, r: Tensor) -> float:
    """Relative L2 error of the worst kernel in the bank's basis.

    Args:
        bank: the shared decays.
        r: decays of the kernels, any shape, each in [0, 1].
    """
    decays = r.detach().cpu().double().numpy().ravel()
    decays = decays[decays < 1.0] if bank.integrator else np.minimum(decays, 1 - 1e-15)
    if not decays.size:
        return 0.0
    leaky = [alpha for alpha in bank.decays if alpha < 1.0]
    return float(_error(leaky, decays).max())


def _error(leaky: list[float] | Numbers, decays: Numbers) -> Numbers:
    """Relative error at each decay: a Blaschke product, whose factors are accurate to the last digits."""
    product = np.ones_like(decays)
    for alpha in leaky:
        product *= (decays - alpha) / (1.0 - decays * alpha)
    return np.asarray(np.abs(product))


def fit_bank(r: Tensor, *, size: int | None = None, error_bound: float = ERROR_BOUND) -> Bank:
    """Fit a bank to a layer's own decays.

    Args:
        r: every decay of the layer, any shape, each in [0, 1].
        size: number of decays K (fewer where fewer are exact). None: the smallest that keeps every kernel within
            the bound.
        error_bound: relative L2 error of the worst kernel.

    Returns:
        The bank.

    Raises:
        BankError: the size holds nothing, or LARGEST_BANK decays do not meet the bound.
    """
    if size is not None and size < 1:
        raise BankError(f"a bank of {size} decays is empty: give 1 or more")
    if not r.numel():
        raise BankError("there are no decays to fit a bank to")
    known = r if r.dtype in (torch.float32, torch.float64) else r.float()  # NumPy has no bfloat16
    distinct = np.unique(known.detach().cpu().numpy()).astype(np.float64)
    integrator = bool(distinct[-1] >= 1.0)
    leaky = distinct[distinct < 1.0]
    if not leaky.size:
        return Bank((1.0,))
    if size is not None and size < 1 + integrator:
        raise BankError("a bank of 1 decay cannot represent both r = 1 and other decays: give 2 or more")
    fit = functools.cache(functools.partial(_fit_leaky, leaky))
    if size is None:
        count = _smallest(fit, leaky, max(error_bound, RESOLVED))
    else:
        count = min(size - integrator, leaky.size)
        if fit(count)[1] <= RESOLVED:  # fewer do as well
            count = _smallest(fit, leaky, RESOLVED, count)
    return Bank((*fit(count)[0], *((1.0,) if integrator else ())))


def _smallest(fit: Any, leaky: Numbers, enough: float, known: int | None = None) -> int:
    """The smallest number of decays whose error is small enough; ``known`` is one.

    Raises:
        BankError: there is none up to LARGEST_BANK.
    """
    count = known or min(_enough_for_an_interval(leaky, enough), leaky.size, LARGEST_BANK)
    while fit(count)[1] > enough:
        if count == min(LARGEST_BANK, leaky.size):
            raise BankError(
                f"{count} decays leave a kernel error of {fit(count)[1]:.2g}, above the bound {enough:.2g}: "
                "raise the bound, give the size, or use the exact form"
            )
        count += 1
    if count == 1 or fit(count - 1)[1] > enough:  # as where the decays fill their interval
        return count
    low, high = 0, count - 1  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fit(middle)[1] <= enough else (middle, high)
    return high


def _enough_for_an_interval(leaky: Numbers, enough: float) -> int:
    """About as many decays as bring a filled interval's error down: it is 2 exp(-pi^2 K / (2 ln(4 b / a)))."""
    ratio = 2.0 * float(np.arctanh(leaky[-1]) - np.arctanh(leaky[0]))  # ln(b / a)
    return max(1, math.ceil(2.0 * (ratio + math.log(4.0)) * math.log(2.0 / enough) / math.pi**2))


def _fit_leaky(r: Numbers, count: int) -> tuple[tuple[float, ...], float]:
    """The grid of so many decays, fastest first, and its worst error at the decays r, which are sorted."""
    if count >= r.size:
        return tuple(r.tolist()), 0.0
    spread = r[np.linspace(0, r.size - 1, min(r.size, KERNEL_SAMPLES)).round().astype(int)]
    between = np.tanh(np.linspace(np.arctanh(r[0]), np.arctanh(r[-1]), 64))  # gaps in r do not hide the ends
    near = r[np.clip(np.searchsorted(r, between), 0, r.size - 1)]
    decays = np.arctanh(np.unique(np.concatenate([spread, near])))
    grid = zolotarev_points(float(decays[0]), float(decays[-1]), count)
    worst, least = _extremes(grid, decays)
    grids = [grid] if worst <= NEAR_THE_BEST * least else [grid, _optimised(grid, decays)]
    found = [np.sort(np.tanh(each)) for each in grids]
    alpha, error = min(((each, float(_error(each, r).max())) for each in found), key=lambda pair: pair[1])
    return tuple(alpha.tolist()), error


def zolotarev_points(low: float, high: float, count: int) -> Numbers:
    """The h_k whose worst error over [low, high], in atanh, is the smallest: ``x_k = b dn((2 k - 1) K / (2 count))``.

    Args:
        low: atanh of the fastest decay.
        high: atanh of the slowest.
        count: number of points.

    Returns:
        float64 [count], ascending.
    """
    complement = math.exp(-4.0 * (high - low))  # 1 - m of the elliptic functions
    half = (count + 1) // 2
    argument = (2 * np.arange(half) + 1) * ellipkm1(complement) / (2 * count)
    # the points lie symmetric about the middle: the slower half alone is computed, where dn keeps its digits
    offset = (high - low) / 2 + np.log(ellipj(argument, 1.0 - complement)[2]) / 2
    if count % 2:
        offset[-1] = 0.0
    return np.asarray((low + high) / 2 + np.concatenate([-offset, offset[::-1][count % 2 :]]))


def _extremes(grid: Numbers, decays: Numbers) -> tuple[float, float]:
    """The worst error, and the smallest of the largest errors between grid points; both arguments sorted, in atanh."""
    error = _error(np.tanh(grid), np.tanh(decays))
    edges = np.searchsorted(decays, grid)
    parts = np.split(error, edges)
    return float(error.max()), min(float(part.max(initial=0.0)) for part in parts)


def _log_error(grid: Numbers, decays: Numbers) -> tuple[Numbers, Numbers]:
    """Log relative error at each decay, [decays], and its gradient [decays, grid]; both in atanh."""
    gap = decays[:, None] - grid
    gap = np.clip(np.where(np.abs(gap) < 1e-9, 1e-9, gap), -300.0, 300.0)
    return np.log(np.abs(np.tanh(gap))).sum(1), -2.0 / np.sinh(2.0 * gap)


def _optimised(grid: Numbers, decays: Numbers) -> Numbers:
    """A grid of as many points whose worst error is less, for decays that leave gaps."""
    low, high, count = float(decays[0]), float(decays[-1]), len(grid)
    grid = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * (2 * np.arange(count) + 1) / (2 * count))
    for hardness in (4.0, 16.0, 64.0):

        def cost(grid: Numbers, hardness: float = hardness) -> tuple[float, Numbers]:
            error, gradient = _log_error(grid, decays)
            shifted = np.exp(hardness * (error - error.max()))
            total = float(shifted.sum())
            return error.max() + math.log(total) / hardness, (shifted / total) @ gradient

        # a BLAS spends far more on waking its threads for these few equations than on solving them
        with _blas_libraries().limit(limits=1, user_api="blas"):
            grid = minimize(cost, grid, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return np.asarray(grid)


@functools.cache
def _blas_libraries() -> ThreadpoolController:
    """The libraries that this process has loaded. The search takes a millisecond."""
    return ThreadpoolController()
