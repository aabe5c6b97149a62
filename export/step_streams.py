"""The streams that verify a step: examples, or seeded noise and spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.folder import ExportError
from export.graphs.step_graph import InputKind
from service.contract.graph_io import Float32Array

STREAMS, STEPS, SEED = 8, 24, 0
DENSITY = 0.1  # probability of a spike


def verification_streams(
    examples: Sequence[Any] | None, kind: InputKind, shape: tuple[int, ...], usual: Float32Array | None = None
) -> list[Float32Array]:
    """Make streams of different lengths.

    Args:
        examples: [steps, *shape] each; None for seeded ones.
        shape: shape of one step's input.
        usual: the input of every step without examples; None: noise or spikes.

    Returns:
        float32 [steps, channels] each.

    Raises:
        ExportError: an example has another shape, no step, or a value that is not finite or no spike.
    """
    channels = int(np.prod(shape))
    if examples is None:
        rng = np.random.default_rng(SEED)
        lengths = [STEPS, 1, *rng.integers(STEPS // 3, STEPS, STREAMS - 2)]
        if usual is not None:
            return [np.tile(usual.reshape(1, channels), (length, 1)) for length in lengths]
        if kind == "spikes":
            return [(rng.random((length, channels)) < DENSITY).astype(np.float32) for length in lengths]
        return [rng.normal(size=(length, channels)).astype(np.float32) for length in lengths]
    streams = []
    try:
        arrays = [np.asarray(example, np.float32) for example in examples]
    except (TypeError, ValueError) as error:
        raise ExportError(f"examples are no arrays of numbers ({error}): give a list of [steps, ...] each") from error
    for index, values in enumerate(arrays):
        if values.shape[1:] not in (shape, (channels,)) or not len(values):
            raise ExportError(
                f"example {index} has shape {list(values.shape)}: give [steps, {', '.join(map(str, shape))}] each, "
                "with a step at least"
            )
        if not np.isfinite(values).all():
            raise ExportError(f"example {index} has a value that is not finite: take it out")
        if kind == "spikes" and not np.isin(values, (0, 1)).all():
            raise ExportError(f"example {index} has a value that is no spike, 0 or 1: use input_kind='values'")
        streams.append(values.reshape(len(values), channels))
    if not streams:
        raise ExportError("examples is empty: give a stream at least, or leave it out")
    return streams
