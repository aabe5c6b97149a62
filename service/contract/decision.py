"""The decision rule in NumPy: class probabilities from a stream's score and its number of steps.

The other languages have theirs in ``hetsyn_model/readout.py`` (torch), ``export/graphs/decision_graph.py`` (ONNX) and
``service/runtime/operators/decision.hpp`` (C++).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.contract.graph_io import Float32Array
from service.contract.manifest import Decision, Manifest

HIGHEST_PROBABILITY = 1.001
# A score of one float32 (format 2) drifts over tens of millions of steps, and the sum of the probabilities with it: an
# addition errs by up to its own size, and from 2^24 on it is lost.
LOWEST_SUM, HIGHEST_SUM = 1e-6, 2.0


def is_decided(decision: Decision, step: int) -> bool:
    """Return whether a stream of ``step`` steps is past those that do not count."""
    return step > decision.skip_steps


def label_of(manifest: Manifest, probabilities: Float32Array) -> str | None:
    """Return the likeliest label of ``probabilities``, [outputs], after a step that counts; None for null."""
    best = int(labels_of(manifest, probabilities[np.newaxis])[0])
    return None if best < 0 else manifest.labels[best]


def labels_of(manifest: Manifest, probabilities: Float32Array) -> NDArray[np.int64]:
    """Return the index of each row's label (``label_of``), int64 [rows]; -1 for null. Takes [rows, outputs]."""
    rejected = []
    if manifest.rejected_labels:
        rejected = [index for index, label in enumerate(manifest.labels) if label in manifest.rejected_labels]
    if manifest.acceptance_threshold is None:
        found = np.asarray(probabilities.argmax(axis=1), np.int64)
        if rejected:
            found[np.isin(found, rejected)] = -1
        return found
    named = probabilities.copy()
    named[:, rejected] = -1.0
    found = np.asarray(named.argmax(axis=1), np.int64)
    found[named.max(axis=1) < np.float32(manifest.acceptance_threshold)] = -1
    return found


def class_probabilities(
    decision: Decision, score: Float32Array, step: int, score_low: Float32Array | None = None
) -> Float32Array:
    """Compute the class probabilities, [outputs]; uniform before the first step that counts.

    Args:
        score: [outputs], the manifest's ``decision.score``.
        step: steps since the stream's beginning.
        score_low: [outputs], ``decision.score_low``; None if the score is one float32.
    """
    if decision.rule == "spike_count" and score_low is not None:
        total = score.astype(np.float64) + score_low  # a float32 of a count above 2^24 would miss a spike
        return softmax((total - total.max()).astype(np.float32))
    if not decision.averages_softmax:
        return softmax(score)
    if not is_decided(decision, step):
        return np.full_like(score, 1 / len(score))
    return _mean(decision, score, step - decision.skip_steps)


def is_distribution(probabilities: Sequence[float]) -> bool:
    """Return whether numbers, at least one, can be class probabilities: within 0 and 1, with a sum of about 1."""
    total = sum(probabilities)
    if not (LOWEST_SUM <= total <= HIGHEST_SUM and min(probabilities) >= 0):  # false if one is NaN
        return False
    return total <= HIGHEST_PROBABILITY or max(probabilities) <= HIGHEST_PROBABILITY


def are_distributions(probabilities: Float32Array) -> bool:
    """Return whether every row of [rows, outputs] passes ``is_distribution``."""
    sums = probabilities.sum(axis=1, dtype=np.float64)
    return bool(
        sums.min() >= LOWEST_SUM  # not so if one is NaN
        and sums.max() <= HIGHEST_SUM
        and probabilities.min() >= 0
        and probabilities.max() <= HIGHEST_PROBABILITY
    )


def _mean(decision: Decision, score: Float32Array, counted: int) -> Float32Array:
    """Compute the mean of the softmaxes so far, [outputs]."""
    return score if decision.rule == "late_softmax" else score / np.float32(counted)


def softmax(values: Float32Array) -> Float32Array:
    """Compute the softmax of one row, [n]."""
    powers = np.exp(values - values.max())
    shares: Float32Array = powers / powers.sum()
    return shares
