"""Decision rules. The score of a stream and its number of steps are state; class probabilities need nothing else.

With the potential v_o and the spikes z_o of the output layer:

    sum_softmax   score(t) = score(t-1) + softmax(v_o(t))   arXiv 2508.11644, appendix D (speech)
    late_softmax  score(t) = score(t-1) + s(n) (softmax(v_o(t)) - score(t-1)),  s(n) = 4 n / (n + 1)^2
    spike_count   score(t) = score(t-1) + z_o(t)            appendix E (sequential MNIST)
    last          score(t) = v_o(t)                         appendix C (delayed match)
    trace         score(t) = v_o(t); no class comes out     appendix B (pattern generation)

The first ``skip_steps`` steps change no score; n counts the others.

The score of ``late_softmax`` is the mean in which step n counts n^3 times, since 1 + 8 + ... + n^3 is
(n (n + 1) / 2)^2. The sum itself would leave what a state may hold after 44 million steps. All of s(n) is float32, in
one order, so that every implementation has its bits.

A sum in one float32 stands still from 2^24 steps on. So a score that adds up has a second number (Kahan's summation):
``decision.score_low`` is what the additions to ``decision.score`` have lost so far. The error is below 2e-7 of the sum
after 30 million steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP, State


def _evidence(decision: DecisionSpec, output: Tensor) -> Tensor:
    """Compute what a step adds to the score, before ``late_softmax`` weights the steps."""
    return torch.softmax(output, -1) if decision.averages_softmax else output


def _share(decision: DecisionSpec, step: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute s(n), the share in the mean of ``late_softmax``, of the step that follows ``step`` steps."""
    number = (step + 1 - decision.skip_steps).to(dtype)
    return 4 * number / ((number + 1) * (number + 1))


def decision_step(decision: DecisionSpec, state: State, output: Tensor) -> State:
    """Run one step of the score, and return the decision's tensors after it.

    Args:
        output: [b, outputs], spikes of the output layer where the rule counts them, else its potential.
    """
    score, step = state[DECISION_SCORE], state[DECISION_STEP]
    counts = (step >= decision.skip_steps).unsqueeze(-1)
    evidence = _evidence(decision, output)
    if decision.rule == "late_softmax":
        evidence = (evidence - score) * _share(decision, step, score.dtype).unsqueeze(-1)
    after = {DECISION_STEP: step + 1}
    if decision.adds_up:
        gain = torch.where(counts, evidence, torch.zeros_like(score))
        value = gain + state[DECISION_SCORE_LOW]
        after[DECISION_SCORE] = score + value
        after[DECISION_SCORE_LOW] = value - (after[DECISION_SCORE] - score)
    else:
        after[DECISION_SCORE] = torch.where(counts, evidence, score)
    return after


def decide(decision: DecisionSpec, output: Tensor, steps: Tensor) -> Tensor:
    """Compute the score [b, outputs] of whole streams at once, as :func:`decision_step` does step by step.

    Args:
        output: [b, longest, outputs], what :func:`decision_step` takes at each step.
        steps: int64 [b], length of each stream. Later steps do not count.
    """
    index = torch.arange(output.shape[1], device=output.device)
    counts = ((index >= decision.skip_steps) & (index < steps.unsqueeze(-1))).unsqueeze(-1)
    if decision.adds_up:
        counted = torch.where(counts, _evidence(decision, output), 0.0)
        if decision.rule != "late_softmax":
            return counted.sum(1)
        weight = torch.where(counts, (index + 1 - decision.skip_steps).unsqueeze(-1).to(output.dtype) ** 3, 0.0)
        return (counted * weight).sum(1) / weight.sum(1).clamp_min(1)
    if not output.shape[1]:
        return output.new_zeros(output.shape[0], output.shape[2])
    last = (steps - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, output.shape[2])
    evidence = _evidence(decision, output.gather(1, last).squeeze(1))
    return torch.where(steps.unsqueeze(-1) > decision.skip_steps, evidence, 0.0)


def probabilities(decision: DecisionSpec, score: Tensor, step: Tensor) -> Tensor:
    """Compute class probabilities [b, outputs] from a score; they are equal before the first step that counts.

    Args:
        score: [b, outputs]. For counts of spikes above 2^24, the float64 sum of ``score`` and ``score_low``.
        step: int64 [b], number of steps done.
    """
    if not decision.averages_softmax:
        return torch.softmax(score, -1)
    counted = (step - decision.skip_steps).clamp_min(0).to(score.dtype).unsqueeze(-1)
    mean = score if decision.rule == "late_softmax" else score / counted.clamp_min(1)
    return torch.where(counted > 0, mean, torch.full_like(score, 1 / score.shape[-1]))
