"""Real numbers as input: the equations in a plain loop, gradients, and the bank's exact sums."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hetsyn_model import Events, Network, native
from hetsyn_model.rollout import rollout
from hetsyn_model.spec import Rule
from hetsyn_model.state import FORMS, Form, initial_state
from hetsyn_model.step import step
from hetsyn_model.synapses.exact_products import aligned, values_product
from tests.support.networks.networks import small_network
from tests.support.tools import NO_ROLLOUT


def network(kind: str = "hetsyn", rule: Rule = "spike_count", *, bias: bool = False) -> Network:
    return small_network(kind, rule, channels=3, bias=bias, input_kind="values")


def values(batch: int = 3, steps: int = 40, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, steps, channels, generator=generator)


def by_the_equations(made: Network, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Equations 8, 9, 5 and 4 of one stream in float64: the spikes of every layer [t, j], and the outputs' counts."""
    layers = [
        {name: value.detach().double().numpy() for name, value in layer.state_dict().items()} for layer in made.layers
    ]
    currents = [[np.zeros_like(layer[w]) for w in ("w_in", "w_rec") if w in layer] for layer in layers]
    reset = [np.zeros(len(layer["w_in"])) for layer in layers]
    fired = [np.zeros(len(layer["w_in"])) for layer in layers]
    spikes: list[list[np.ndarray]] = [[] for _ in layers]
    for row in x:
        arriving = row
        for index, layer in enumerate(layers):
            sources = [arriving, fired[index]]
            for path, (suffix, source) in enumerate(zip(("in", "rec"), sources, strict=True)):
                if f"w_{suffix}" in layer:
                    before = currents[index][path]
                    currents[index][path] = layer[f"r_{suffix}"] * before + layer[f"w_{suffix}"] * source
            reset[index] = layer["kappa"] * reset[index] + layer["threshold"] * fired[index]
            potential = sum(current.sum(1) for current in currents[index]) - reset[index]
            fired[index] = (potential > layer["threshold"]).astype(np.float64)
            spikes[index].append(fired[index])
            arriving = fired[index]
    return [np.array(of) for of in spikes], np.array(spikes[-1])[made.spec.decision.skip_steps :].sum(0)


@pytest.mark.parametrize("form", FORMS)
def test_a_network_of_values_follows_the_equations(form: Form) -> None:
    made = network().double()
    made.fit_banks(error_bound=1e-8)
    x = values()
    rolled = made.rollout(x.double(), form)
    for stream in range(len(x)):
        spikes, counts = by_the_equations(made, x[stream].double().numpy())
        assert all(layer.any() for layer in spikes)
        for got, want in zip(rolled.hidden_spikes, spikes, strict=False):
            assert np.array_equal(got[stream].detach().numpy(), want)
        assert np.array_equal(rolled.scores[stream].detach().numpy(), counts)


