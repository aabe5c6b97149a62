"""Where the networks' states of sessions are between two chunks: the seam, and the host's memory.

The engine takes the rows of a batch, lets a graph change them, and hands out the rows that come of it; what a row is,
the memory alone knows. To all others it is a handle that may be kept and dropped. Its numbers are seen through
``to_host`` alone: where a session is stored or moved.

Rows are values: a graph's run makes new ones and leaves the old as they are, so a batch that fails has changed nothing.
``service/runtime/device_memory.py`` has the memory of a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from service.contract.graph_io import NEXT_STATE, STATE
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph

Floats: TypeAlias = NDArray[np.float32]


class Row(Protocol):
    """The state of one stream's network; float32 [words] somewhere."""

    @property
    def nbytes(self) -> int: ...


class BatchStates(Protocol):
    """The states of a batch while its chunks are computed."""

    def run(self, graph: Graph, given: dict[str, Array], asked: Sequence[str], count: int) -> dict[str, Array]:
        """The outputs ``asked`` for, on the host; the states of the first ``count`` streams go on.

        Args:
            given: the network graph's inputs for these streams but ``state`` (``service.contract``), which comes into
                it. asked: without ``next.state``.

        Raises:
            ArtifactError: the graph fails, or gives a state of another shape or type.
            Overloaded: there is no room for the new states.
        """
        ...

    def rows(self) -> list[Any]:
        """A row of each stream, as it is now."""
        ...


class StateMemory(Protocol):
    """Memory for the states of one form of a model. May be used by several threads."""

    def from_host(self, values: Floats) -> Any:
        """A row of these values. The memory may keep the array: do not write to it afterwards.

        Raises:
            Overloaded: there is no room for it.
        """
        ...

    def to_host(self, row: Any) -> Floats:
        """The values of a row, not to be written to."""
        ...

    def batch(self, rows: Sequence[Any]) -> BatchStates:
        """The states of a batch that begins with these rows."""
        ...


class HostMemory:
    """Rows are NumPy arrays.

    Args:
        model: its name, for what goes wrong.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def from_host(self, values: Floats) -> Floats:
        return values

    def to_host(self, row: Any) -> Floats:
        return cast(Floats, row)

    def batch(self, rows: Sequence[Any]) -> BatchStates:
        return _HostBatch(self._model, rows)


class _HostBatch:
    def __init__(self, model: str, rows: Sequence[Any]) -> None:
        self._model = model
        self._states: Floats = rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)

    def run(self, graph: Graph, given: dict[str, Array], asked: Sequence[str], count: int) -> dict[str, Array]:
        before = self._states
        given[STATE] = before if count == len(before) else before[:count]
        outputs = graph.run(given, [NEXT_STATE, *asked])
        self._states = replaced(self._model, NEXT_STATE, before, outputs[NEXT_STATE])
        return outputs

    def rows(self) -> list[Any]:
        # a copy where a row would keep the whole batch in memory
        return [self._states[0]] if len(self._states) == 1 else [state.copy() for state in self._states]


def replaced(model: str, name: str, before: Array, new: Array) -> Array:
    """``before`` [b, ...] with its first rows replaced by what a graph gave for them.

    Raises:
        ArtifactError: it comes back in another shape or type than it went in.
    """
    if new.shape[1:] != before.shape[1:] or new.dtype != before.dtype or len(new) > len(before):
        raise ArtifactError(
            f"model {model!r}: the graph gave {name} as {new.dtype}{list(new.shape)}, "
            f"its manifest has {before.dtype}{list(before.shape[1:])} a stream"
        )
    return new if len(new) == len(before) else np.concatenate([new, before[len(new) :]])
