"""The configuration file: every hyperparameter, and one sentence for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import (
    Config,
    ConfigError,
    config_from,
    config_of_checkpoint,
    load_config,
    to_toml,
)
from hetsyn_model.training.datasets.examples import Kind
from tests.support.paths import ROOT


@pytest.mark.parametrize("name", ["audio", "spikes", "values", "motion", "speech-digits"])
def test_a_shipped_configuration_survives_its_own_file(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    (tmp_path / "all.toml").write_text(to_toml(config))
    # every value stands in the file, so that no base matters
    kinds: tuple[Kind | None, ...] = (None, "audio", "values")
    for kind in kinds:
        assert load_config(tmp_path / "all.toml", kind) == config


def test_the_configurations_of_the_shipped_networks_are_still_known() -> None:
    paths = sorted((ROOT / "models").glob("*/*/network.pt"))
    configs = {path: config for path in paths if (config := Checkpoint.load(path).config) is not None}
    assert len(configs) >= 2
    for path, config in configs.items():
        config_of_checkpoint(config, str(path))
    earlier = {"encoder": {"spikes": {"channels": 3, "step_s": 0.01}}}
    assert config_of_checkpoint(earlier, "best.pt").encoder.spikes.step_s == 0.01


def test_a_file_changes_its_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 3\n")
    assert load_config(path, "values").training.epochs == 3
    assert load_config(path, "values").network == load_config("values").network
    path.write_text('base = "speech-digits"\n[names]\nhello = "hello!"\n[training]\nepochs = 3\n')
    mine = load_config(path, "audio")
    assert mine.training.tied
    assert mine.names == {"hello": "hello!"}


def test_texts_of_any_kind_survive(tmp_path: Path) -> None:
    config = Config(
        description='a "quoted" \\ line\nand ü 🎤', names={"a b": "ä", "ü": "x", "": "nothing", "0": "zero"}
    )
    (tmp_path / "a.toml").write_text(to_toml(config), encoding="utf-8")
    assert load_config(tmp_path / "a.toml") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"epoch": 3}}, "there is no training.epoch: did you mean training.epochs?"),
        ({"trainin": {}}, "there is no trainin: did you mean training?"),
        ({"encoder": {"audio": {"bandz": 3}}}, "there is no encoder.audio.bandz: did you mean encoder.audio.bands?"),
        ({"network": {"channels": -1}}, "network: channels: -1 is below 0"),
        ({"zzz": 1}, "there is no zzz: the keys here are augmentation, decision"),
        ({"training": 3}, "training is a section"),
        ({"training": {"epochs": "many"}}, "training.epochs: Input should be a valid integer"),
        ({"training": {"epochs": 0}}, "training: epochs: 0 is below 1"),
        ({"training": {"learning_rate": -1.0}}, "learning_rate: -1.0 is not above 0"),
        ({"training": {"smoothing": 2.0}}, "smoothing: 2.0 is not in"),
        ({"training": {"warmup": 0.9, "final": 0.2}}, "leave no steps"),
        ({"seed": 1.5}, "seed: Input should be a valid integer"),
        ({"seed": -1}, "seed: -1 is not from 0 to 4294967295"),
        ({"seed": 2**70}, "is not from 0 to 4294967295"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate: inf is not finite"),
        ({"augmentation": {"values": {"noise": float("nan")}}}, "augmentation.values.noise: nan is not finite"),
        ({"neuron": {"tau_init_steps": [1.0, float("inf")]}}, "neuron.tau_init_steps: [1.0, inf] is not finite"),
        ({"neuron": {"decays": "axon"}}, "neuron.decays: Input should be"),
        ({"neuron": {"resonance": 3}}, "neuron.resonance is a section: write [neuron.resonance]"),
        ({"neuron": {"resonance": {"tau": [1.0, 2.0]}}}, "there is no neuron.resonance.tau: did you mean neuron.reson"),
        ({"neuron": {"resonance": {}}}, "neuron.resonance: needs potential 'membrane' and reset 'zero'"),
        ({"neuron": {"resonance": {"tau_steps": [3.0, 1.0]}}}, "neuron.resonance.tau_steps: (3.0, 1.0) is not 0 < low"),
        ({"encoder": {"audio": {"spacing_db": 0.0}}}, "spacing_db: 0.0 is not above 0"),
        ({"encoder": {"values": {"quantile": 0.5}}}, "quantile in"),
        ({"encoder": {"spikes": {"step_s": 0.0}}}, "step_s above 0"),
        ({"augmentation": {"audio": {"tempo": 0.5}}}, "tempo: 0.5 is below 1"),
        ({"augmentation": {"audio": {"noise_db": [0.0, -9.0]}}}, "noise_db: 0.0 is above -9.0"),
        ({"augmentation": {"audio": {"telephone": 1.5}}}, "telephone: 1.5 is above 1"),
        ({"augmentation": {"spikes": {"delete": 1.5}}}, "delete: 1.5 is above 1"),
        ({"augmentation": {"values": {"noise": -0.1}}}, "noise: -0.1 is below 0"),
        ({"split": {"validation": 0.0}}, "leave no training examples"),
        ({"split": {"every": 1}}, "split.every: 1 is below 2"),
        ({"delays": {"input": {"max_delay_steps": 300}}}, "max_delay_steps: 300 is not from 0 to 240"),
        ({"delays": {"input": {"taps": 3}}}, "need a max_delay_steps above 0"),
        ({"delays": {"input": {"tap": 3}}}, "did you mean delays.input.taps"),
        ({"delays": {"inputs": {"taps": 3}}}, "did you mean delays.input"),
    ],
)
def test_a_mistake_is_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_from(values, "mine.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("mine.toml: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read .*: give a TOML file, or one of audio, motion, speech-digits, spikes, values"),
        ("epochs =", "not TOML"),
        ('base = "sound"', "base: 'sound' is not one of audio"),
        ("seed = 2024-01-01", "dates and times"),
    ],
)
def test_a_file_that_is_none_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path, "audio")
