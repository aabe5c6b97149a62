"""Fits a bank's decays to a layer's: the smallest worst kernel error, or the smallest bank within a bound.

With h = atanh(r), the relative L2 error of a kernel is ``prod_k |tanh(h - h_k)|`` (``bank.py``). With x = exp(2 h) a
factor is ``(x - x_k) / (x + x_k)``, as in Zolotarev's problem and in ADI iterations, so the best grid is where the
K + 1 largest errors, one on either side of each grid point, are equal (de la Vallee Poussin). Remez' exchange finds it,
for any set of decays, in a few milliseconds.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.spec import ERROR_BOUND
from hetsyn_model.synapses.bank import Bank, BankError

BINS = 500  # intervals of a layer's decays; the grid is fitted to their ends
LARGEST_BANK = 32  # enough for ERROR_BOUND of any float32 decays, from 0 to the last one below 1
RESOLVED = 1e-8  # a kernel error below which more decays only crowd the grid
NEAR_THE_BEST = 1.01  # the search ends at this ratio of the worst error to the least possible one
MAX_EXCHANGES, MAX_NEWTON_STEPS = 20, 30  # usually a handful of each
LEVEL = 1e-3  # log errors that differ by less count as equal
TINY = 1e-300

Numbers = NDArray[np.float64]


def kernel_error(bank: Bank, r: Tensor) -> float:
    """Compute the relative L2 error of the worst kernel in the bank's basis, of decays ``r`` in [0, 1], any shape."""
    decays = r.detach().cpu().double().numpy().ravel()
    decays = decays[decays < 1.0] if bank.integrator else np.minimum(decays, 1 - 1e-15)
    if not decays.size:
        return 0.0
    leaky = [alpha for alpha in bank.decays if alpha < 1.0]
    return float(_error(leaky, decays).max())


def _error(leaky: list[float] | Numbers, decays: Numbers) -> Numbers:
    """Compute the relative error at each decay: a Blaschke product with factors accurate to the last digits."""
    product = np.ones_like(decays)
    for alpha in leaky:
        product *= (decays - alpha) / (1.0 - decays * alpha)
    return np.asarray(np.abs(product))


def evenly_apart(decay_range: tuple[float, float]) -> Tensor:
    """Make decays that represent a whole range within [0, 1], float64 [BINS or one more], evenly spaced in atanh(r).

    If its end is 1, the last decays are the largest float32 below 1, and 1 itself, which clamped decays have.
    """
    low, high = (math.atanh(min(end, 1 - 2.0**-24)) for end in decay_range)
    leaky = torch.tanh(torch.linspace(low, high, BINS, dtype=torch.float64))
    return torch.cat([leaky, leaky.new_ones(1)]) if decay_range[1] >= 1.0 else leaky


