"""Where the networks' states of sessions are kept between two chunks: the interface, and the host's memory.

The engine takes the rows of a batch, lets a graph advance them, and hands out the new rows. Only the memory looks into
a row; to everybody else it is a handle, to be kept or dropped. ``to_host`` alone shows its numbers, where a session is
stored or moved.

Rows are values: a graph's run makes new ones and leaves the old as they are, so a batch that fails has changed nothing.
``service/runtime/device_memory.py`` has the memory of a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np

from service.contract.graph_io import NEXT_STATE, STATE, Float32Array
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph


class Row(Protocol):
    """A handle on the state of one stream's network, float32 [words]. It belongs to the memory that made it."""

    @property
    def nbytes(self) -> int: ...


class BatchStates(Protocol):
    """The states of a batch while its chunks are computed."""

    def run(self, graph: Graph, inputs: Mapping[str, Array], outputs: Sequence[str], count: int) -> Mapping[str, Array]:
        """Run a network graph on the first ``count`` streams and keep their next states.

        Args:
            graph: of the network.
            inputs: by name as in ``service.contract.graph_io``, for these streams, without ``state``.
            outputs: the names to return, without ``next.state``.
            count: streams that still have steps to do.

        Returns:
            The named outputs, on the host.

        Raises:
            ArtifactError: the graph fails, or gives a state of another shape or type.
            Overloaded: the memory has no space for the next states.
        """
        ...

    def rows(self) -> Sequence[Row]:
        """Each stream's row as it is now."""
        ...


class StateMemory(Protocol):
    """Memory for the states of one form of a model. May be used by several threads."""

    def from_host(self, values: Float32Array) -> Row:
        """A row with these values. The memory may keep the array: do not write to it afterwards.

        Args:
            values: [words].

        Raises:
            Overloaded: the memory has no space for it.
        """
        ...

    def to_host(self, row: Row) -> Float32Array:
        """The values of a row, [words]; do not write to them."""
        ...

    def batch(self, rows: Sequence[Row]) -> BatchStates:
        """The states of a batch that begins with these rows, all of this memory."""
        ...


class HostMemory:
    """Rows are NumPy arrays.

    Args:
        model: its name, for error messages.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def from_host(self, values: Float32Array) -> Row:
        return values

    def to_host(self, row: Row) -> Float32Array:
        return cast(Float32Array, row)

    def batch(self, rows: Sequence[Row]) -> BatchStates:
        return _HostBatch(self._model, cast(Sequence[Float32Array], rows))


class _HostBatch:
    def __init__(self, model: str, rows: Sequence[Float32Array]) -> None:
        self._model = model
        self._states: Float32Array = rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)

    def run(self, graph: Graph, inputs: Mapping[str, Array], outputs: Sequence[str], count: int) -> Mapping[str, Array]:
        before = self._states
        state = before if count == len(before) else before[:count]
        values = graph.run({**inputs, STATE: state}, [NEXT_STATE, *outputs])
        self._states = with_prefix_replaced(self._model, NEXT_STATE, before, values[NEXT_STATE])
        return values

    def rows(self) -> Sequence[Row]:
        # a copy where a row would keep the whole batch in memory
        return [self._states[0]] if len(self._states) == 1 else [state.copy() for state in self._states]


def with_prefix_replaced(model: str, name: str, before: Array, new: Array) -> Array:
    """``before`` [b, ...] with its first rows replaced by the graph's output for them.

    Args:
        model: its name, for the error message.
        name: of the graph's output.
        before: [b, ...].
        new: [b' <= b, ...].

    Raises:
        ArtifactError: the output has another shape or type than the input had.
    """
    if new.shape[1:] != before.shape[1:] or new.dtype != before.dtype or len(new) > len(before):
        raise ArtifactError(
            f"model {model!r}: the graph gave {name} as {new.dtype}{list(new.shape)}, "
            f"its manifest has {before.dtype}{list(before.shape[1:])} a stream"
        )
    return new if len(new) == len(before) else np.concatenate([new, before[len(new) :]])
