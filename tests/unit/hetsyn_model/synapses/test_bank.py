"""The timescale bank: coefficients, grid, and sums that no order can change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_model import native
from hetsyn_model.synapses.bank import Bank, BankError, _compiled, _leaky, dyadic
from hetsyn_model.synapses.bank_fit import evenly_apart, fit_bank, kernel_error

TAU = torch.linspace(3.0, 200.0, 300, dtype=torch.float64)
R = torch.exp(-1 / TAU)


def direct_error(bank: Bank, r: torch.Tensor, steps: int = 4000) -> float:
    """Relative L2 error of the worst kernel, summed term by term."""
    n = torch.arange(steps, dtype=torch.float64)
    kernels = r.unsqueeze(1) ** n
    fitted = bank.coefficients(r) @ (torch.tensor(bank.decays, dtype=torch.float64).unsqueeze(1) ** n)
    return float(((kernels - fitted).square().sum(1) / kernels.square().sum(1)).sqrt().max())


@pytest.mark.parametrize("size", [2, 4, 8, 12])
def test_kernel_error_is_the_error_of_the_kernels(size: int) -> None:
    bank = fit_bank(R, size=size)
    assert kernel_error(bank, R) == pytest.approx(direct_error(bank, R), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "size", "bound"),
    [
        (5, 20, 4, 2.4e-3),
        (5, 20, 6, 9e-5),
        (5, 20, 8, 4e-6),
        (3, 200, 8, 3.9e-3),
        (3, 200, 12, 2.6e-4),
        (1, 1000, 16, 5.9e-4),
    ],
)
def test_the_grid_is_no_worse_than_first_measured(low: float, high: float, size: int, bound: float) -> None:
    r = torch.exp(-1 / torch.logspace(np.log10(low), np.log10(high), 500, dtype=torch.float64))
    bank = fit_bank(r, size=size)
    assert kernel_error(bank, r) <= bound
    assert float(bank.coefficients(r).abs().sum(-1).max()) < 7


def test_a_bank_of_a_whole_range_is_as_good_anywhere_in_it() -> None:
    whole = (0.0, float(np.exp(-1 / 2000)))
    bank = fit_bank(evenly_apart(whole), size=12)
    anywhere = torch.tanh(torch.linspace(0.0, float(np.arctanh(whole[1])), 10_001, dtype=torch.float64))
    assert kernel_error(bank, anywhere) < 4.5e-3


def test_a_bank_of_a_whole_range_holds_a_decay_of_one() -> None:
    bank = fit_bank(evenly_apart((0.0, 1.0)), size=12)
    assert bank.size == 12
    assert kernel_error(bank, torch.tensor([0.5, 1 - 2.0**-24, 1.0], dtype=torch.float64)) < 0.2


@pytest.mark.parametrize("size", range(2, 17))
def test_a_crowd_of_decays_beside_a_few_others_is_fitted(size: int) -> None:
    crowd = 0.9 + torch.arange(40, dtype=torch.float64) ** 2 * 4e-8
    r = torch.cat([torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64), crowd])
    bank = fit_bank(r, size=size)  # a warning is an error
    assert kernel_error(bank, r) < (1e-8 if bank.size < size or size > 6 else 1.0)


def test_size_is_the_smallest_that_meets_the_bound() -> None:
    bank = fit_bank(R, error_bound=1e-3)
    assert kernel_error(bank, R) <= 1e-3 < kernel_error(fit_bank(R, size=bank.size - 1), R)


def test_one_shared_decay_is_its_own_bank() -> None:
    r = torch.full((1, 1), 0.9)
    bank = fit_bank(r)
    assert bank.size == 1
    assert float(bank.coefficients(r.double()).squeeze()) == pytest.approx(1.0, abs=1e-6)


def test_a_perfect_integrator_has_its_own_column() -> None:
    r = torch.tensor([0.8, 0.9, 1.0], dtype=torch.float64)
    bank = fit_bank(r, size=4)
    assert bank.integrator
    assert bank.coefficients(r)[2].tolist() == [0.0] * (bank.size - 1) + [1.0]
    assert kernel_error(bank, r) < 1e-2


def test_an_integrator_still_has_a_gradient() -> None:
    r = torch.tensor([0.8, 1.0], dtype=torch.float64, requires_grad=True)
    bank = fit_bank(r.detach(), size=3)
    bank.coefficients(r).sum().backward()
    assert r.grad is not None
    assert bool(torch.isfinite(r.grad).all())
    assert float(r.grad[1]) != 0.0


def test_decays_of_zero_are_legal() -> None:
    r = torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64)
    assert kernel_error(fit_bank(r, size=3), r) < 1e-6


@given(st.lists(st.floats(0.0, 0.999), min_size=2, max_size=30, unique=True), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_gradient_is_the_derivative(decays: list[float], size: int) -> None:
    bank = fit_bank(torch.tensor(decays, dtype=torch.float64), size=size)
    r = torch.tensor([d for d in decays if 0.01 < d < 0.99], dtype=torch.float64, requires_grad=True)
    weights = torch.linspace(1, 2, bank.size, dtype=torch.float64)
    if r.numel():
        (bank.coefficients(r) @ weights).sum().backward()
        step = 1e-6
        with torch.no_grad():
            slope = ((bank.coefficients(r + step) - bank.coefficients(r - step)) @ weights) / (2 * step)
        assert r.grad is not None
        scale = 1 + float(slope.abs().max())
        assert float((r.grad - slope).abs().max()) < 2e-3 * scale


def test_an_unreachable_bound_says_what_was_reached() -> None:
    r = 1 - torch.logspace(-9, 0, 500, dtype=torch.float64)
    with pytest.raises(BankError, match="kernel error of"):
        fit_bank(r, error_bound=1e-7)


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_bank_is_refused(size: int) -> None:
    with pytest.raises(BankError, match="is empty"):
        fit_bank(R, size=size)


@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
@settings(max_examples=50, deadline=None)
def test_sums_of_dyadic_rows_do_not_depend_on_their_order(seed: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, 7, generator=generator) * torch.logspace(-3, 2, 7)
    on_grid, grid = dyadic({"input": weight})
    rounded = on_grid["input"]
    order = torch.randperm(rows, generator=generator)
    assert torch.equal(rounded.cumsum(0)[-1], rounded[order].cumsum(0)[-1])
    assert torch.equal(rounded.sum(0), rounded.double().sum(0).float())
    steps = rounded / grid
    assert torch.equal(steps, steps.round())
    assert float(steps.abs().max()) <= 2**15 - 1
    assert bool(((rounded - weight).abs() <= grid / 2).all())
    assert bool((grid <= torch.maximum(weight.abs().sum(0) * 2.0**-22, weight.abs().amax(0) * 2.0**-13)).all())


@pytest.mark.parametrize("exponent", range(2, 13))
def test_a_decay_on_the_grid_is_exact_however_slow(exponent: int) -> None:
    slow = 1 - 10.0**-exponent
    c = Bank((0.5, slow)).coefficients(torch.tensor([0.5, slow], dtype=torch.float64))
    assert torch.allclose(c, torch.eye(2, dtype=torch.float64), atol=1e-12)


def test_what_no_bank_can_hold_is_refused() -> None:
    with pytest.raises(BankError, match="2 or more"):
        fit_bank(torch.tensor([0.5, 0.9, 1.0]), size=1)
    with pytest.raises(BankError, match="no decays"):
        fit_bank(torch.zeros(0))


@pytest.mark.skipif(native.library() is None, reason="the compiled library is not built")
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 0.9999), min_size=1, max_size=12, unique_by=lambda alpha: int(12 * alpha)),
    st.lists(st.floats(0, 1), min_size=1, max_size=19),
)
def test_compiled_coefficients_are_those_of_torch(decays: list[float], more: list[float]) -> None:
    leaky = sorted(decays)
    plain = torch.tensor([*leaky, *more], dtype=torch.float64, requires_grad=True)  # on the grid and beside it
    compiled = plain.detach().clone().requires_grad_()
    a, b = _leaky(plain, leaky), _compiled(compiled, leaky)
    assert torch.equal(a, b)
    weights = torch.cos(torch.arange(a.numel(), dtype=torch.float64)).view(a.shape)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    assert plain.grad is not None
    assert compiled.grad is not None
    largest = float(a.detach().abs().max()) + float(plain.grad.abs().max())
    assert torch.allclose(plain.grad, compiled.grad, rtol=1e-9, atol=1e-9 * largest)
