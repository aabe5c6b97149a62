"""Banks for kernels of any shape, and the error with which a bank holds them.

The residual of r^n in a bank's basis is orthogonal to the basis, and two of them have the inner product
``B(r) B(s) / (1 - r s)``, with the B of ``bank.py``. So the squared error of a kernel ``int r^n dmu(r)`` over all steps
is ``int int B(r) B(s) / (1 - r s) dmu(r) dmu(s)``, relative to the same without B. Of a pair this is exact, and its
norm is the pair's own, however nearly its two currents cancel. A fractional kernel has no end: its error is measured
over its window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from examples.kernels.kernels import Fractional, Mixture, Pair, Shape, coefficients, mixture
from hetsyn_model.spec import ERROR_BOUND
from hetsyn_model.synapses.bank import Bank, BankError
from hetsyn_model.synapses.bank_fit import LARGEST_BANK, fit_bank

# cells along each of order and logit(r), of which four kernels each are fitted to, or judged
FITTED, JUDGED = 6, 16
MOST_JUDGED = 1024  # kernels of a layer that are all judged
HARDEST = 24  # that a quick look finds the worst, and that are judged over their whole window
QUICK_STEPS = 64  # of that look
FIT_NODES = 48  # of a kernel, in the search for a grid
LARGEST_FRACTIONAL = 16  # decays: more come no closer within a window
ITERATIONS = 40  # of L-BFGS
SHARPNESS = 8.0  # of the power mean that stands for the worst error
LEAST_NORM = 1e-12  # squared, relative to r^n: a pair that cancels to the last digits has no error of its own


def kernels_error(bank: Bank, decay: Tensor, shape: Shape) -> float:
    """Compute the relative L2 error of the worst kernel in a bank's basis.

    The error is over all steps; that of a fractional kernel is over its window. Of more than MOST_JUDGED fractional
    kernels, about a hundred are judged: those at the edges of small cells of order and decay. They stand for the
    others, because the error changes little within a cell. ``decay`` is r, [count].
    """
    if isinstance(shape, Pair):
        return _pairs_error(bank, decay, shape)
    decay, shape = _hardest(bank, *_judged(decay, shape))
    of = mixture(decay, Fractional(shape.order, shape.unit, 10**6))
    c = coefficients(bank, decay, shape)
    basis = torch.tensor(bank.decays, dtype=torch.float64).expand_as(c)
    # the difference of both sums is a sum over the decays of both
    difference = Mixture(torch.cat([of.decays, basis], -1), torch.cat([of.masses, -c], -1))
    squared = _windowed(difference, shape.window_steps) / _windowed(of, shape.window_steps)
    return float(squared.max().clamp_min(0.0).sqrt())


def _judged(decay: Tensor, shape: Fractional) -> tuple[Tensor, Fractional]:
    """Choose the kernels to judge by: all of a small layer, else some that stand for them."""
    if decay.numel() > MOST_JUDGED:
        return _representatives(decay, shape, JUDGED)
    r, order = (part.detach().double().flatten().cpu() for part in torch.broadcast_tensors(decay, shape.order))
    return r, Fractional(order, shape.unit, shape.window_steps)


def _hardest(bank: Bank, decay: Tensor, shape: Fractional) -> tuple[Tensor, Fractional]:
    """Choose the kernels with the largest errors at a few steps of the window, [at most HARDEST]."""
    if decay.numel() <= HARDEST:
        return decay, shape
    ends = torch.logspace(0.0, math.log10(shape.window_steps), QUICK_STEPS, dtype=torch.float64).round().unique()
    widths = torch.diff(ends, prepend=torch.zeros(1, dtype=torch.float64))
    at = ends - 1.0
    of = mixture(decay, Fractional(shape.order, shape.unit, 10**6))
    exact = (of.masses.unsqueeze(-1) * of.decays.unsqueeze(-1) ** at).sum(-2)
    held = coefficients(bank, decay, shape) @ torch.tensor(bank.decays, dtype=torch.float64).unsqueeze(-1) ** at
    off = ((held - exact) ** 2 * widths).sum(-1) / (exact**2 * widths).sum(-1)
    index = torch.topk(off, HARDEST).indices
    return decay[index], Fractional(shape.order[index], shape.unit, shape.window_steps)


def _windowed(of: Mixture, steps: int) -> Tensor:
    """Sum the squared kernels over the first steps, [...]."""
    logs = torch.log(of.decays)
    total = logs.unsqueeze(-1) + logs.unsqueeze(-2)
    small = total > -1e-14  # two decays of 1 to the last digit
    gram = torch.where(small, float(steps), torch.expm1(steps * total) / torch.expm1(total.clamp_max(-1e-14)))
    return (of.masses.unsqueeze(-1) * gram * of.masses.unsqueeze(-2)).sum((-1, -2))


def step_error(bank: Bank, decay: Tensor, shape: Shape, steps: int) -> float:
    """Compute the largest relative error of the response to a constant input, at any of the first ``steps`` steps.

    :func:`kernels_error` does not bound it: with a constant input, the tail of a fractional kernel counts, and the bank
    levels off where the kernel creeps on. ``decay`` is r, [count].
    """
    if isinstance(shape, Fractional):
        decay, shape = _judged(decay, shape)
    exact = mixture(decay, shape if not isinstance(shape, Fractional) else Fractional(shape.order, shape.unit, 10**6))
    c = coefficients(bank, decay, shape)
    basis = torch.tensor(bank.decays, dtype=torch.float64).expand_as(c)
    at = torch.unique(torch.logspace(0.0, math.log10(steps), 200, dtype=torch.float64).round())
    sums = [_sums(of, at) for of in (exact, Mixture(basis, c))]
    return float(((sums[1] - sums[0]).abs() / sums[0].abs()).max())


def _sums(of: Mixture, steps: Tensor) -> Tensor:
    """Sum the kernels over these numbers of steps, [..., n]."""
    logs = torch.log(of.decays).unsqueeze(-2).clamp_max(-1e-15)
    grown = torch.expm1(steps.unsqueeze(-1) * logs) / torch.expm1(logs)
    return (of.masses.unsqueeze(-2) * grown).sum(-1)


def _pairs_error(bank: Bank, decay: Tensor, pair: Pair) -> float:
    leaky = [alpha for alpha in bank.decays if alpha < 1.0]
    slow, fast = (r.detach().double().clamp_max(1.0 - 1e-15) for r in (decay, pair.fast))
    g = pair.factor.detach().double()
    off = [torch.ones_like(slow), torch.ones_like(fast)]
    for alpha in leaky:
        off = [product * (r - alpha) / (1.0 - r * alpha) for product, r in zip(off, (slow, fast), strict=True)]
    if bank.integrator:  # which holds a decay of 1
        off = [torch.where(r >= 1.0, 0.0, product) for product, r in zip(off, (decay, pair.fast), strict=True)]
    error = _pair_norm(slow, fast, off[0], g * off[1])
    norm = _pair_norm(slow, fast, torch.ones_like(g), g)
    known = norm > LEAST_NORM / (1.0 - slow * slow)
    return float(torch.where(known, error / norm, 0.0).max().clamp_min(0.0).sqrt())


def _pair_norm(slow: Tensor, fast: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Squared norm of ``a slow^n - b fast^n``, without the loss of digits where the two nearly cancel."""
    mean, half = (a + b) / 2.0, (a - b) / 2.0  # mean (slow^n - fast^n) + half (slow^n + fast^n)
    both, one, other = 1.0 - slow * fast, 1.0 - slow * slow, 1.0 - fast * fast
    apart = (slow - fast) ** 2 * (1.0 + slow * fast) / (one * other * both)
    cross = (slow - fast) * (slow + fast) / (one * other)
    together = 1.0 / one + 2.0 / both + 1.0 / other
    return mean * mean * apart + 2.0 * mean * half * cross + half * half * together


