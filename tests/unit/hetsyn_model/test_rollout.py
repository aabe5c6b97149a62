"""Whole streams: exact against bank, compiled against plain torch, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from hetsyn_model import Events, Network, NetworkSpec, SurrogateSpec, initial_state, native
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import NeuronSpec, PathSpec, Rule
from hetsyn_model.state import FORMS, Form
from hetsyn_model.step import step
from tests.support.networks.networks import CASES, KINDS, small_network
from tests.support.pairs import in_pairs
from tests.support.tools import NO_ROLLOUT

RULES: tuple[Rule, ...] = get_args(Rule)


@pytest.fixture
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HETSYN_NATIVE", "0")
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def network(name: str = "hetsyn", rule: Rule = "sum_softmax", **more: Any) -> Network:
    """``small_network`` with kernels of its banks that are exact."""
    made = small_network(name, rule, channels=20, **more).double()
    made.fit_banks(error_bound=1e-8)
    return made


def spikes(batch: int = 5, steps: int = 40) -> Tensor:
    return (torch.rand(batch, steps, 20, generator=torch.Generator().manual_seed(0)) < 0.12).double()


def gradients(made: Network, rolled: Rollout) -> dict[str, Tensor]:
    made.zero_grad()
    loss = (
        (rolled.scores * torch.arange(5)).sum() + rolled.readout.square().mean() + 0.3 * rolled.hidden_spikes[0].sum()
    )
    loss.backward()
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_bank_is_exact_when_its_kernels_are(name: str, rule: Rule) -> None:
    made = network(name, rule, bias=True)
    exact, bank = made.rollout(spikes(), "exact"), made.rollout(spikes(), "bank")
    assert bool(exact.hidden_spikes[1].any())
    for a, b in zip(exact.hidden_spikes, bank.hidden_spikes, strict=True):
        assert torch.equal(a, b)
    assert torch.allclose(exact.readout, bank.readout, atol=1e-4)
    assert torch.allclose(exact.scores, bank.scores, atol=1e-4)
    wanted, got = gradients(made, exact), gradients(made, bank)
    assert wanted.keys() == got.keys()
    for key, value in wanted.items():
        # a bank's error in r^n says nothing of its error in d(r^n)/dr where a grid point is r itself
        bound = 3e-2 if "r_" in key else 1e-3
        assert float((value - got[key]).abs().max()) < bound * float(value.abs().max()), key


@pytest.mark.parametrize(
    ("name", "recurrent", "surrogate"),
    in_pairs(product(KINDS, (True, False), (SurrogateSpec(), SurrogateSpec("triangular", gain=0.8, width=1.2)))),
)
def test_compiled_is_plain_torch(
    name: str, recurrent: bool, surrogate: SurrogateSpec, request: pytest.FixtureRequest
) -> None:
    if native.library() is None:
        pytest.skip(NO_ROLLOUT)
    made = network(name, "spike_count", recurrent=recurrent, surrogate=surrogate)
    compiled = made.rollout(spikes(), "bank")
    wanted = gradients(made, compiled)
    request.getfixturevalue("plain_torch")
    plain = made.rollout(spikes(), "bank")
    assert torch.equal(compiled.readout, plain.readout)
    for a, b in zip(compiled.hidden_spikes, plain.hidden_spikes, strict=True):
        assert torch.equal(a, b)
    for key, value in gradients(made, plain).items():
        assert torch.allclose(wanted[key], value, rtol=1e-9, atol=1e-12), key


def test_events_are_the_dense_spikes() -> None:
    made = network()
    events = Events.of(spikes())
    assert torch.equal(events.dense(torch.float64), spikes())
    assert torch.equal(made.rollout(events, "bank").readout, made.rollout(spikes(), "bank").readout)
    assert torch.equal(made.rollout(events, "exact").readout, made.rollout(spikes(), "exact").readout)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_steps_are_the_rollout(form: Form, rule: Rule) -> None:
    made = network("alif", rule).float()
    rolled = made.rollout(spikes(), form)
    compiled = made.compile(form)
    state = initial_state(compiled.layout, 5)
    for t in range(40):
        state, output = step(compiled, state, spikes()[:, t].float())
        assert torch.equal(output.readout, rolled.readout[:, t])
    assert torch.allclose(state["decision.score"], rolled.scores, atol=1e-5)
    assert state["decision.step"].tolist() == [40] * 5


@pytest.mark.parametrize(("name", "form"), in_pairs(product(KINDS, FORMS)))
def test_steps_have_the_gradients_of_the_rollout(name: str, form: Form) -> None:
    made = network(name, "spike_count", bias=True)
    rolled = made.rollout(spikes(steps=12), form)
    wanted = gradients(made, rolled)
    compiled = made.compile(form)
    state = initial_state(compiled.layout, 5, torch.float64)
    outputs = []
    for t in range(12):
        state, output = step(compiled, state, spikes(steps=12)[:, t])
        outputs.append(output)
    readout = torch.stack([output.readout for output in outputs], 1)
    hidden = [torch.stack(each, 1) for each in zip(*(output.hidden_spikes for output in outputs), strict=True)]
    assert torch.equal(readout, rolled.readout)
    assert all(torch.equal(a, b) for a, b in zip(hidden, rolled.hidden_spikes, strict=True))
    got = gradients(made, replace(rolled, readout=readout, hidden_spikes=hidden, scores=state["decision.score"]))
    assert wanted.keys() == got.keys()
    for key, value in wanted.items():
        assert torch.allclose(value, got[key], rtol=1e-6, atol=1e-9), key


def test_a_gradient_through_delays_of_a_step_is_refused() -> None:
    made = small_network("hetsyn", "sum_softmax", channels=20, paths=(PathSpec(), PathSpec(3)))
    compiled = made.compile("bank")
    state = initial_state(compiled.layout, 5)
    for t in range(9):
        state, output = step(compiled, state, spikes()[:, t].float())
    with pytest.raises(RuntimeError, match=r"a step has no gradient through delays: train with Network\.rollout"):
        output.readout.sum().backward()


@pytest.mark.parametrize("name", ["homneu", "alif", "lif-own", "lif-at-once"])
def test_thresholds_and_kappas_that_require_gradients_get_them(name: str) -> None:
    found = []
    for form in FORMS:  # the exact form runs in plain torch
        made = network(name)
        own = [
            values.requires_grad_()
            for layer in made.named_layers().values()
            for values in (layer.threshold, layer.kappa)
            if values is not None
        ]
        gradients(made, made.rollout(spikes(), form))
        found.append([values.grad for values in own])
    assert found[0]
    for exact, bank in zip(*found, strict=True):
        assert float(exact.abs().max()) > 0
        assert torch.allclose(exact, bank, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("rule", RULES)
def test_what_follows_a_streams_end_does_not_count(rule: Rule) -> None:
    made = network(rule=rule)
    lengths = torch.tensor([40, 20, 1, 33, 4])
    together = made.rollout(spikes(), "bank", lengths)
    for index, length in enumerate(lengths.tolist()):
        alone = made.rollout(spikes()[index : index + 1, :length], "bank")
        assert torch.allclose(together.scores[index], alone.scores[0])
        assert torch.allclose(together.probabilities[index], alone.probabilities[0])


def test_no_steps_are_no_evidence() -> None:
    rolled = network().rollout(torch.zeros(2, 0, 20), "bank")
    assert rolled.probabilities.tolist() == [[0.2] * 5] * 2


def test_self_recurrence_can_be_switched_off() -> None:
    spec = NetworkSpec(channels=20, hidden=(13,), outputs=4, self_recurrent=False)
    made = Network(spec).double()
    with torch.no_grad():
        made.layer("hidden1").w_rec.fill_(0.1)  # type: ignore[union-attr]
    assert made.compile("bank").layers[0].is_recurrent
    recurrent = made.layer("hidden1").exact().recurrent
    assert recurrent is not None
    assert recurrent.weight.diagonal().tolist() == [0.0] * 13


def test_dropout_acts_in_training_only() -> None:
    spec = NetworkSpec(channels=20, hidden=(13, 9), outputs=4, dropout=0.5)
    made = Network(spec)
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(3.0)
    x = spikes().float()
    for form in FORMS:
        assert not torch.equal(made.train().rollout(x, form).readout, made.rollout(x, form).readout)
        assert torch.equal(made.eval().rollout(x, form).readout, made.rollout(x, form).readout)


def test_a_spike_at_the_threshold_does_not_depend_on_gradients() -> None:
    spec = NetworkSpec(channels=1, hidden=(1,), outputs=1, recurrent=False, neuron=NeuronSpec(threshold=0.3))
    made = Network(spec).double()
    with torch.no_grad():
        made.layer("hidden1").w_in.fill_(0.3 + 5e-9)
    x = torch.ones(1, 1, 1).double()
    with torch.no_grad():
        without = made.rollout(x, "exact").hidden_spikes[0]
    assert torch.equal(without, made.rollout(x, "exact").hidden_spikes[0])
    assert without.item() == 1.0


def test_half_precision_runs_in_plain_torch() -> None:
    made = network().to(torch.bfloat16)
    assert made.rollout(spikes(), "bank").readout.dtype == torch.bfloat16


def test_double_precision_survives_a_trip_to_disk() -> None:
    made = network()
    assert Network.load(made.save()).dtype == torch.float64


def test_clamping_keeps_decays_legal() -> None:
    made = network()
    assert made.share_at_bounds() == 0.0
    with torch.no_grad():
        made.layer("hidden1").r_in.add_(2.0)
    made.clamp_decays_()
    assert made.layer("hidden1").r_in.detach().max().item() == 1.0
    at_bounds, decays = made.layer("hidden1").r_in.numel(), sum(decay.numel() for decay in made.decays().values())
    assert made.share_at_bounds() == pytest.approx(at_bounds / decays)
    assert made.fit_banks(size=4)["hidden1"] < 1.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, 5, 21), "21 channels, but the network takes 20"),
        (torch.zeros(5, 20), r"not \[batch, steps, channels\]"),
        (torch.full((1, 1, 20), float("nan")), "not finite"),
        (torch.zeros(1, 1, 20).numpy(), "ndarray"),
        (
            torch.full((1, 1, 20), 0.5),
            "other than 0 and 1: give spikes, or describe a network with input_kind 'values'",
        ),
        (torch.full((1, 1, 20), 2), "other than 0 and 1"),
        (-torch.ones(1, 1, 20), "other than 0 and 1"),
        (Events.of(torch.full((1, 1, 20), 0.5)), "other than 0 and 1"),
        (Events.of(torch.full((1, 1, 20), torch.inf)), "not finite"),
    ],
)
def test_spikes_of_another_shape_or_value_are_refused(value: Tensor | Events, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network().rollout(value)
    if isinstance(value, Tensor) and value.shape == (1, 1, 20):
        compiled = network().compile("exact")
        with pytest.raises(ValueError, match=message):
            step(compiled, initial_state(compiled.layout, 1), value[:, 0])
