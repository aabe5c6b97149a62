"""Decision rules and their accumulators: (score, step index) are state, like everything else.

The score of a stream is all that its decision needs:

    sum_softmax   score += softmax(v_o(t)) at every step that counts
    spike_count   score += z_o(t)
    last          score  = v_o(t)
    trace         score  = v_o(t); no class comes out of it
"""

from __future__ import annotations

import torch
from torch import Tensor

from hetsyn_model.spec import DecisionSpec


def decision_step(
    decision: DecisionSpec, score: Tensor, step: Tensor, potential: Tensor, spikes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step of the accumulator.

    Args:
        score: [b, outputs]; step: int64 [b], index of this step.
        potential, spikes: [b, outputs] of the output layer; spikes only for ``spike_count``.

    Returns:
        score and step index for the next step.
    """
    counts = (step >= decision.skip_steps).unsqueeze(-1)
    if decision.rule == "sum_softmax":
        score = score + torch.where(counts, torch.softmax(potential, -1), torch.zeros_like(score))
    elif decision.rule == "spike_count":
        assert spikes is not None
        score = score + torch.where(counts, spikes, torch.zeros_like(score))
    else:
        score = torch.where(counts, potential, score)
    return score, step + 1


def decide(decision: DecisionSpec, potential: Tensor, spikes: Tensor | None, steps: Tensor) -> Tensor:
    """Score [b, outputs] of whole streams at once, from the start.

    Args:
        potential, spikes: [b, longest, outputs]; spikes only for ``spike_count``.
        steps: int64 [b], length of each stream; what comes after it does not count.
    """
    index = torch.arange(potential.shape[1])
    counts = ((index >= decision.skip_steps) & (index < steps.unsqueeze(-1))).unsqueeze(-1)
    if decision.rule == "sum_softmax":
        return torch.where(counts, torch.softmax(potential, -1), 0.0).sum(1)
    if decision.rule == "spike_count":
        assert spikes is not None
        return torch.where(counts, spikes, 0.0).sum(1)
    last = (steps - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, potential.shape[2])
    if not potential.shape[1]:
        return potential.new_zeros(potential.shape[0], potential.shape[2])
    return torch.where(steps.unsqueeze(-1) > decision.skip_steps, potential.gather(1, last).squeeze(1), 0.0)


def probabilities(decision: DecisionSpec, score: Tensor, step: Tensor) -> Tensor:
    """Class probabilities [b, outputs] from a score; uniform before the first step that counts.

    Args:
        score: [b, outputs]; step: int64 [b], number of steps done.
    """
    if decision.rule != "sum_softmax":
        return torch.softmax(score, -1)
    counted = (step - decision.skip_steps).clamp_min(0).to(score.dtype).unsqueeze(-1)
    return torch.where(counted > 0, score / counted.clamp_min(1), torch.full_like(score, 1 / score.shape[-1]))
