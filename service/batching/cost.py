"""How long a batch takes: upper estimates from the batches that ran. Pure.

The time of a batch depends on the steps of its streams, on their spikes, and on much besides: the form, the operator or
plain ONNX, the machine. So it is looked up and not modelled. Batches of one kind of work are sorted by density (spikes
a step) and by size, and each class remembers its latest times a step. The estimate is the second largest of them: one
hiccup does not count, two do. A density that no batch had yet has no estimate: ``inf``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import inf, log2

REMEMBERED = 16  # times of a class


class CostModel:
    """Times of batches, by the kind of work that they are."""

    def __init__(self) -> None:
        # by work and density, then by size: seconds a step
        self._classes: dict[tuple[Hashable, int], dict[int, deque[float]]] = {}
        self._densities: dict[Hashable, deque[float]] = {}

    def observe(self, work: Hashable, steps: int, events: int, seconds: float) -> None:
        """Remember a batch that ran.

        Args:
            work: what it was: model, form and stage.
            steps: network steps of all its streams, and one a stream for what each costs anyway.
            events: spikes of all its streams.
        """
        sizes = self._classes.setdefault((work, _density_class(events / steps)), {})
        sizes.setdefault(_size_class(steps), deque(maxlen=REMEMBERED)).append(seconds / steps)
        self._densities.setdefault(work, deque(maxlen=REMEMBERED)).append(events / steps)

    def step_s(self, work: Hashable, steps: int, events: int) -> float:
        """Upper estimate of the time of one step, in seconds; inf for a density that has not been seen."""
        sizes = self._classes.get((work, _density_class(events / steps)))
        if sizes is None:
            return inf
        size = _size_class(steps)
        # a step costs most in a small batch, so a smaller one is an upper estimate
        known = max((seen for seen in sizes if seen <= size), default=None)
        if known is not None:
            return _upper(sizes[known])
        smallest = min(sizes)
        return _upper(sizes[smallest]) * 2.0 ** (smallest + 1 - size)  # it takes no longer than a larger batch

    def expected_s(self, work: Hashable, steps: int, events: int) -> float:
        """Upper estimate of the time of a batch, in seconds; inf for a density that has not been seen."""
        return self.step_s(work, steps, events) * steps

    def density(self, work: Hashable) -> float | None:
        """Upper estimate of the spikes a step, where an encoder makes them; None where it has not run."""
        densities = self._densities.get(work)
        return None if densities is None else _upper(densities)


def _density_class(density: float) -> int:
    """Classes half an octave wide: within one the time of a step differs by less than half."""
    return int(2 * log2(1 + density))


def _size_class(steps: int) -> int:
    return int(log2(steps))


def _upper(values: deque[float]) -> float:
    ordered = sorted(values)
    return ordered[-2] if len(ordered) > 2 else ordered[-1]
