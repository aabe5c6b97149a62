"""Phonemes as a second target: their loss, and a kept network that does not have them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from hetsyn_model import DecisionSpec, Network, NetworkSpec, SpecError
from hetsyn_model.training import ConfigError, fit, load_config
from hetsyn_model.training.config import to_toml
from hetsyn_model.training.history import History
from hetsyn_model.training.phonemes import BLANK, Phonemes, PhonemesSpec
from tests.support.data import spike_arrays

LABELS = ("left", "right", "noise", "nothing")
WORDS = Phonemes(PhonemesSpec(2.0, {"left": "l e f t", "right": "r a t t", "nothing": ""}), LABELS)
SETTINGS: dict[str, Any] = {
    "network": {"hidden": [12]},
    "training": {"epochs": 3, "batch": 8, "learning_rate": 1e-2, "average": 0.8},
    "phonemes": {"weight": 0.1, "words": {"a": "p q", "b": "q r", "c": "r"}},
}


def likelihood(log_p: torch.Tensor, word: list[int]) -> float:
    """Of a word's phonemes, over all ways of placing them in a few steps."""
    total = 0.0
    for path in product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        said = [now for now, before in zip(path, (None, *path), strict=False) if now not in (before, BLANK)]
        if said == word:
            total += float(log_p[range(len(path)), list(path)].sum().exp())
    return total


def test_the_loss_sums_over_all_ways_of_placing_the_phonemes() -> None:
    phonemes = Phonemes(PhonemesSpec(0.5, {"ab": "x y", "aa": "x x"}), ("ab", "aa"))
    symbols = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
    log_p = torch.log_softmax(symbols, -1)
    found = phonemes.loss(symbols, torch.tensor([5, 4, 5]), torch.tensor([0, 0, 1]))
    each = [(log_p[0], [1, 2]), (log_p[1, :4], [1, 2]), (log_p[2], [1, 1])]  # the last step of the second is no step
    nats = [-torch.tensor(likelihood(of, word)).log() / len(of) for of, word in each]
    assert found == pytest.approx(float(sum(nats)) / 3, rel=1e-5)


def test_a_class_without_words_has_no_part_in_the_loss() -> None:
    symbols = torch.randn(3, 9, WORDS.count, requires_grad=True)
    WORDS.loss(symbols, torch.tensor([9, 9, 9]), torch.tensor([0, 2, 3])).backward()
    assert symbols.grad is not None
    assert [bool(each.abs().sum() > 0) for each in symbols.grad] == [True, False, True]  # silence has blanks alone
    assert WORDS.loss(symbols, torch.tensor([9, 9, 9]), torch.tensor([2, 2, 2])) == 0


def test_a_stream_that_is_shorter_than_its_word_says_nothing() -> None:
    symbols = torch.randn(1, 3, WORDS.count, requires_grad=True)
    loss = WORDS.loss(symbols, torch.tensor([3]), torch.tensor([0]))
    loss.backward()
    assert loss == 0
    assert symbols.grad is not None
    assert not symbols.grad.any()


