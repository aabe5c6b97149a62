"""Losses on the class of a stream."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hetsyn_model.readout import decide
from hetsyn_model.rollout import Rollout


def score_loss(rolled: Rollout, target: Tensor, *, sharpness: float | None = 10.0, smoothing: float = 0.0) -> Tensor:
    """Compute the cross entropy of the decision's scores.

    The paper uses the sum of softmax as logits. Streams of different lengths need the mean, and the sharpness scales it
    to logits that can express certainty. A stream of which no step counts has no gradient.

    ``late_softmax`` is trained as ``sum_softmax``, all steps alike. Its own weights would train the end of a stream
    alone: answers in the middle of a word would be worse, and those at the end were no better in a trial.

    Args:
        target: int64 [b], classes.
        sharpness: factor on the mean of softmax; rules without softmax ignore it. None: the sum, as in the paper.
        smoothing: share of a label that is spread over all classes.
    """
    scores = rolled.scores
    if rolled.decision.rule == "late_softmax":
        scores = decide(replace(rolled.decision, rule="sum_softmax"), rolled.readout, rolled.steps)
    if rolled.decision.averages_softmax and sharpness is not None:
        counted = (rolled.steps - rolled.decision.skip_steps).clamp_min(1).unsqueeze(-1)
        scores = scores / counted * sharpness
    return cross_entropy(scores, target, label_smoothing=smoothing)


def late_loss(potential: Tensor, steps: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Compute the cross entropy of the readout at every step, weighted by the cube of a step's position.

    Args:
        potential: [batch, steps, classes], of the readout.
        steps: int64 [batch], length of each stream.
        target: int64 [batch], classes.
        smoothing: share of a label that is spread over all classes.
    """
    position = (torch.arange(potential.shape[1], device=potential.device) + 1) / steps.unsqueeze(-1)
    weight = torch.where(position <= 1.0, position**3, 0.0)
    each = cross_entropy(
        potential.flatten(0, 1),
        target.repeat_interleave(potential.shape[1]),
        reduction="none",
        label_smoothing=smoothing,
    ).view_as(weight)
    return ((each * weight).sum(1) / weight.sum(1)).mean()