@pytest.mark.parametrize("kind", ["hetsyn", "hetneu", "alif", "lif-zero", "hetsyn-membrane"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.skipif(native.library() is None, reason=NO_ROLLOUT)
def test_the_compiled_rollout_gives_the_bits_of_single_steps(kind: str, bias: bool) -> None:
    made = network(kind, bias=bias)
    made.fit_banks(size=6)
    compiled = made.compile("bank").detach()
    x = values() * torch.exp(3 * values(channels=1))
    with torch.no_grad():
        whole = rollout(compiled, x)
        state = initial_state(compiled.layout, len(x))
        for t in range(x.shape[1]):
            state, output = step(compiled, state, x[:, t])
            assert torch.equal(output.readout, whole.readout[:, t])
            for z, layer in zip(output.hidden_spikes, whole.hidden_spikes, strict=True):
                assert torch.equal(z, layer[:, t])
    assert whole.hidden_spikes[1].any()


@pytest.mark.parametrize("rule", ["spike_count", "sum_softmax"])
@pytest.mark.skipif(native.library() is None, reason=NO_ROLLOUT)
def test_gradients_are_those_of_autograd(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled backward pass, and that of the product, against torch's own through single steps."""
    made = network(rule=rule, bias=True).double()
    made.fit_banks(error_bound=1e-6, hold=True)
    x = values().double()

    def gradients(of: Tensor) -> dict[str, Tensor]:
        made.zero_grad()
        rolled = made.rollout(of, "bank")
        (rolled.scores * torch.arange(5) + rolled.readout.square().mean(1)).sum().backward()
        return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}

    compiled = gradients(x)
    monkeypatch.setenv("HETSYN_NATIVE", "0")
    native.library.cache_clear()
    try:
        plain = gradients(x)
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
    assert compiled["layers.0.w_in"].abs().max() > 0
    assert compiled["layers.0.r_in"].abs().max() > 0
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-9, atol=1e-10)


def test_the_product_has_the_gradients_of_a_product() -> None:
    x, weight = values().requires_grad_(), torch.randn(3, 8, requires_grad=True)
    outgoing = torch.randn(3, 40, 8)
    got = torch.autograd.grad(values_product(x, weight, 3), (x, weight), outgoing)
    want = torch.autograd.grad(x @ weight, (x, weight), outgoing)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


SIZES = st.floats(2.0**-20, 2.0**20, width=32)


@given(
    numbers=st.lists(st.one_of(st.just(0.0), SIZES, SIZES.map(lambda size: -size)), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_sums_are_exact_and_close_to_the_true_ones(numbers: list[float], seed: int) -> None:
    count = len(numbers)
    x = torch.tensor([numbers])
    steps = torch.randint(-32767, 32768, (count, 1), generator=torch.Generator().manual_seed(seed))
    moved = aligned(x, count)
    largest = max(map(abs, numbers))
    assert (moved - x).abs().max() <= largest * 2.0 ** ((count - 1).bit_length() - 36)
    exact = sum(Fraction(a) * int(w) for a, w in zip(moved[0].tolist(), steps[:, 0].tolist(), strict=True))
    for order in (range(count), reversed(range(count))):
        total = 0.0
        for i in order:
            total += float(moved[0, i]) * int(steps[i, 0])
        assert Fraction(total) == exact
    assert values_product(x, steps.float() * 2.0**-10, count).item() == np.float32(float(exact) * 2.0**-10)


def test_one_value_a_step_is_not_rounded_at_all() -> None:
    x = values(channels=1) * torch.exp(8 * values(channels=1))
    assert torch.equal(aligned(x, 1), x.double())


@given(order=st.permutations(range(5)), count=st.integers(1, 5), cut=st.integers(1, 39))
@settings(max_examples=20, deadline=None)
def test_company_and_cuts_change_no_bit(order: list[int], count: int, cut: int) -> None:
    made = network(bias=True)
    made.fit_banks(size=6)
    compiled = made.compile("bank").detach()
    x = values(5) * torch.exp(3 * values(5, channels=1))
    chosen = order[:count]
    with torch.no_grad():
        whole, some = rollout(compiled, x), rollout(compiled, x[chosen])
        early = rollout(compiled, x[:, :cut])
    assert torch.equal(some.readout, whole.readout[chosen])
    assert torch.equal(early.readout, whole.readout[:, :cut])
    assert torch.equal(some.scores, whole.scores[chosen])


def test_events_carry_values_too() -> None:
    made = network()
    made.fit_banks(size=6)
    x = torch.where(values() > 0.5, values(), 0.0)
    for form in FORMS:
        assert torch.equal(made.rollout(x, form).readout, made.rollout(Events.of(x), form).readout)
    events = Events.of(x)
    assert torch.equal(events.streams(0, 2).dense(), x[:2])
    assert torch.equal(events.streams(1, 9).dense(), x[1:])


def test_spikes_are_values_of_one() -> None:
    spikes = (values() > 1).float()
    of_values, of_spikes = network(), small_network("hetsyn", "spike_count", channels=3)
    for form in FORMS:
        assert torch.equal(of_values.rollout(spikes, form).readout, of_spikes.rollout(spikes, form).readout)


def test_a_network_of_values_is_saved() -> None:
    made = network()
    assert Network.load(made.save()).spec == made.spec


def test_values_that_are_not_finite_are_refused() -> None:
    made = network()
    wrong, beyond = torch.full((1, 2, 3), torch.nan), torch.full((1, 2, 3), 1e39, dtype=torch.float64)
    for x in (wrong, Events.of(wrong), beyond, Events.of(beyond)):
        with pytest.raises(ValueError, match="values contain numbers that are not finite"):
            made.rollout(x, "exact")
