"""Descriptions: what they refuse, and their trip through JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from hetsyn_model import (
    DecisionSpec,
    Network,
    NetworkSpec,
    NeuronSpec,
    PathSpec,
    SpecError,
    SurrogateSpec,
    state_bytes,
    variant,
)
from hetsyn_model.neurons.spike import surrogate_derivative
from hetsyn_model.spec import ResonanceSpec, Variant, se_adlif
from hetsyn_model.state import FORMS, initial_state


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: NeuronSpec(decays="layer"), "neuron.decays"),  # type: ignore[arg-type]
        (lambda: NeuronSpec(tied=True), "neuron.tied"),
        (lambda: NeuronSpec(tied_reset=False), "neuron.tied_reset"),
        (lambda: NeuronSpec(threshold=0), "neuron.threshold"),
        (lambda: NeuronSpec(tau_reset_steps=0), "neuron.tau_reset_steps"),
        (lambda: NeuronSpec(tau_init_steps=(5, 2)), "neuron.tau_init_steps"),
        (lambda: NeuronSpec(decay_range=(0.5, 1.5)), "neuron.decay_range"),
        (lambda: NeuronSpec(adaptation_strength=-1), "neuron.adaptation_strength"),
        (lambda: NeuronSpec(adaptation_tau_steps=0), "neuron.adaptation_tau_steps"),
        (lambda: SurrogateSpec(kind="box"), "surrogate.kind"),  # type: ignore[arg-type]
        (lambda: SurrogateSpec(width=0), "surrogate.width"),
        (lambda: DecisionSpec(rule="vote"), "decision.rule"),  # type: ignore[arg-type]
        (lambda: DecisionSpec(skip_steps=-1), "decision.skip_steps"),
        (lambda: NetworkSpec(channels=0, hidden=(1,), outputs=1), "channels"),
        (lambda: NetworkSpec(channels=1, hidden=(), outputs=1), "hidden"),
        (lambda: NetworkSpec(channels=1, hidden=(0,), outputs=1), "hidden"),
        (lambda: NetworkSpec(channels=1, hidden=(1,), outputs=1, dropout=1.0), "dropout"),
        (lambda: NetworkSpec(channels=1, hidden=(1,), outputs=1, step_s=0), "step_s"),
        (lambda: variant("rnn"), "variant"),  # type: ignore[arg-type]
        (
            lambda: NetworkSpec(1, (2,), 2, neuron=(NeuronSpec(), NeuronSpec())),  # type: ignore[arg-type]
            "neuron: a tuple: give one NeuronSpec, which all layers have",
        ),
        (lambda: NetworkSpec(1, (2,), 2, decision="last"), "decision: a str: give one DecisionSpec"),  # type: ignore[arg-type]
        (lambda: NetworkSpec(1, (2,), 2, input_kind="sound"), "input_kind: 'sound' is none of"),  # type: ignore[arg-type]
        (lambda: NeuronSpec(potential="volts"), "neuron.potential: 'volts' is none of"),  # type: ignore[arg-type]
        (lambda: NeuronSpec(reset="hard"), "neuron.reset: 'hard' is none of"),  # type: ignore[arg-type]
        (lambda: NeuronSpec(reset="zero"), "neuron.reset: 'zero' needs potential 'membrane'"),
        (lambda: NeuronSpec(potential="membrane", decays="shared", tied=True), "neuron.tied: a membrane's decay"),
        (lambda: NeuronSpec(decays="shared", tied=True, decay_range=(0.0, 0.0)), "neuron.tied: without decays"),
        (lambda: NeuronSpec(decay_range=(0.5, 0.5)), "neuron.decay_range"),
        (lambda: NeuronSpec(resonance=ResonanceSpec()), "neuron.resonance: needs potential 'membrane'"),
        (lambda: replace(se_adlif(), reset="subtract"), "neuron.resonance: needs potential 'membrane'"),
        (
            lambda: replace(se_adlif(), adaptation_strength=0.1),
            "neuron.adaptation_strength: neurons with resonance have no other adaptation",
        ),
        (lambda: ResonanceSpec(tau_steps=(0.0, 3.0)), "neuron.resonance.tau_steps: .* is not 0 < low <= high"),
        (lambda: ResonanceSpec(recovery_tau_steps=(9.0, 3.0)), "neuron.resonance.recovery_tau_steps: "),
        (lambda: ResonanceSpec(gain=-1.0), "neuron.resonance.gain: -1.0 is below 0"),
        (lambda: ResonanceSpec(gain=math.inf), "neuron.resonance.gain: inf is below 0, or not finite"),
        (lambda: ResonanceSpec(tau_steps=(5.0, math.inf)), "neuron.resonance.tau_steps: .* is not 0 < low <= high"),
        (lambda: PathSpec(-1), "not from 0 to 240"),
        (lambda: PathSpec(241), "not from 0 to 240"),
        (lambda: PathSpec(3, 0), "not from 1 to 64"),
        (lambda: PathSpec(0, 2), "need a max_delay_steps above 0"),
        (lambda: PathSpec(3, 1, True, "odd"), "is none of"),  # type: ignore[arg-type]
        (lambda: PathSpec(24.5), "max_delay_steps: 24.5 is not a whole number"),  # type: ignore[arg-type]
        (lambda: PathSpec(24, 2.0), "taps: 2.0 is not a whole number"),  # type: ignore[arg-type]
        (lambda: NetworkSpec(4, (3,), 2, input_path=PathSpec(3), input_kind="values"), "only spikes have delays"),
        (lambda: NetworkSpec(4, (3,), 2, recurrent_path=PathSpec(3), recurrent=False), "nothing to delay"),
    ],
)
def test_an_impossible_description_names_its_field(make: Callable[[], object], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        make()


@pytest.mark.parametrize(
    "change",
    [
        {"bias": True, "neuron": variant("alif"), "surrogate": SurrogateSpec("triangular")},
        {"decision": DecisionSpec("last", 2), "input_kind": "values"},
        {"neuron": se_adlif(), "surrogate": SurrogateSpec("exponential", width=0.2)},
        {"input_path": PathSpec(9, 2), "recurrent_path": PathSpec(27)},
    ],
)
def test_a_description_survives_json(change: dict[str, Any]) -> None:
    spec = NetworkSpec(channels=7, hidden=(5, 4), outputs=3, **change)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("later", ["potential", "reset", "resonance", "input_path", "recurrent_path", "input_kind"])
def test_an_old_description_has_nothing_of_what_came_later(later: str) -> None:
    plain = NetworkSpec(3, (2,), 2, neuron=NeuronSpec(threshold=0.7))
    older = plain.to_dict()
    del (older if later in older else older["neuron"])[later]
    assert NetworkSpec.from_dict(older) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 3},
        {"neuron": {"decay": 1}},
        {"hidden": None},
        {"input_path": None},
        {"input_path": {"max_delay_steps": 2.5}},
        {"kernel": None},
        {"kernel": {"shape": "pair"}},
        {"neuron": NetworkSpec(3, (2,), 2).to_dict()["neuron"] | {"resonance": "x"}},
        {"neuron": NetworkSpec(3, (2,), 2).to_dict()["neuron"] | {"resonance": {"tau_steps": [1.0, 2.0, 3.0]}}},
    ],
)
def test_a_foreign_description_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        NetworkSpec.from_dict(NetworkSpec(channels=7, hidden=(5,), outputs=3).to_dict() | change)


def test_a_fixed_reset_leaves_one_decay_a_neuron() -> None:
    spec = NetworkSpec(channels=7, hidden=(5,), outputs=3, neuron=variant("hetneu", reset_tau_steps=9.0))
    network = Network(spec)
    layer = network.layer("hidden1")
    assert layer.r_rec is None
    assert layer.kappa is not None
    assert layer.kappa.tolist() == pytest.approx([math.exp(-1 / 9)] * 5)
    # Table 3: M N + N N + N, and the readout's M N + N
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == (35 + 25 + 5) + (15 + 3)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("name", ["homneu", "alif"])
def test_a_fixed_reset_of_the_neurons_own_time_constant_changes_nothing(name: Variant) -> None:
    spikes = (torch.rand(2, 40, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    made = []
    for reset_tau_steps in (None, 12.0):
        neuron = variant(name, tau_steps=12.0, reset_tau_steps=reset_tau_steps)
        network = Network(NetworkSpec(channels=6, hidden=(8,), outputs=2, neuron=neuron), seed=1)
        with torch.no_grad():
            network.layer("hidden1").w_in.mul_(4)
        made.append(network.rollout(spikes, "exact"))
    assert made[0].hidden_spikes[0].sum() > 10
    assert torch.equal(made[0].hidden_spikes[0], made[1].hidden_spikes[0])


def test_state_of_the_papers_network() -> None:
    network = Network(NetworkSpec(channels=700, hidden=(128, 64), outputs=20, decision=DecisionSpec(skip_steps=11)))
    decision = 2 * 20 * 4 + 8
    assert state_bytes(network.compile("exact").layout) == 119_936 * 4 + decision
    network.fit_banks(size=8)
    assert state_bytes(network.compile("bank").layout) == (212 * 8 + 2 * 192) * 4 + decision
    assert 40 * state_bytes(network.compile("bank").layout) < state_bytes(network.compile("exact").layout)


def test_initial_state_has_the_layouts_shapes() -> None:
    network = Network(NetworkSpec(channels=6, hidden=(5,), outputs=3, neuron=variant("alif")))
    for form in FORMS:
        layout = network.compile(form).layout
        state = initial_state(layout, 4)
        assert [(name, tuple(tensor.shape[1:])) for name, tensor in state.items()] == [
            (t.name, t.shape) for t in layout
        ]
        assert state["decision.step"].dtype == torch.int64
    assert "hidden1.adaptation_current" in state


def test_surrogate_has_the_papers_value_at_the_threshold() -> None:
    at_zero = surrogate_derivative(torch.zeros(1, dtype=torch.float64), SurrogateSpec(), 1.0)
    assert float(at_zero) == pytest.approx(0.4391, abs=1e-4)
    triangle = surrogate_derivative(torch.tensor([-2.0, -0.5, 0.0, 0.5]), SurrogateSpec("triangular"), 1.0)
    assert triangle.tolist() == [0.0, 0.5, 1.0, 0.5]
