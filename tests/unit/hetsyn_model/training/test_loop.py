"""Training: it learns, it is repeatable, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hetsyn_model import Network
from hetsyn_model.encoders.encoder import Encoder
from hetsyn_model.run_folder import RunError
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import TrainSpec
from hetsyn_model.training.datasets.data import Recording
from hetsyn_model.training.encoding.augment import AugmentSpec, augment_batch, encode_batch
from hetsyn_model.training.encoding.front import AudioFront
from hetsyn_model.training.history import History
from hetsyn_model.training.labelled import LabelledSplit, RunOptions, accuracy, classify, train_labelled
from hetsyn_model.training.loop import Callbacks
from hetsyn_model.training.plot import plot_curves
from tests.support.data.words import AUGMENT, ENCODER, NETWORK, TRAIN, words

FRONT = AudioFront(ENCODER, AUGMENT)


def train_words(
    out: Path,
    how: TrainSpec,
    real: list[Recording],
    extra: list[Recording],
    *,
    seed: int = 0,
    callbacks: Callbacks | None = None,
) -> Network:
    options = RunOptions(seed=seed, callbacks=callbacks)
    train_labelled(out, NETWORK, FRONT, how, LabelledSplit(real, extra, words(15, 2)), options)
    return Checkpoint.load(out / "best.pt").network


def train(out: Path, *, epochs: int = 3, seed: int = 0, stop_after: int | None = None) -> Network:
    def stop(history: History) -> None:
        if len(history.update) - 1 == stop_after:
            raise KeyboardInterrupt

    return train_words(
        out,
        replace(TRAIN, epochs=epochs),
        words(48, 0),
        words(24, 1),
        seed=seed,
        callbacks=Callbacks(on_evaluation=stop),
    )


def test_it_learns_and_leaves_its_metrics(tmp_path: Path) -> None:
    network = train(tmp_path, epochs=6)
    history = History(**json.loads((tmp_path / "metrics.json").read_text()))
    assert history.validation[history.chosen] > 0.8
    assert len(history.loss) == len(history.measures["train_accuracy"]) == len(history.seconds) == 6
    labels, probabilities = classify(network, FRONT, words(15, 2), TRAIN.tail_steps)
    assert accuracy(labels, words(15, 2)) == history.validation[history.chosen]
    assert torch.allclose(probabilities.sum(-1), torch.ones(15), atol=1e-5)
    plot_curves(history, tmp_path / "curves.png", "test")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", stop_after=1)
    resumed, straight = train(tmp_path / "killed"), train(tmp_path / "straight")
    for a, b in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(a, b)
    loss = [json.loads((tmp_path / run / "metrics.json").read_text())["loss"] for run in ("killed", "straight")]
    assert loss[0] == loss[1]


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_after=1)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"checkpoint.pt: cannot be continued from \(.*\): choose another folder"):
            train(tmp_path)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    with pytest.raises(
        RunError, match=r"contains a run that differs in seed \(0 there, 1 now\): give that run's values"
    ):
        train(tmp_path, epochs=1, seed=1)
    with pytest.raises(RunError, match="differs in recordings"):
        train_words(tmp_path, replace(TRAIN, epochs=1), words(48, 9), words(24, 1))


def test_without_augmentation_the_spikes_are_those_of_the_server() -> None:
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
    assert a.target.tolist() == [0, 1, 2, 0, 1, 2]
    assert int(a.steps.max()) == a.events.steps
