"""The optimiser's step: what decays, what is clipped, and the schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import NetworkSpec, variant
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.history import History, ValidationResult
from hetsyn_model.training.loop import Optimisation, train

SPEC = NetworkSpec(channels=3, hidden=(4,), outputs=2, dropout=0.0, neuron=variant("hetsyn"))


class Scaled:
    """One batch, and the sum of the readout times a factor as the loss."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        for _ in range(first, last):
            yield Batch.of(np.ones((2, 5, 3), bool), torch.tensor([0, 1]))

    def forward(self, model: Network, batch: Batch) -> Rollout:
        return model.rollout(batch.events, "exact", batch.steps)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:  # noqa: ARG002
        return self.factor * rolled.readout.sum()

    def measure(self, rolled: Rollout, batch: Batch) -> Mapping[str, Tensor]:  # noqa: ARG002
        return {}

    def evaluate(self, model: Network) -> ValidationResult:  # noqa: ARG002
        return ValidationResult(0.5, 1.0, {"seen": 0.25})

    def better(self, a: ValidationResult, b: ValidationResult) -> bool:  # noqa: ARG002
        return True

    def checkpoint(self, model: Network, update: int) -> bytes:  # noqa: ARG002
        return b"none"


def one_update(
    folder: Path, factor: float, *, masks: dict[str, Tensor] | None = None, **changes: Any
) -> tuple[Network, Network, History]:
    """A network before and after one update."""
    before, after = Network(SPEC, seed=1), Network(SPEC, seed=1)
    how = {"learning_rate": 0.1, "bank_size": 2, "decay_rate_factor": 2.0} | changes
    history = train(folder, {}, after, Scaled(factor), Optimisation(1, 1, schedule=lambda _: 1.0, **how), masks=masks)
    return before, after, history


def test_weights_and_decays_have_a_weight_decay_each(tmp_path: Path) -> None:
    before, after, _ = one_update(tmp_path, 0.0, weight_decay=0.5, decay_weight_decay=0.2)
    for (name, start), (_, end) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        kept = 1 - 0.1 * 2.0 * 0.2 if name in before.decays() else 1 - 0.1 * 0.5
        assert torch.allclose(end, kept * start, rtol=1e-6), name


def test_masked_decays_stay_where_they_are(tmp_path: Path) -> None:
    name, decays = "layers.0.r_in", Network(SPEC, seed=1).layer("hidden1").r_in
    mask = torch.rand(decays.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    before, after, _ = one_update(tmp_path, 1.0, decay_weight_decay=0.2, masks={name: mask})
    stayed = before.decays()[name] == after.decays()[name]
    assert torch.equal(stayed, mask)


def test_a_gradient_is_clipped_unless_there_is_no_limit(tmp_path: Path) -> None:
    # far below Adam's epsilon a gradient moves nothing, so a tiny limit shows
    for name, clip, moves in (("none", None, True), ("tiny", 1e-14, False)):
        before, after, _ = one_update(tmp_path / name, 1e3, clip=clip)
        moved = (after.layer("readout").w_in - before.layer("readout").w_in).detach().abs().max()
        assert (float(moved) > 0.05) == moves
