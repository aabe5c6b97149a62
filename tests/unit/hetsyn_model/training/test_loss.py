"""The loss on a decision's scores."""

from __future__ import annotations

import pytest
import torch

from hetsyn_model.readout import decide
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, Rule
from hetsyn_model.training.loss import score_loss


@pytest.mark.parametrize("sharpness", [10.0, None])
def test_late_steps_count_in_the_decision_and_not_in_its_training(sharpness: float | None) -> None:
    readout = torch.randn(3, 12, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    steps, target = torch.tensor([12, 5, 9]), torch.tensor([2, 0, 1])

    def rolled(rule: Rule) -> Rollout:
        decision = DecisionSpec(rule, skip_steps=2)
        return Rollout(readout, [], decide(decision, readout, steps), steps, decision)

    late, even = rolled("late_softmax"), rolled("sum_softmax")
    loss = score_loss(late, target, sharpness=sharpness)
    assert torch.equal(loss, score_loss(even, target, sharpness=sharpness))
    assert torch.autograd.grad(loss, readout)[0].abs().sum((0, 2))[2] > 0
    weight = torch.arange(-1, 11).clamp_min(0).double() ** 3 * (torch.arange(12) < steps.unsqueeze(1))
    shares = torch.softmax(readout.double(), -1) * (weight / weight.sum(1, keepdim=True)).unsqueeze(-1)
    assert torch.allclose(late.probabilities.double(), shares.sum(1), atol=1e-6)
    assert not torch.allclose(late.probabilities, even.probabilities, atol=0.01)
