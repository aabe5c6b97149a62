"""Training: it learns, it is repeatable, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hetsyn_model import Network
from hetsyn_model.encoder import Encoder
from hetsyn_model.run_folder import RunError
from hetsyn_model.training.augment import AugmentSpec, augment_batch, encode_batch
from hetsyn_model.training.data import Recording
from hetsyn_model.training.loop import Metrics, TrainSpec, accuracy, classify, rate_at, train_run
from hetsyn_model.training.plot import plot_curves
from tests.support.small_network import ENCODER, NETWORK

TRAIN = TrainSpec(
    epochs=3,
    batch=8,
    learning_rate=1e-2,
    bank_size=4,
    tail_steps=4,
    served_tail_steps=4,
    average=0.9,
    augment=AugmentSpec(noise_db=(-60, -30), mask_bands=1, mask_steps=1, shift_bands=0),
)


def words(count: int, seed: int) -> list[Recording]:
    """Three 'words' that differ in pitch."""
    rng = np.random.default_rng(seed)
    n = np.arange(1600)
    made = []
    for take in range(count):
        label = take % 3
        hz = (400, 1100, 2600)[label] * rng.uniform(0.95, 1.05)
        audio = 0.3 * np.hanning(n.size) * np.sin(2 * np.pi * hz * n / 8000) + 0.001 * rng.normal(size=n.size)
        made.append(Recording(audio.astype(np.float32), label, "synth", take))
    return made


def train(out: Path, *, epochs: int = 3, seed: int = 0, stop_after: int | None = None) -> Network:
    def stop(epoch: int, _: Metrics) -> None:
        if epoch == stop_after:
            raise KeyboardInterrupt

    return train_run(
        out,
        NETWORK,
        ENCODER,
        replace(TRAIN, epochs=epochs),
        words(48, 0),
        words(24, 1),
        words(15, 2),
        seed=seed,
        on_epoch=stop,
    )


def test_it_learns_and_leaves_its_metrics(tmp_path: Path) -> None:
    network = train(tmp_path, epochs=6)
    metrics = Metrics(**json.loads((tmp_path / "metrics.json").read_text()))
    assert metrics.validation_accuracy[metrics.best_epoch] > 0.8
    assert len(metrics.loss) == 6
    labels, probabilities = classify(network, Encoder(ENCODER), words(15, 2), TRAIN.tail_steps)
    assert accuracy(labels, words(15, 2)) == metrics.validation_accuracy[metrics.best_epoch]
    assert torch.allclose(probabilities.sum(-1), torch.ones(15), atol=1e-5)
    plot_curves(metrics, tmp_path / "curves.png", "test")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", stop_after=1)
    resumed, straight = train(tmp_path / "killed"), train(tmp_path / "straight")
    for a, b in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(a, b)
    loss = [json.loads((tmp_path / run / "metrics.json").read_text())["loss"] for run in ("killed", "straight")]
    assert loss[0] == loss[1]


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    with pytest.raises(RunError, match="another seed"):
        train(tmp_path, epochs=1, seed=1)
    with pytest.raises(RunError, match="another recordings"):
        train_run(tmp_path, NETWORK, ENCODER, replace(TRAIN, epochs=1), words(48, 9), words(24, 1), words(15, 2))


@pytest.mark.parametrize("tied", [False, True])
def test_a_pupil_of_teachers_alone_learns_in_spite_of_its_labels(tied: bool, tmp_path: Path) -> None:
    settings = replace(TRAIN, tied=tied, taught=1.0, epochs=8)
    teacher = train_run(tmp_path / "teacher", NETWORK, ENCODER, settings, words(48, 0), words(24, 1), words(15, 2))
    wrong = [replace(word, label=(word.label + 1) % NETWORK.outputs) for word in words(48, 0)]
    pupil = train_run(
        tmp_path / "pupil", NETWORK, ENCODER, settings, wrong, [], words(15, 2), seed=1, teachers=[teacher, teacher]
    )
    for network in (teacher, pupil):
        labels, _ = classify(network, Encoder(ENCODER), words(15, 2), TRAIN.tail_steps)
        assert accuracy(labels, words(15, 2)) > 0.8
    with pytest.raises(RunError, match="another teachers"):
        train_run(tmp_path / "pupil", NETWORK, ENCODER, settings, wrong, [], words(15, 2), seed=1)


def test_the_rate_rises_falls_and_stays() -> None:
    rates = [rate_at(p, TRAIN) for p in np.linspace(0, 1, 201)]
    peak = int(np.argmax(rates))
    assert rates[0] == 0.0
    assert peak == round(200 * TRAIN.warmup)
    assert rates[peak] == pytest.approx(1.0)
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert rates[-1] == pytest.approx(0.02)
    assert rates[-5] == pytest.approx(0.02)


def test_without_augmentation_the_server_would_hear_the_same() -> None:
    encoder, (word,) = Encoder(ENCODER), words(1, 3)
    batch = encode_batch(encoder, [word], 5)
    spikes, _ = encoder.step(
        torch.from_numpy(np.concatenate([word.audio, np.zeros(400, np.float32)]))[None], encoder.initial_state(1)
    )
    assert torch.equal(batch.events.dense(), spikes.float())
    assert batch.steps.tolist() == [25]


def test_augmentation_is_seeded_and_keeps_labels() -> None:
    encoder, some = Encoder(ENCODER), words(6, 4)
    a, b, c = (augment_batch(encoder, some, 5, AugmentSpec(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(a.events.dense(), b.events.dense())
    assert a.events.units.numel() != c.events.units.numel() or not torch.equal(a.events.units, c.events.units)
    assert a.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert int(a.steps.max()) == a.events.steps
