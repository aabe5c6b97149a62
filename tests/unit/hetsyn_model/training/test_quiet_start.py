"""Training on streams that begin in the state that silence leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import ConfigError, TrainSpec, load_config
from hetsyn_model.training.fitting import fit
from hetsyn_model.training.front import AudioFront
from hetsyn_model.training.labelled import LabelledSplit, RunOptions, accuracy, classify, train_labelled
from tests.support.words import AUGMENT, ENCODER, NETWORK, TRAIN, words

QUIET_STEPS = 12
HEARS = replace(ENCODER, contrast=0.5)  # silence lies above one of its thresholds
FRONT = AudioFront(HEARS, AUGMENT, QUIET_STEPS)


def test_a_batch_has_what_came_before_it() -> None:
    items = words(6, 0)
    plain, batch = AudioFront(HEARS, AUGMENT).encode(items, 4), FRONT.encode(items, 4)
    assert plain.before is None
    assert batch.before is not None
    assert (batch.before.batch, batch.before.steps) == (1, QUIET_STEPS)
    # silence is not heard twice: each band rises from it, and not from nothing
    assert batch.events.units.numel() < plain.events.units.numel()
    assert batch.to("cpu").streams(0, 2).before is not None


def test_it_learns_and_its_checkpoint_says_where_it_begins(tmp_path: Path) -> None:
    how = replace(TRAIN, epochs=6, quiet_s=QUIET_STEPS * ENCODER.step_s)
    data = LabelledSplit(words(48, 0), words(24, 1), words(15, 2))
    history = train_labelled(tmp_path, NETWORK, FRONT, how, data, RunOptions())
    saved = Checkpoint.load(tmp_path / "best.pt")
    assert saved.quiet_steps == QUIET_STEPS
    assert history.validation[history.chosen] > 0.8
    labels, _ = classify(saved.network, FRONT, words(15, 2), TRAIN.served_tail_steps)
    assert accuracy(labels, words(15, 2)) == history.validation[history.chosen]


def test_values_have_no_silence() -> None:
    rng = np.random.default_rng(0)
    series = [rng.normal(size=(10, 2)).astype(np.float32) for _ in range(20)]
    config = {"training": {"quiet_s": 0.3, "epochs": 1}}
    with pytest.raises(ConfigError, match=r"training\.quiet_s: a series of values has no silence .* set it to 0"):
        fit(series, [index % 2 for index in range(20)], config=config)


def test_a_silence_of_no_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="quiet_s: -1 is not from 0 to 60 seconds"):
        load_config({"training": {"quiet_s": -1.0}}, "audio")
    assert TrainSpec().quiet_s == 0.0
