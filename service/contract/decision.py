"""The decision rule in NumPy: class probabilities from a stream's score and its number of steps.

The other languages have theirs in ``hetsyn_model/readout.py`` (torch), ``export/network_graph.py`` (ONNX) and
``service/runtime/operators/decision.hpp`` (C++).
"""

from __future__ import annotations

import numpy as np

from service.contract.graph_io import Float32Array
from service.contract.manifest import Decision


def is_decided(decision: Decision, step: int) -> bool:
    """Whether a step that counts has been run.

    Args:
        decision: the rule.
        step: steps done since the stream's beginning.
    """
    return step > decision.skip_steps


def class_probabilities(
    decision: Decision, score: Float32Array, step: int, score_low: Float32Array | None = None
) -> Float32Array:
    """Class probabilities [outputs]; uniform before the first step that counts.

    Args:
        decision: the rule.
        score: [outputs], the manifest's ``decision.score``.
        step: steps done since the stream's beginning.
        score_low: [outputs], ``decision.score_low``; None where a score has one word.
    """
    if decision.rule == "spike_count" and score_low is not None:
        total = score.astype(np.float64) + score_low  # a float32 of a count above 2^24 would miss a spike
        return softmax((total - total.max()).astype(np.float32))
    if decision.rule != "sum_softmax":
        return softmax(score)
    if not is_decided(decision, step):
        return np.full_like(score, 1 / len(score))
    return score / np.float32(step - decision.skip_steps)


def softmax(values: Float32Array) -> Float32Array:
    """The softmax of one row, [n] to [n]."""
    powers = np.exp(values - values.max())
    shares: Float32Array = powers / powers.sum()
    return shares
