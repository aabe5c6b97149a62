"""Delays in training: they are learned, settle on whole steps, and are served as they were last evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hetsyn_model.spec import SpecError
from hetsyn_model.training import fit
from hetsyn_model.training.schedule import DelayTraining

SETTINGS: dict[str, Any] = {
    "network": {"hidden": [12], "recurrent": False, "dropout": 0.0},
    # a neuron whose synapses forget at once, so that only delays can bring two spikes together
    "neuron": {"potential": "membrane", "reset": "zero", "decay_range": [0.0, 0.0], "tau_reset_steps": 0.2},
    "delays": {"input": {"max_delay_steps": 12}, "training": {"rate": 0.3, "spread_steps": 6.0}},
    "training": {"epochs": 12, "batch": 16, "learning_rate": 2e-2, "average": 0.8, "late": 0.0},
}


def lags(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Two channels spike once; the class says whether the second does so three or nine steps later."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    spikes = np.zeros((count, 30, 2), np.uint8)
    first = rng.integers(0, 12, count)
    spikes[np.arange(count), first, 0] = 1
    spikes[np.arange(count), first + np.where(labels, 9, 3), 1] = 1
    return spikes, labels


@pytest.mark.process
def test_a_network_without_other_memory_tells_lags_apart(tmp_path: Path) -> None:
    spikes, labels = lags(256, 0)
    fitted = fit(spikes, labels, config=SETTINGS, out=tmp_path / "run")
    fresh, truth = lags(64, 9)
    served = fitted.network.rollout(torch.from_numpy(fresh).float())
    assert (served.scores.argmax(-1).numpy() == truth).mean() > 0.95
    without: dict[str, Any] = {**SETTINGS, "delays": {}}
    blind = fit(spikes, labels, config=without).network.rollout(torch.from_numpy(fresh).float())
    assert (blind.scores.argmax(-1).numpy() == truth).mean() < 0.75
    again = fit(spikes, labels, config=SETTINGS, out=tmp_path / "run")  # a finished run is left alone
    assert again.history.validation == fitted.history.validation


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"spread_steps": -1.0}, {"settled": 0.0}, {"settled": 1.1}])
def test_a_schedule_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="give a rate above 0"):
        DelayTraining(**wrong)
