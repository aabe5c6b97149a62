"""``fit``: from arrays or files to a trained network, tested once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec, SpecError
from hetsyn_model.run_folder import RunError
from hetsyn_model.training import Config, ConfigError, DataError, fit, load_config
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.datasets.examples import Examples, Item
from hetsyn_model.training.datasets.read_arrays import as_arrays, examples_of
from hetsyn_model.training.fitting import CONFIG, TEST, VALIDATION, DeviceError
from hetsyn_model.training.loop import METRICS
from hetsyn_model.training.prepared import prepare
from tests.support.data.data import (
    CLASSES,
    series_arrays,
    spike_arrays,
    write_pcm,
    write_series_csv,
)
from tests.support.data.words import words

SETTINGS: dict[str, Any] = {
    "network": {"hidden": [16]},
    "training": {"epochs": 6, "batch": 8, "learning_rate": 1e-2, "average": 0.8},
}
ONE_EPOCH: dict[str, Any] = SETTINGS | {"training": SETTINGS["training"] | {"epochs": 1}}


def test_ten_lines_from_arrays_to_a_network() -> None:
    spikes, labels = spike_arrays(90)
    network, history = fit(spikes, labels, config=SETTINGS)
    fresh, truth = spike_arrays(30, seed=9)
    rolled = network.rollout(torch.from_numpy(fresh).float())
    assert (rolled.scores.argmax(-1).numpy() == truth).mean() > 0.9
    assert len(history.loss) == 6
    assert history.loss[-1] < history.loss[0]


@pytest.mark.process
def test_resonant_neurons_are_trained_by_a_configuration() -> None:
    spikes, labels = spike_arrays(90)
    neuron = {"decays": "shared", "potential": "membrane", "reset": "zero", "decay_range": [0.0, 0.0]}
    resonance = {"tau_steps": [2.0, 8.0], "recovery_tau_steps": [10.0, 40.0], "gain": 20.0}
    longer = {"training": SETTINGS["training"] | {"epochs": 12}}
    fitted = fit(spikes, labels, config=SETTINGS | longer | {"neuron": neuron | {"resonance": resonance}})
    fresh, truth = spike_arrays(30, seed=9)
    rolled = fitted.network.rollout(torch.from_numpy(fresh).float())
    assert (rolled.scores.argmax(-1).numpy() == truth).mean() > 0.9
    untrained = Network(fitted.network.spec).own_values()
    for name, values in fitted.network.own_values().items():
        assert bool((values != untrained[name]).all()), name
        assert 0 <= float(values.detach().min()) <= float(values.detach().max()) <= (2 if name.endswith(".b") else 1)


def test_spikes_of_other_lengths_and_tensors() -> None:
    spikes, labels = spike_arrays(36)
    cut = [torch.from_numpy(each[: 15 + index % 9]) for index, each in enumerate(spikes)]
    fitted = fit(cut, labels, config=ONE_EPOCH)
    assert fitted.network.spec.channels == 12
    assert fitted.checkpoint.encoder is None


def test_a_network_of_your_own_is_where_training_starts() -> None:
    spikes, labels = spike_arrays(36)
    spec = NetworkSpec(channels=12, hidden=(7,), outputs=3, neuron=NeuronSpec(decay_range=(0.0, 0.9)))
    own = Network(spec, seed=5)
    before = own.layer("hidden1").w_in.detach().clone()
    fitted = fit(spikes, labels, network=own, config=ONE_EPOCH)
    assert fitted.network.spec == spec
    assert 0 < float((fitted.network.layer("hidden1").w_in.detach() - before).abs().max()) < 0.2
    described = fit(spikes, labels, network=spec, config=ONE_EPOCH)
    assert described.network.spec == spec


def test_weights_that_are_not_finite_are_no_result() -> None:
    spikes, labels = spike_arrays(36)
    with pytest.raises(RunError, match=r"is not finite: train in another folder with a lower training\.learning_rate"):
        fit(spikes, labels, config={"training": {"epochs": 3, "learning_rate": 1e30}})


@pytest.mark.parametrize("rule", ["sum_softmax", "late_softmax"])
def test_streams_of_which_no_step_counts_are_trained_with_the_others(rule: str) -> None:
    spikes, labels = spike_arrays(36)
    cut = [each[: 20 + index % 6] for index, each in enumerate(spikes)]
    silent = {"tail_steps": 0, "served_tail_steps": 0}
    config = {"training": ONE_EPOCH["training"] | silent, "decision": {"rule": rule, "skip_steps": 22}}
    _, history = fit(cut, labels, config=config)
    assert 0.0 < history.loss[0] < 10.0


def test_a_recording_longer_than_the_noise_is_trained(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for name in CLASSES[:2]:
        (tmp_path / "data" / name).mkdir(parents=True)
        for take in range(4):
            write_pcm(tmp_path / "data" / name / f"{take}.wav", 0.1 * noise.uniform(-1, 1, 2**19 + 9 * take), 44_100)
    sound = {"sample_rate_hz": 44_100, "step_samples": 2048, "window_samples": 2048, "bands": 8, "levels": 4}
    _, history = fit(tmp_path / "data", config=ONE_EPOCH | {"encoder": {"audio": sound}})
    assert 0.0 < history.loss[0] < 10.0


def test_spikes_with_times_have_the_steps_of_your_own_network() -> None:
    """Not those of the configuration: the manifest says the network's."""
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 0.05, 40)) for _ in range(36)]
    arrays = {
        "times": np.concatenate(times),
        "units": rng.integers(0, 12, 36 * 40),
        "offsets": np.arange(37) * 40,
        "labels": np.arange(36) % 3,
    }
    spec = NetworkSpec(channels=12, hidden=(7,), outputs=3, step_s=1e-3)
    fitted = fit(arrays, network=spec, config=ONE_EPOCH)
    assert fitted.checkpoint.config is not None
    assert fitted.checkpoint.config["encoder"]["spikes"]["step_s"] == 1e-3


