"""Where the networks' states of sessions are kept between two chunks: the interface, and the host's memory.

The engine takes the rows of a batch, lets a graph advance them, and hands out the new rows. Only the memory looks into
a row; to everybody else it is a handle, to be kept or dropped. ``to_host`` alone shows its numbers, where a session is
stored or moved.

Rows are values: a graph's run makes new ones and leaves the old as they are, so a batch that fails has changed nothing.
``service/runtime/device_memory.py`` has the memory of a GPU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, cast

import numpy as np

from service.contract.graph_io import NEXT_STATE, STATE, Float32Array
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph

LARGEST_VALUE = 1e30
"""What a number of a state has to be below, plus or minus. It leaves room in float32 for what the next chunk adds."""
FEW_VALUES, SMALL_SQUARES = 8_192, 1e18  # see ``is_bounded``


class Row(Protocol):
    """A handle on the state of one stream's network, float32 [words]. It belongs to the memory that made it."""

    @property
    def nbytes(self) -> int: ...


class StateMemory(Protocol):
    """Memory for the states of one form of a model. May be used by several threads."""

    @property
    def is_host(self) -> bool:
        """Whether rows are read and made at once. A device's calls may wait for a batch that runs on it."""
        ...

    def from_host(self, values: Float32Array) -> Row:
        """A row with these values. The memory may keep the array: do not write to it afterwards.

        Args:
            values: [words].
        """
        ...

    def to_host(self, row: Row) -> Float32Array:
        """The values of a row, [words]; do not write to them."""
        ...

    def fetch(self, rows: Sequence[Row]) -> Collection[int]:
        """Bring the values of rows to the host together, so that ``to_host`` has them at once.

        Returns:
            The indices of rows out of bounds (``is_bounded``) that ``run`` has not seen to be so.
        """
        ...

    def run(
        self, graph: Graph, rows: Sequence[Row], inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> tuple[Sequence[Row], Mapping[str, Array], Collection[int]]:
        """Run a network graph on the streams of these rows.

        Args:
            inputs: of ``service.contract.graph_io``, for these streams, without ``state``.
            outputs: the names to return, without ``next.state``.

        Returns:
            The next rows, the named outputs on the host, and the indices of rows out of bounds (``is_bounded``). A
            memory that does not have the values on the host leaves this to ``fetch``.

        Raises:
            ArtifactError: the graph fails, or gives a state of another shape or type.
            Overloaded: the memory has no space for the next states.
        """
        ...


class HostMemory:
    """Rows are NumPy arrays.

    Args:
        model: its name, for error messages.
    """

    is_host = True

    def __init__(self, model: str) -> None:
        self._model = model

    def from_host(self, values: Float32Array) -> Row:
        return values

    def to_host(self, row: Row) -> Float32Array:
        return cast(Float32Array, row)

    def fetch(self, rows: Sequence[Row]) -> Collection[int]:  # noqa: ARG002
        """They are on the host."""
        return ()

    def run(
        self, graph: Graph, rows: Sequence[Row], inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> tuple[Sequence[Row], Mapping[str, Array], Collection[int]]:
        before = [self.to_host(row) for row in rows]
        states = before[0][np.newaxis] if len(before) == 1 else np.concatenate(before).reshape(len(before), -1)
        values = graph.run({**inputs, STATE: states}, [NEXT_STATE, *outputs])
        after = values[NEXT_STATE]
        check_like(self._model, NEXT_STATE, after, states)
        # a copy where a row would keep the whole batch in memory
        next_rows = [after[0]] if len(after) == 1 else [state.copy() for state in after]
        return next_rows, values, out_of_bounds(after)


def is_bounded(values: Array, limit: float = LARGEST_VALUE) -> bool:
    """Whether every number is finite and less than ``limit`` away from 0.

    Args:
        values: of any shape.
        limit: above 1e9.
    """
    # One call in place of two, at a third of the time for the state of one stream. For more values BLAS starts threads.
    if values.size <= FEW_VALUES and np.vdot(values, values) <= SMALL_SQUARES:
        return True
    return bool(-limit < np.minimum.reduce(values, axis=None) and np.maximum.reduce(values, axis=None) < limit)


def out_of_bounds(*tensors: Array) -> Collection[int]:
    """The indices b at which one of some tensors [b, ...] is not ``is_bounded``.

    All are checked at once, since hardly ever one is not.
    """
    if len(tensors) > 1 and len(tensors[0]) == 1 and sum(map(np.vdot, tensors, tensors)) <= SMALL_SQUARES:
        return ()  # as in ``is_bounded``; three small tensors of an encoder are checked in 1 us
    return {
        b for values in tensors if not is_bounded(values) for b, value in enumerate(values) if not is_bounded(value)
    }


def check_like(model: str, name: str, output: Array, before: Array) -> None:
    """Check the next value of a state against the value before, [b, ...].

    Args:
        model: its name, for the error message.
        name: of the graph's output.

    Raises:
        ArtifactError: the output has another shape or type.
    """
    if output.shape != before.shape or output.dtype != before.dtype:
        raise ArtifactError(
            f"model {model!r}: the graph gave {name} as {output.dtype}{list(output.shape)}, "
            f"its manifest has {before.dtype}{list(before.shape[1:])} a stream"
        )