@pytest.mark.parametrize("rule", ["sum_softmax", "late_softmax", "last", "spike_count"])
def test_the_kept_network_answers_as_the_outputs_of_the_classes_did(rule: Any) -> None:
    spec = NetworkSpec(channels=20, hidden=(24,), outputs=len(LABELS), decision=DecisionSpec(rule))
    wide = Network(WORDS.widened(spec), seed=1)
    with torch.no_grad():
        for name in wide.spec.layer_names:
            wide.layer(name).w_in.mul_(4.0)
    wide.fit_banks(size=6, hold=True)
    spikes = (torch.rand(5, 40, 20, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    divided, kept = WORDS.divided(wide.rollout(spikes), torch.tensor([0, 1, 2, 3, 0])), WORDS.without(wide)
    assert kept.spec == spec
    rolled = kept.rollout(spikes)
    assert divided.hidden_spikes[0].sum() > 100
    assert torch.equal(divided.naming, WORDS.loss(divided.symbols, divided.steps, torch.tensor([0, 1, 2, 3, 0])))
    assert divided.symbols.shape == (5, 40, WORDS.count)
    assert torch.allclose(rolled.readout, divided.readout, atol=1e-5)
    assert torch.allclose(rolled.scores, divided.scores, atol=1e-5)


def test_the_network_of_a_run_has_its_classes_alone(tmp_path: Path) -> None:
    spikes, labels = spike_arrays(45)
    named = [("a", "b", "c")[int(label)] for label in labels]
    network, history = fit(spikes, named, config=SETTINGS, out=tmp_path / "with")
    assert network.spec.outputs == 3
    assert history.loss[-1] < history.loss[0]
    assert history.measures["phoneme_loss"][-1] < history.measures["phoneme_loss"][0]
    run = json.loads((tmp_path / "with/run.json").read_text())
    assert run["phonemes"] == SETTINGS["phonemes"]
    fit(spikes, named, config=SETTINGS | {"phonemes": {"weight": 0.0}}, out=tmp_path / "without")
    assert "phonemes" not in json.loads((tmp_path / "without/run.json").read_text())


def test_an_interrupted_run_with_phonemes_goes_on(tmp_path: Path) -> None:
    def stop(_: History) -> None:
        raise KeyboardInterrupt

    spikes, labels = spike_arrays(45)
    named = [("a", "b", "c")[int(label)] for label in labels]
    whole = fit(spikes, named, config=SETTINGS, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(spikes, named, config=SETTINGS, out=tmp_path / "cut", on_epoch=stop)
    again = fit(spikes, named, config=SETTINGS, out=tmp_path / "cut")
    assert again.history.loss == whole.history.loss
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("phonemes", "message"),
    [
        (
            {"weight": 0.1, "words": {"d": "p"}},
            "phonemes.words: 'd' is no class of the data: write \\[phonemes.words\\] for a, b, c",
        ),
        ({"weight": 0.1}, "phonemes.words: no class has phonemes"),
        ({"weight": -1.0}, "weight: -1.0 is below 0"),
    ],
)
def test_a_mistake_is_one_sentence(phonemes: dict[str, Any], message: str) -> None:
    spikes, labels = spike_arrays(45)
    named = [("a", "b", "c")[int(label)] for label in labels]
    with pytest.raises(ConfigError, match=message):
        fit(spikes, named, config=SETTINGS | {"phonemes": phonemes})


def test_a_network_of_your_own_has_no_outputs_for_them() -> None:
    spikes, labels = spike_arrays(45)
    named = [("a", "b", "c")[int(label)] for label in labels]
    own = NetworkSpec(channels=spikes.shape[2], hidden=(8,), outputs=3)
    with pytest.raises(ConfigError, match="a network of your own has no outputs for phonemes"):
        fit(spikes, named, network=Network(own), config=SETTINGS)
    assert fit(spikes, named, network=own, config=SETTINGS).network.spec == own  # a description can be widened


def test_the_words_of_another_vocabulary_replace_those_of_the_base() -> None:
    config = load_config({"base": "speech-digits", "phonemes": {"weight": 0.1, "words": {"on": "ɒ n"}}})
    assert config.phonemes == PhonemesSpec(0.1, {"on": "ɒ n"})
    assert load_config("speech-digits").phonemes.weight == 0
    assert set(load_config("speech-digits").phonemes.words) == set("0123456789")


def test_a_file_of_a_run_has_the_phonemes(tmp_path: Path) -> None:
    config = replace(load_config({}, "spikes"), phonemes=PhonemesSpec(0.1, {"on": "ɒ n"}))
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml").phonemes == config.phonemes


def test_phonemes_need_a_word() -> None:
    with pytest.raises(SpecError, match="no class has phonemes"):
        Phonemes(PhonemesSpec(1.0, {"left": ""}), LABELS)
