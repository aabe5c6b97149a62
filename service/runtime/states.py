"""Runs a network's graph on the states of streams, and checks their numbers.

A stream's state is a row, float32 [words]. A run makes new rows and leaves the old ones unchanged, so a failed batch
has changed nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from service.contract.graph_io import NEXT_STATE, STATE, Float32Array
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph, Sound

LARGEST_VALUE = 1e30
"""What a number of a state has to be below, plus or minus. It leaves room in float32 for what the next chunk adds."""
FEW_VALUES, SMALL_SQUARES = 8_192, 1e18  # ``is_bounded`` uses a sum of squares up to these


def run_network(
    model: str, graph: Graph, rows: Sequence[Float32Array], inputs: Mapping[str, Array], outputs: Sequence[str]
) -> tuple[list[Float32Array], Mapping[str, Array], Collection[int]]:
    """Run a network's graph on the streams of some rows.

    Args:
        rows: the state of each stream.
        inputs: the graph's other inputs (``service.contract.graph_io``) for these streams.
        outputs: the names to return, without ``next.state``.

    Returns:
        The next rows, the named outputs, and the indices of rows out of bounds (``is_bounded``).

    Raises:
        ArtifactError: the graph fails, or gives a state of another shape or type.
    """
    states = rows[0][np.newaxis] if len(rows) == 1 else np.concatenate(rows).reshape(len(rows), -1)
    values = graph.run({**inputs, STATE: states}, [NEXT_STATE, *outputs])
    after = values[NEXT_STATE]
    check_like(model, NEXT_STATE, after, states)
    # copy if a row would keep the whole batch in memory
    next_rows = [after[0]] if len(after) == 1 else [state.copy() for state in after]
    return next_rows, values, () if isinstance(values, Sound) else out_of_bounds(after)


def is_bounded(values: Array, limit: float = LARGEST_VALUE) -> bool:
    """Return whether every number is finite and less than ``limit`` away from 0. The limit is above 1e9."""
    # One call, not two, takes a third of the time for one stream's state. For more values BLAS would start threads.
    if values.size <= FEW_VALUES and np.vdot(values, values) <= SMALL_SQUARES:
        return True
    return bool(-limit < np.minimum.reduce(values, axis=None) and np.maximum.reduce(values, axis=None) < limit)


def out_of_bounds(*tensors: Array) -> Collection[int]:
    """Return the indices b at which one of the tensors [b, ...] is not ``is_bounded``.

    All are checked at once first, since it is rare that one is not.
    """
    if len(tensors) > 1 and len(tensors[0]) == 1 and sum(map(np.vdot, tensors, tensors)) <= SMALL_SQUARES:
        return ()  # as in ``is_bounded``; three small tensors of an encoder are checked in 1 us
    return {
        b for values in tensors if not is_bounded(values) for b, value in enumerate(values) if not is_bounded(value)
    }


def check_like(model: str, name: str, output: Array, before: Array) -> None:
    """Check the graph's output ``name``, the next value of a state, against the value before, [b, ...].

    Raises:
        ArtifactError: the output has another shape or type.
    """
    if output.shape != before.shape or output.dtype != before.dtype:
        raise ArtifactError(
            f"model {model!r}: the graph gave {name} as {output.dtype}{list(output.shape)}, "
            f"its manifest has {before.dtype}{list(before.shape[1:])} a stream"
        )