def test_values_become_spikes_by_an_encoder_that_is_kept(tmp_path: Path) -> None:
    series, labels = series_arrays(90)
    fitted = fit(series, [CLASSES[label] for label in labels], config=SETTINGS, out=tmp_path / "run")
    assert fitted.test is not None
    assert fitted.test.exact is not None
    assert fitted.test.exact > 0.85
    assert set(fitted.test.by_class) == set(CLASSES)
    kept = Checkpoint.load(tmp_path / "run/best.pt")
    assert kept.labels == tuple(sorted(CLASSES))
    assert kept.encoder == fitted.checkpoint.encoder
    assert kept.config == load_config(SETTINGS, "values").to_dict()
    assert kept.network.spec.channels == 2 * 2 * 12
    assert not kept.network.save()["hold"]  # only the training held its banks


def test_the_test_is_taken_once(tmp_path: Path) -> None:
    spikes, labels = spike_arrays(36)
    first = fit(spikes, labels, config=ONE_EPOCH, out=tmp_path / "run")
    figures = json.loads((tmp_path / "run" / TEST).read_text())
    assert first.test is not None
    assert figures["examples"] == first.test.examples == 6
    (tmp_path / "run" / TEST).write_text(json.dumps(figures | {"exact": 0.125}))
    again = fit(spikes, labels, config=ONE_EPOCH, out=tmp_path / "run")
    assert again.test is not None
    assert again.test.exact == 0.125  # read, not measured again


def test_a_kill_after_the_last_checkpoint_costs_nothing(tmp_path: Path) -> None:
    spikes, labels = spike_arrays(36)
    fit(spikes, labels, config=ONE_EPOCH, out=tmp_path / "run")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in (METRICS, CONFIG, VALIDATION, TEST)}
    for name in before:
        (tmp_path / "run" / name).unlink()
    fit(spikes, labels, config=ONE_EPOCH, out=tmp_path / "run")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in before} == before


def test_a_run_does_not_go_on_under_other_labels(tmp_path: Path) -> None:
    spikes, labels = spike_arrays(36)
    fit(spikes, labels, config=ONE_EPOCH, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"differs in labels .* there, \['a0', 'a1', 'a2'\] now"):
        fit(spikes, [f"a{label}" for label in labels], config=ONE_EPOCH, out=tmp_path / "run")


def test_own_test_data_and_extra_data() -> None:
    spikes, labels = spike_arrays(36)
    more, own = spike_arrays(12, seed=1), spike_arrays(9, seed=2)
    fitted = fit(
        spikes,
        labels,
        extra={"spikes": more[0], "labels": more[1]},
        test={"spikes": own[0], "labels": own[1]},
        config=ONE_EPOCH,
    )
    assert fitted.test is not None
    assert fitted.test.examples == 9


def test_extra_data_of_a_group_that_judges_are_not_trained_on() -> None:
    spikes, labels = spike_arrays(96)
    groups = np.array([f"p{index // 3 % 8}" for index in range(96)])
    config = load_config(ONE_EPOCH, "spikes")
    examples = examples_of({"spikes": spikes, "labels": labels, "groups": groups}, config, "mine")

    def found(items: Sequence[Item]) -> set[str]:
        return {item.group for item in items}

    parted = prepare(examples, config, extra=examples)
    assert parted.by == "group"
    assert found(parted.data.extra) == found(parted.data.real)
    left_out = prepare(examples, config, extra=examples, leave_out=["p2"])
    assert found(left_out.test) == {"p2"}
    assert found(left_out.data.extra) == found(left_out.data.real)
    by_file = replace(config, split=replace(config.split, by="file"))
    assert found(prepare(examples, by_file, extra=examples, leave_out=["p2"]).data.extra) == {*groups} - {"p2"}


