"""How the shipped speech models are made: who is heard in training, and how a network is judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import torch

from hetsyn_model.network import Network
from hetsyn_model.readout import decide
from hetsyn_model.readout import probabilities as decided
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.data import DataError
from recipes.speech.costs import cost, trained_values
from recipes.speech.networks import ENCODER, Shape, make, readout
from recipes.speech.people import Part, speakers
from recipes.speech.plan import COMMANDS, PLAN
from recipes.speech.pool import Clip, Source, clip, loud_parts, of_people
from recipes.speech.training import Recipe, as_served, probabilities
from recipes.speech.vocabulary import FINE_WORDS


def word(name: str, speaker: str = "a", take: int = 0, source: Source = "person") -> Clip:
    """A tone of 0.4 s within 1 s of near silence."""
    audio = np.full(8000, 1e-5, np.float32)
    audio[2400:5600] = 0.3 * np.sin(np.arange(3200, dtype=np.float32))
    (made,) = loud_parts([clip(audio, speaker, take, source, name)])
    return made


def test_nobody_is_in_two_parts() -> None:
    parts = [speakers(part) for part in get_args(Part)]
    assert set(Counter(chain(*parts)).values()) == {1}
    assert min(map(len, parts)) > 90


def test_people_are_read_under_both_names_and_those_who_are_not_listed_are_left_out(tmp_path: Path) -> None:
    known, stranger = min(speakers("train")), "ffffffff"
    for name in (
        f"one/{known}_nohash_0.wav", f"two/{known}_3_v2.flac", f"one/{stranger}_nohash_0.wav",
        "_background_noise_/pink_noise.wav",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, word("one").audio, 8000)
    found = of_people(tmp_path, "train")
    assert [(one.word, one.speaker, one.take) for one in found] == [("one", known, 0), ("two", known, 3)]
    (tmp_path / "one/mine.wav").touch()
    with pytest.raises(DataError, match=r"mine.wav: the name is not SPEAKER_nohash_TAKE.wav"):
        of_people(tmp_path, "train")
    with pytest.raises(DataError, match="put Google Speech Commands there"):
        of_people(tmp_path / "none", "train")


@pytest.mark.parametrize(("power", "rule"), [(0, "sum_softmax"), (3, "late_softmax")])
def test_a_network_is_judged_by_the_decision_that_is_served(power: int, rule: str) -> None:
    logits, steps = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([50, 17, 1])
    spec = DecisionSpec(rule)  # type: ignore[arg-type]
    served = decided(spec, decide(spec, logits, steps), steps)
    torch.testing.assert_close(probabilities(logits, steps, power).float(), served, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["hetsyn", "hetneu", "alif", "lif", "dh-snn", "free-bank", "gru", "cnn"])
def test_every_kind_of_network_hears_and_learns(kind: str) -> None:
    model = make(Shape(kind, (6, 5) if kind != "cnn" else (3, 4, 5, 6)), outputs=4, seed=0)
    spikes = np.random.default_rng(0).random((2, 30, ENCODER.bands)) < 0.1  # level changes of bands
    batch = Batch.of(spikes.astype(np.float32), torch.tensor([1, 3]))
    heard = readout(model, batch)
    assert heard.shape == (2, 30, 4)
    torch.nn.functional.cross_entropy(heard.mean(1), batch.target).backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_other_words_compete_with_the_digits_in_the_served_network_and_are_rejected() -> None:
    """Their outputs are those that training had as a second readout; the rest of it is not kept."""
    recipe = replace(PLAN["digits-0"], shape=Shape("hetsyn", (6, 5)))
    words = recipe.vocabulary
    assert recipe.labels == (*words.classes, "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
    model = make(recipe.shape, recipe.outputs, seed=0)
    assert isinstance(model, Network)
    model.fit_banks(size=recipe.bank_size)
    served, outputs = as_served(model, recipe)
    assert len(outputs) == len(recipe.labels) < recipe.outputs
    spikes = np.random.default_rng(0).random((1, 30, ENCODER.bands)) < 0.2
    batch = Batch.of(spikes.astype(np.float32), torch.tensor([1]))
    trained = {name: readout(model, batch)[..., index] for index, name in enumerate(words.classes)}
    trained |= {
        name: readout(model, batch)[..., len(words.classes) + index]
        for index, name in enumerate(FINE_WORDS)
        if name not in words.classes
    }
    heard = readout(served, batch)
    for index, label in enumerate(recipe.labels):  # through a bank of fewer decays
        torch.testing.assert_close(heard[..., index], trained[label], rtol=0.1, atol=0.05)


def test_networks_that_are_compared_have_equal_numbers_of_trained_values() -> None:
    values = {kind: trained_values(Recipe(shape=Shape(kind, hidden))) for kind, hidden in COMMANDS.items()}
    assert max(values.values()) <= 1.03 * min(values.values()), values


def test_a_step_costs_what_its_spikes_and_its_state_cost() -> None:
    clips = [word("one"), word("go", take=1)]
    costs = {}
    for kind, hidden in (
        ("hetsyn", (6, 5)),
        ("lif", (6, 5)),
        ("free-bank", (6, 5)),
        ("gru", (6, 5)),
        ("cnn", (3, 4, 5, 6)),
    ):
        recipe = Recipe(model="commands", shape=Shape(kind, hidden))
        costs[kind] = cost(make(recipe.shape, recipe.outputs, 0), recipe, clips)
    labels = 22  # the ten commands, unknown, silence, and the ten digits
    decision = labels * 2 * 4 + 8
    assert costs["hetsyn"]["state_bytes"] == 4 * ((8 + 2) * (6 + 5) + 5 * labels) + decision
    assert costs["free-bank"]["state_bytes"] == 4 * ((2 + 2) * (6 + 5) + 2 * labels) + decision
    assert costs["lif"]["state_bytes"] == 4 * ((2 + 2) * (6 + 5) + labels) + decision
    assert costs["gru"]["state_bytes"] == 4 * (6 + 5) + decision
    macs = 3 * 6 * (32 + 6 + 1) + 3 * 5 * (6 + 5 + 1) + 5 * labels
    assert costs["gru"]["operations"] == 2 * macs
    assert costs["gru"]["nanojoules"] == pytest.approx(macs * 4.6 / 1000)
    layers = 9 * (32 * 1 * 3 + 32 * 3 * 4 / 4 + 32 * 4 * 5 / 16 + 32 * 5 * 6 / 64)
    assert costs["cnn"]["operations"] == pytest.approx(2 * layers, abs=2 * 9 * 4)
    assert costs["lif"]["operations"] < costs["hetsyn"]["operations"]


def test_the_page_of_results_is_what_the_kept_results_give() -> None:
    pytest.importorskip("scipy")
    from recipes.speech.report import PAGE, report

    assert report() == PAGE.read_text(), "run python -m recipes.speech report"