def fit_bank(r: Tensor, *, size: int | None = None, error_bound: float = ERROR_BOUND) -> Bank:
    """Fit a bank to a layer's own decays.

    Args:
        r: every decay of the layer, any shape, each in [0, 1].
        size: number of decays K (fewer if fewer are exact). None: the smallest that meets the bound.
        error_bound: relative L2 error of the worst kernel.

    Raises:
        BankError: there are no decays, the size is too small, or LARGEST_BANK decays do not meet the bound.
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
    judged = _thinned(leaky)
    fit = functools.cache(lambda count: _fit_leaky(leaky, judged, count))
    if size is None:
        count = _smallest(fit, leaky, max(error_bound, RESOLVED))
    else:
        count = min(size - integrator, leaky.size)
        if fit(count)[1] <= RESOLVED:  # fewer decays do as well
            count = _smallest(fit, leaky, RESOLVED, count)
    return Bank((*fit(count)[0], *((1.0,) if integrator else ())))


def _smallest(fit: Any, leaky: Numbers, enough: float, known: int | None = None) -> int:
    """Find the smallest number of decays, at most LARGEST_BANK, with an error within ``enough``; ``known`` have one."""
    count = known or min(_enough_for_an_interval(leaky, enough), leaky.size, LARGEST_BANK)
    while fit(count)[1] > enough:
        if count == min(LARGEST_BANK, leaky.size):
            raise BankError(
                f"{count} decays leave a kernel error of {fit(count)[1]:.2g}, above the bound {enough:.2g}: "
                "raise the bound, give the size, or use the exact form"
            )
        count += 1
    if count == 1 or fit(count - 1)[1] > enough:  # usual if the decays fill their interval
        return count
    low, high = 0, count - 1  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fit(middle)[1] <= enough else (middle, high)
    return high


def _enough_for_an_interval(leaky: Numbers, enough: float) -> int:
    """Estimate the decays for a filled interval; its error is 2 exp(-pi^2 K / (2 ln(4 b / a)))."""
    ratio = 2.0 * float(np.arctanh(leaky[-1]) - np.arctanh(leaky[0]))  # ln(b / a)
    return max(1, math.ceil(2.0 * (ratio + math.log(4.0)) * math.log(2.0 / enough) / math.pi**2))


def _fit_leaky(r: Numbers, judged: Numbers, count: int) -> tuple[tuple[float, ...], float]:
    """Fit ``count`` decays to the judged ones, and return them with their worst error at ``r``."""
    if count >= r.size:
        return tuple(r.tolist()), 0.0
    alpha = np.tanh(best_grid(judged, count))
    return tuple(alpha.tolist()), float(_error(alpha, r).max())


def _thinned(r: Numbers) -> Numbers:
    """Keep the smallest and the largest decay of each of BINS equal intervals of atanh(r)."""
    decays = np.arctanh(r)
    decays = decays[np.unique(np.floor(decays / RESOLVED), return_index=True)[1]]
    if decays.size <= 2 * BINS:
        return decays
    bins = np.floor((decays - decays[0]) * (BINS / (decays[-1] - decays[0])))
    edge = np.flatnonzero(np.diff(bins)) + 1
    return np.asarray(decays[np.unique(np.concatenate([[0], edge - 1, edge, [decays.size - 1]]))])


def best_grid(decays: Numbers, count: int) -> Numbers:
    """Find the grid [count] with the smallest worst error at these decays, by Remez' exchange.

    Both are in atanh, distinct and ascending; the grid is smaller if fewer points are exact. Each grid point lies
    between two of ``count + 1`` references. Newton's method moves the grid until the errors at the references are
    equal; then the worst decay between two grid points becomes their reference. The smallest error at references is a
    lower bound for every grid, which ends the search.
    """
    if count >= decays.size:
        return decays
    references = _spread_out(decays, count + 1)
    grid = (references[:-1] + references[1:]) / 2
    best, least = grid, np.inf
    for _ in range(MAX_EXCHANGES):
        grid = _levelled(grid, references)
        error = np.abs(np.tanh(decays[:, None] - grid)).prod(1)
        worst = float(error.max())
        if worst < least:
            best, least = grid, worst
        parts = np.split(np.arange(decays.size), np.searchsorted(decays, grid))
        if not all(part.size for part in parts):
            break
        at = np.array([part[error[part].argmax()] for part in parts])
        if worst <= NEAR_THE_BEST * float(error[at].min()):
            break
        references = decays[at]
    return best


def _spread_out(decays: Numbers, count: int) -> Numbers:
    """Choose Leja points: both ends, then always the decay with the largest error."""
    chosen = [0, decays.size - 1]
    gaps = np.maximum(np.abs(np.tanh(decays[:, None] - decays[chosen])), TINY)
    log_error = np.log(gaps).sum(1)
    for _ in range(count - 2):
        chosen.append(int(log_error.argmax()))
        log_error = log_error + np.log(np.maximum(np.abs(np.tanh(decays - decays[chosen[-1]])), TINY))
    return np.asarray(decays[np.sort(chosen)])


def _levelled(grid: Numbers, references: Numbers) -> Numbers:
    """Move the grid, between its references, until its log errors at them are equal."""
    for _ in range(MAX_NEWTON_STEPS):
        gap = references[:, None] - grid
        if not gap.all():  # in a crowd a grid point reaches a reference, and the error there cannot rise
            break
        log_error = np.log(np.maximum(np.abs(np.tanh(gap)), TINY)).sum(1)
        excess = log_error - log_error.mean()
        slope = -2.0 / np.sinh(np.clip(2.0 * gap, -600.0, 600.0))
        system = np.concatenate([slope, -np.ones((references.size, 1))], 1)
        try:
            move = np.linalg.solve(system, -excess)[:-1]
        except np.linalg.LinAlgError:
            break
        room = np.where(move > 0, references[1:] - grid, grid - references[:-1])
        part = min(1.0, 0.7 * float((room / np.maximum(np.abs(move), TINY)).min()))
        grid = grid + part * move
        if part == 1.0 and float(np.abs(excess).max()) < LEVEL:
            break
    return grid