def fit_kernels(decay: Tensor, shape: Shape, *, size: int | None = None, error_bound: float = ERROR_BOUND) -> Bank:
    """Fit a bank to a layer's own kernels.

    Args:
        decay: r, [count].
        shape: what the kernels have beside it.
        size: number of decays (fewer where fewer are exact). None: the smallest that keeps every kernel within the
            bound.
        error_bound: relative L2 error of the worst kernel.

    Raises:
        BankError: the size holds nothing, or LARGEST_BANK decays do not meet the bound.
    """
    if isinstance(shape, Fractional) and bool((shape.order >= 1.0).all()):
        return fit_bank(decay, size=size, error_bound=error_bound)
    if isinstance(shape, Pair):
        used = torch.cat([decay, shape.fast[shape.factor != 0.0]])
        if size is not None:
            return fit_bank(used, size=size)
        # a grid for the decays is one for pairs too, but for pairs that nearly cancel a larger one
        return _smallest(lambda count: fit_bank(used, size=count), decay, shape, error_bound, 4, LARGEST_BANK)
    if size is not None and size < 1:
        raise BankError(f"a bank of {size} decays is empty: give 1 or more")
    few, few_shape = _representatives(decay, shape, FITTED)
    if size is not None:
        return _fractional_bank(few, few_shape, size)
    of_size = lambda count: _fractional_bank(few, few_shape, count)  # noqa: E731
    return _smallest(of_size, decay, shape, error_bound, 7, LARGEST_FRACTIONAL)


