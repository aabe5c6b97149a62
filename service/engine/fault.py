"""Finds what is at fault when a chunk left a state or an answer out of range.

A chunk with huge values is at fault. If the state before the chunk was already too large, the session is at fault. Else
the model is.
"""

from __future__ import annotations

import numpy as np

from service.contract.decision import class_probabilities
from service.contract.graph_io import Float32Array
from service.engine.work import Piece
from service.errors import ArtifactError, HetsynError, InputError, StateBroken
from service.models.model import Model
from service.runtime.states import is_bounded

SOUND_INPUT = 1e3  # plus or minus; models are trained on values of about 1
SOUND_VALUE = 1e12  # far above a network's numbers (a day's scores are below 1e8), far below an overflow


def fault(model: Model, piece: Piece) -> HetsynError:
    """Make the error for a chunk that left numbers out of range in this piece."""
    before = piece.job.stream
    if piece.values.size and not np.abs(piece.values).max() <= SOUND_INPUT:
        return out_of_range(model)
    if all(is_bounded(value, SOUND_VALUE) for value in (before.network, *before.encoder.values())):
        return ArtifactError(
            f"model {model.name!r} version {model.version!r} gave numbers that are not finite, too large, no "
            "probabilities or a wrong count of steps, from a sound state: check it, and export it again"
        )
    return broken()


def out_of_range(model: Model) -> InputError:
    return InputError(
        f"the chunk has values beyond {SOUND_INPUT:g}, from which model {model.name!r} comes to numbers out of "
        "range: scale them as those that it was trained on; this chunk was not applied"
    )


def broken() -> StateBroken:
    return StateBroken(
        "the session's state has numbers out of range, and no chunk can go on from it: delete the session, and begin "
        "another, under a new id; this chunk was not applied"
    )


def score_of_row(model: Model, row: Float32Array) -> tuple[Float32Array, Float32Array | None]:
    """Return the score in a row of the network's state: the row's last tensors.

    Returns:
        ``decision.score``, [outputs], and ``decision.score_low``, [outputs] or None.
    """
    outputs = model.manifest.outputs
    low = row[-2 * outputs : -outputs] if model.manifest.network.has_score_low else None
    return row[-outputs:], low


def probabilities_of_row(model: Model, row: Float32Array, step: int) -> Float32Array:
    """Compute the class probabilities of a stream, [outputs], from its network's state, [words], and steps so far."""
    score, low = score_of_row(model, row)
    return class_probabilities(model.manifest.decision, score, step, low)
