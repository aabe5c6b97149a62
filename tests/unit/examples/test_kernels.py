"""Kernels that are not exponential: their sums over decays, coefficients, banks and gradients."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from examples.kernels.kernel_fit import fit_kernels, kernels_error, step_error
from examples.kernels.kernels import Fractional, Mixture, Pair, coefficients, mixture
from hetsyn_model.synapses.bank import Bank, BankError

GRID = Bank(tuple(math.exp(-1 / tau) for tau in (0.4, 1, 2.5, 6, 15, 40, 100, 300, 1000, 4000)))
FOREVER = 10**6  # a window that no test reaches


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def fractional(*orders: float, window_steps: int = FOREVER) -> Fractional:
    return Fractional(tensor(*orders), "first", window_steps)


def gruenwald_letnikov(order: float, decay: float, steps: int) -> NDArray[np.float64]:
    """Impulse response of ``v(t) (1 + rate) = rate u(t) - sum_(j>0) b_j v(t-j)``, whose sum is 1, step by step.

    Args:
        decay: r, with ``rate = (1 - r) / r``.
    """
    rate = (1.0 - decay) / decay
    b = np.cumprod(np.concatenate([[1.0], 1.0 - (1.0 + order) / np.arange(1, steps)]))
    v = np.zeros(steps)
    v[0] = rate / (1.0 + rate)
    for t in range(1, steps):
        v[t] = -np.dot(b[1 : t + 1], v[t - 1 :: -1]) / (1.0 + rate)
    return v


@pytest.mark.parametrize("order", [0.1, 0.3, 0.5, 0.8, 0.97, 1.0])
@pytest.mark.parametrize("decay", [0.5, 0.95])
def test_a_fractional_kernel_is_the_recursions(order: float, decay: float) -> None:
    expected = gruenwald_letnikov(order, decay, 400)
    found = mixture(tensor(decay), Fractional(tensor(order), "sum", FOREVER)).response(torch.arange(400))[0].numpy()
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)
    first = mixture(tensor(decay), fractional(order)).response(torch.arange(400))[0].numpy()
    np.testing.assert_allclose(first, expected / expected[0], atol=1e-6)
    assert first[0] == pytest.approx(1.0, abs=1e-6)


def test_the_coefficients_are_those_of_least_squares() -> None:
    """Against numeric least squares of what the sum over decays says, over all steps of any weight."""
    r, shape = tensor(0.9, 0.6, 0.8), fractional(0.5, 0.8, 0.3, window_steps=50)
    pair = Pair(tensor(0.5, 0.59, 0.0), tensor(1.0, 0.9, 2.0))
    n = torch.arange(40_000)
    few = Bank(GRID.decays[1:8:2])
    basis = (tensor(*few.decays) ** n.double().unsqueeze(-1)).numpy()
    for kind in (shape, pair):
        of = mixture(r, kind)
        for k in range(3):
            target = Mixture(of.decays[k], of.masses[k]).response(n).numpy()
            expected = np.linalg.lstsq(basis, target, rcond=None)[0]
            np.testing.assert_allclose(coefficients(few, r, kind)[k].numpy(), expected, atol=1e-6)


@given(
    slow=st.floats(0.05, 0.99),
    fast=st.floats(0.05, 0.99),
    factor=st.floats(0.0, 2.0),
    order=st.floats(0.15, 0.97),
    r=st.floats(0.3, 0.97),
)
@settings(max_examples=15, deadline=None)
def test_coefficients_have_the_numeric_gradients(
    slow: float, fast: float, factor: float, order: float, r: float
) -> None:
    def of_pair(*values: Tensor) -> Tensor:
        return coefficients(GRID, values[0], Pair(values[1], values[2]))

    def of_order(*values: Tensor) -> Tensor:
        return coefficients(GRID, values[0], Fractional(values[1], "first", 100))

    pair = [tensor(value).requires_grad_() for value in (slow, fast, factor)]
    assert torch.autograd.gradcheck(of_pair, pair, eps=1e-7, atol=1e-4, rtol=1e-4)
    one = [tensor(value).requires_grad_() for value in (r, order)]
    assert torch.autograd.gradcheck(of_order, one, eps=1e-6, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", ["pair", "fractional"])
def test_the_error_of_a_bank_is_that_of_its_responses(shape: str) -> None:
    """The closed form of the error against sums over steps."""
    r = tensor(0.9, 0.7, 0.8)
    window = 60
    kind = (
        Pair(tensor(0.8, 0.2, 0.79), tensor(1.0, 0.3, 1.0))
        if shape == "pair"
        else fractional(0.4, 0.7, 1.0, window_steps=window)
    )
    bank = Bank(GRID.decays[1:7])
    n = torch.arange(window if shape == "fractional" else 20_000)
    basis = tensor(*bank.decays) ** n.double().unsqueeze(-1)
    held = coefficients(bank, r, kind) @ basis.T
    exact = mixture(r, kind if isinstance(kind, Pair) else fractional(0.4, 0.7, 1.0)).response(n)
    expected = ((held - exact).norm(dim=-1) / exact.norm(dim=-1)).max()
    assert kernels_error(bank, r, kind) == pytest.approx(float(expected), rel=1e-4)


def test_a_fractional_bank_of_ten_holds_the_window_and_levels_off_beyond() -> None:
    cases = list(itertools.product((0.3, 0.5, 0.7, 0.9), (0.05, 0.2, 0.5)))
    r = tensor(*(1 / (1 + rate) for _, rate in cases))
    shape = fractional(*(order for order, _ in cases), window_steps=1000)
    bank = fit_kernels(r, shape, size=10)
    assert bank.size == 10
    assert kernels_error(bank, r, shape) < 2e-3
    assert step_error(bank, r, shape, 1000) < 0.02
    # a constant input for 10^5 steps: bounded, and below what the kernel reaches
    at = torch.tensor([10**5])
    c = coefficients(bank, r, shape)
    alpha = tensor(*bank.decays)
    reached = (c * (1 - alpha**at) / (1 - alpha)).sum(-1) * (1 - r)
    of = mixture(r, replace(shape, window_steps=FOREVER))
    exact = (of.masses * (1 - of.decays**at) / (1 - of.decays)).sum(-1) * (1 - r)
    assert bool((reached < exact + 3e-3).all())
    assert bool((reached > 0.3).all())
    assert step_error(bank, r, shape, 10**5) == pytest.approx(float((1 - reached / exact).max()), rel=0.05)
    # near order 1 nothing is lost
    last = torch.tensor([order >= 0.9 and rate >= 0.2 for order, rate in cases])
    assert float((1 - reached / exact)[last].max()) < 0.02


def test_what_no_bank_can_be() -> None:
    with pytest.raises(BankError, match="a bank of 0 decays is empty"):
        fit_kernels(tensor(0.9), fractional(0.5), size=0)
    with pytest.raises(BankError, match="raise the bound, or give the size"):
        fit_kernels(tensor(0.9), fractional(0.5, window_steps=10), error_bound=1e-9)