def _smallest(fit: Callable[[int], Bank], decay: Tensor, shape: Shape, bound: float, first: int, largest: int) -> Bank:
    """Find the smallest bank within a bound, from about the right size on.

    Raises:
        BankError: there is none up to LARGEST_BANK.
    """
    count, bank = first, fit(first)
    while (error := kernels_error(bank, decay, shape)) > bound:
        if count == largest:
            raise BankError(
                f"{count} decays leave a kernel error of {error:.2g}, above the bound {bound:.2g}: raise the bound, "
                "or give the size"
            )
        count, bank = count + 1, fit(count + 1)
    while count > 1 + bool((decay >= 1.0).any()) and kernels_error(fewer := fit(count - 1), decay, shape) <= bound:
        count, bank = count - 1, fewer
    return bank


def _representatives(decay: Tensor, shape: Fractional, cells: int) -> tuple[Tensor, Fractional]:
    """Choose those of many fractional kernels at the corners of each cell of order and logit(r), [fewer]."""
    r, order = decay.detach().double().flatten().cpu(), shape.order.detach().double().flatten().cpu()
    logit = torch.logit(r)
    cell = sum(
        ((values - values.min()) / (values.max() - values.min()).clamp_min(1e-12) * (cells - 1)).round() * factor
        for values, factor in ((logit, 1.0), (order, float(cells)))
    )
    chosen: set[int] = set()
    for direction in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        ranked = torch.argsort(direction[0] * logit + direction[1] * order * 8.0)
        found = torch.as_tensor(cell)[ranked]
        first = torch.ones_like(found, dtype=torch.bool)
        placed = torch.argsort(found, stable=True)
        first[placed[1:]] = found[placed[1:]] != found[placed[:-1]]
        chosen |= set(ranked[first].tolist())
    index = torch.tensor(sorted(chosen))
    return r[index], Fractional(order[index], shape.unit, shape.window_steps)


def _fractional_bank(decay: Tensor, shape: Fractional, size: int) -> Bank:
    orders, decays = shape.order.tolist(), decay.tolist()
    return _searched(tuple(decays), tuple(orders), shape.window_steps, size)


@lru_cache(maxsize=64)
def _searched(decays: tuple[float, ...], orders: tuple[float, ...], window_steps: int, size: int) -> Bank:
    """Search for the grid with the smallest worst error at these kernels, by L-BFGS on a power mean of the errors."""
    shape = Fractional(torch.tensor(orders, dtype=torch.float64), "first", window_steps)
    of = mixture(torch.tensor(decays, dtype=torch.float64), shape, FIT_NODES)
    slowest = -math.log(4.0 * window_steps)
    gram = 1.0 / (1.0 - of.decays.unsqueeze(-1) * of.decays.unsqueeze(-2))
    norm = torch.einsum("pm,pn,pmn->p", of.masses, of.masses, gram)
    # ln((1 - alpha) / alpha), fastest first; a bank of one sits in the middle
    grid = torch.linspace(2.0, slowest, size + 2, dtype=torch.float64)[1:-1] if size < 3 else None
    grid = torch.linspace(2.0, slowest, size, dtype=torch.float64) if grid is None else grid
    grid.requires_grad_()
    search = torch.optim.LBFGS([grid], max_iter=ITERATIONS, line_search_fn="strong_wolfe", tolerance_change=1e-6)

    def closure() -> float:
        search.zero_grad()
        off = of.masses
        for alpha in torch.sigmoid(-grid):
            off = off * (of.decays - alpha) / (1.0 - of.decays * alpha)
        squared = torch.einsum("pm,pn,pmn->p", off, off, gram).clamp_min(1e-24) / norm
        worst = torch.logsumexp(SHARPNESS * torch.log(squared), 0)
        worst.backward()
        return float(worst.detach())

    with torch.enable_grad():
        search.step(closure)
    alpha = torch.sigmoid(-grid.detach())
    return Bank(tuple(sorted(float(value) for value in alpha)))
