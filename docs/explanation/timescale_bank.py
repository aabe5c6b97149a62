"""The timescale bank in NumPy: K decays that a layer shares in place of one a synapse. `python timescale_bank.py`"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def best_decays(fastest_steps: float, slowest_steps: float, size: int) -> Array:
    """K decays with the least worst error over all time constants of a range: Zolotarev's points."""
    low, high = np.tanh(0.5 / slowest_steps), np.tanh(0.5 / fastest_steps)  # x = (1 - r) / (1 + r)
    a, b, c = [1.0], [low / high], [np.sqrt(1 - (low / high) ** 2)]  # the arithmetic-geometric mean
    while c[-1] > 1e-15:
        a, b, c = [*a, (a[-1] + b[-1]) / 2], [*b, np.sqrt(a[-1] * b[-1])], [*c, (a[-1] - b[-1]) / 2]
    phase = 2.0 ** (len(a) - 1) * np.pi / 2 * (2 * np.arange(1, size + 1) - 1) / (2 * size)
    for mean, half in zip(a[:0:-1], c[:0:-1], strict=True):
        before, phase = phase, (phase + np.arcsin(np.clip(half / mean * np.sin(phase), -1, 1))) / 2
    x = high * np.cos(phase) / np.cos(before - phase)  # dn, Jacobi's elliptic function
    decays: Array = (1 - x) / (1 + x)
    return decays


def blaschke(r: Array, decays: Array) -> Array:
    """Compute B(r). Its magnitude is the relative L2 error of the kernel r^n in the bank."""
    product: Array = np.prod((r[:, None] - decays) / (1 - r[:, None] * decays), axis=1)
    return product


def coefficients(r: Array, decays: Array) -> Array:
    """Compute the least-squares coefficients of each kernel, [synapse, k], without solving anything."""
    apart = decays[:, None] - decays + np.eye(len(decays))
    factors = (1 - decays[:, None] * decays) / apart
    np.fill_diagonal(factors, 1 - decays**2)
    r = np.where(np.isin(r, decays), r + 1e-9, r)  # the factor of that decay cancels
    product: Array = blaschke(r, decays)[:, None] * factors.prod(axis=1)
    return product / (r[:, None] - decays)


def run(spikes: Array, decays: Array, into: Array) -> Array:
    """Compute a neuron's summed current at each step. Its state is a current a decay; ``into`` is [synapse, decay]."""
    current, sums = np.zeros(len(decays)), []
    for x in spikes:
        current = decays * current + x @ into
        sums.append(current.sum())
    return np.array(sums)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    r = np.exp(-1 / np.exp(rng.uniform(np.log(3), np.log(200), 700)))
    spikes, weights = (rng.random((1000, 700)) < 0.01).astype(float), rng.normal(size=700) / 26
    exact = run(spikes, r, np.diag(weights))  # a current a synapse
    for size in (4, 6, 8, 12):
        decays = best_decays(3, 200, size)
        off = np.abs(run(spikes, decays, weights[:, None] * coefficients(r, decays)) - exact).max()
        print(f"{size} for 700: kernels off by {np.abs(blaschke(r, decays)).max():.1e}, sums by {off:.1e}")