def test_the_encoder_is_fitted_to_training_examples_alone() -> None:
    series, labels = series_arrays(36)
    examples = examples_of(as_arrays(series, labels, None), load_config(ONE_EPOCH, "values"), "mine")
    config = load_config({"encoder": {"values": {"quantile": 0.0}}}, "values")
    before = prepare(examples, config)
    judging = [item.values for item in (*before.data.validation, *before.test)]
    for values in judging:
        values[0] = 1e6
    assert prepare(examples, config).front.spec == before.front.spec
    before.data.real[0].values[0] = 1e6
    assert prepare(examples, config).front.spec != before.front.spec


SPIKES, LABELS = spike_arrays(36)
SERIES, SPEEDS = series_arrays(36)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": LABELS * 0}, DataError, "the arrays: all 36 examples are of class '0': a classifier needs two"),
        ({"labels": LABELS[:9]}, DataError, "36 examples in spikes, but 9 labels"),
        ({"labels": None}, DataError, "has no labels"),
        ({"leave_out": ["bob"]}, DataError, "group 'bob' is not in the arrays: it has no groups"),
        ({"leave_out": ["bob"], "test": {"spikes": SPIKES, "labels": LABELS}}, DataError, "give one of the two"),
        ({"config": {"training": {"epoch": 1}}}, ConfigError, "did you mean training.epochs?"),
        ({"config": {"training": {"tied": True}}}, ConfigError, "only bands of audio can be tied"),
        ({"config": {"names": {"0": "low", "2": "low"}}}, ConfigError, "two classes become 'low'"),
        ({"seed": -1}, SpecError, "seed: -1 is not from 0"),
        ({"config": {"decision": {"rule": "trace"}}}, ConfigError, "a trace gives no class"),
        ({"config": {"network": {"hidden": []}}}, SpecError, "needs at least one layer"),
        ({"device": "gpu"}, DeviceError, "'gpu' is none that torch knows"),
        (
            {"network": NetworkSpec(channels=9, hidden=(4,), outputs=3)},
            DataError,
            "unit 11 is beyond network.channels = 9",
        ),
        ({"network": NetworkSpec(channels=12, hidden=(4,), outputs=4)}, ConfigError, "has 4 outputs, but .* 3 classes"),
        (
            {"network": NetworkSpec(channels=12, hidden=(4,), outputs=3, decision=DecisionSpec("trace"))},
            ConfigError,
            "a trace gives no class",
        ),
        (
            {"data": SERIES, "labels": SPEEDS, "config": {"training": {"served_tail_steps": 5}}},
            ConfigError,
            "no silence follows a series of values: set both to 0",
        ),
        ({"data": [np.ones((3, 2)), np.ones((3, 1))], "labels": [0, 1]}, DataError, "all of the same channels"),
        ({"test": {"spikes": SPIKES, "labels": LABELS + 1}}, DataError, "label '3' is not one of the arrays"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"data": SPIKES, "labels": LABELS, "config": ONE_EPOCH} | arguments
    with pytest.raises(error, match=message) as raised:
        fit(**given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changed", [{"network": {"bias": True}}, {"neuron": {"decays": "neuron"}}, {"neuron": {"decay_range": [0.0, 0.0]}}]
)
def test_a_tied_layer_that_cannot_be_untied_is_refused_before_it_is_trained(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    data = Examples("audio", tuple(words(12, 0)), CLASSES, "words")
    with pytest.raises(ConfigError, match=r"training\.tied: .* set training\.tied to false, or network\.bias to false"):
        fit(data, config={"training": {"epochs": 1, "tied": True}} | changed, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_threshold_that_would_not_be_trained_is_refused() -> None:
    own = Network(NetworkSpec(channels=12, hidden=(4,), outputs=3))
    threshold = own.layer("hidden1").threshold
    assert threshold is not None
    threshold.requires_grad_()
    with pytest.raises(ConfigError, match=r"layers\.0\.threshold requires a gradient, but fit trains parameters alone"):
        fit(SPIKES, LABELS, network=own, config=ONE_EPOCH)


def test_labels_of_a_path_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leave the arguments out"):
        fit(write_series_csv(tmp_path / "a.csv"), LABELS)


def test_a_config_may_be_an_object() -> None:
    config = load_config(ONE_EPOCH, "spikes")
    assert isinstance(config, Config)
    assert fit(SPIKES, LABELS, config=config, seed=3).checkpoint.config == config.to_dict() | {"seed": 3}
