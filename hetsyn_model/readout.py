"""Decision rules and their accumulators: (score, step index) are state, like everything else.

The score of a stream is all that its decision needs. With the potential v_o and the spikes z_o of the output layer:

    sum_softmax   score(t) = score(t-1) + softmax(v_o(t))   arXiv 2508.11644, appendix D (speech)
    late_softmax  score(t) = score(t-1) + n^3 softmax(v_o(t))   step t is the n-th that counts
    spike_count   score(t) = score(t-1) + z_o(t)            appendix E (sequential MNIST)
    last          score(t) = v_o(t)                         appendix C (delayed match)
    trace         score(t) = v_o(t); no class comes out     appendix B (pattern generation)

The first ``skip_steps`` steps change no score. Probabilities are the softmax of the score, or a sum of softmaxes
divided by the sum of their weights: n, or 1 + 8 + ... + n^3 = (n (n + 1) / 2)^2.

Weights and their sum are float32 products in one order, so that every implementation has the same bits. n is a float32
too: a weight is off by 3e-7 of itself at most, their sum by 6e-7. Both are finite for six billion steps.

A sum in one float32 drifts, and stands still from 2^24 steps on. Therefore a score that adds up has two of them, by
Kahan's summation: ``decision.score_low`` is what the additions to ``decision.score`` have lost so far. The error is
below 2e-7 of the sum after 30 million steps. A stream may be cut anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP, State


def _evidence(decision: DecisionSpec, output: Tensor, step: Tensor) -> Tensor:
    """What the output layer says at each step, in the score's unit: the rule itself.

    Args:
        decision: the rule.
        output: [..., outputs].
        step: int64 [...], steps before this one.
    """
    evidence = torch.softmax(output, -1) if decision.sums_softmax else output
    if decision.rule != "late_softmax":
        return evidence
    number = (step + 1 - decision.skip_steps).to(output.dtype).unsqueeze(-1)
    return evidence * (number * number * number)


def decision_step(decision: DecisionSpec, state: State, output: Tensor) -> State:
    """One step of the accumulator.

    Args:
        decision: the rule.
        state: with the decision's tensors after the step before.
        output: [b, outputs], spikes of the output layer where the rule counts them, else its potential.

    Returns:
        The decision's tensors after this step.
    """
    score, step = state[DECISION_SCORE], state[DECISION_STEP]
    counts = (step >= decision.skip_steps).unsqueeze(-1)
    evidence = _evidence(decision, output, step)
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
    """The score of whole streams at once, from their first step: :func:`decision_step` at every step.

    Args:
        decision: the rule.
        output: [b, longest, outputs], as :func:`decision_step` takes it at one step.
        steps: int64 [b], length of each stream. Later steps do not count.

    Returns:
        [b, outputs].
    """
    index = torch.arange(output.shape[1], device=output.device)
    counts = ((index >= decision.skip_steps) & (index < steps.unsqueeze(-1))).unsqueeze(-1)
    if decision.adds_up:
        return torch.where(counts, _evidence(decision, output, index), 0.0).sum(1)
    if not output.shape[1]:
        return output.new_zeros(output.shape[0], output.shape[2])
    last = (steps - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, output.shape[2])
    return torch.where(steps.unsqueeze(-1) > decision.skip_steps, output.gather(1, last).squeeze(1), 0.0)


def probabilities(decision: DecisionSpec, score: Tensor, step: Tensor) -> Tensor:
    """Class probabilities from a score; uniform before the first step that counts.

    Args:
        decision: the rule.
        score: [b, outputs]. Counts of spikes above 2^24 need its float64 sum with the low words.
        step: int64 [b], number of steps done.

    Returns:
        [b, outputs].
    """
    if not decision.sums_softmax:
        return torch.softmax(score, -1)
    counted = (step - decision.skip_steps).clamp_min(0).to(score.dtype).unsqueeze(-1)
    weights = counted
    if decision.rule == "late_softmax":
        root = counted * 0.5 * (counted + 1)
        weights = root * root
    return torch.where(counted > 0, score / weights.clamp_min(1), torch.full_like(score, 1 / score.shape[-1]))
