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


class _Recent:
    """The latest values of a class, and their upper estimate."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=REMEMBERED)
        self.upper = 0.0

    def add(self, value: float) -> None:
        values = self._values
        forgotten = values[0] if len(values) == REMEMBERED else inf
        values.append(value)
        if forgotten < self.upper and value <= self.upper:
            return  # the two largest stay as they are
        ordered = sorted(values)
        self.upper = ordered[-2] if len(ordered) > 2 else ordered[-1]


class CostModel:
    """Times of batches, by the kind of work that they are."""

    def __init__(self) -> None:
        # by work and density class, then by size class: seconds a step
        self._times: dict[tuple[Hashable, int], dict[int, _Recent]] = {}
        self._densities: dict[Hashable, _Recent] = {}

    def observe(self, work: Hashable, steps: int, events: int, seconds: float) -> None:
        """Remember a batch that ran.

        Args:
            work: what it was: stage, model and form.
            steps: network steps of all its streams, and one a stream for what each costs anyway.
            events: spikes of all its streams.
            seconds: that it took.
        """
        sizes = self._times.setdefault((work, _density_class(events / steps)), {})
        sizes.setdefault(steps.bit_length(), _Recent()).add(seconds / steps)

    def observe_density(self, work: Hashable, density: float) -> None:
        """Remember the spikes a step that an encoder made."""
        self._densities.setdefault(work, _Recent()).add(density)

    def step_s(self, work: Hashable, steps: int, events: int) -> float:
        """Upper estimate of the time of one step, in seconds; inf for a density that has not been seen."""
        sizes = self._times.get((work, _density_class(events / steps)))
        if sizes is None:
            return inf
        size = steps.bit_length()
        recent = sizes.get(size)
        if recent is not None:
            return recent.upper
        # a step costs most in a small batch, so a smaller one is an upper estimate
        smaller = [seen for seen in sizes if seen < size]
        if smaller:
            return sizes[max(smaller)].upper
        smallest = min(sizes)
        return sizes[smallest].upper * 2.0 ** (smallest + 1 - size)  # it takes no longer than a larger batch

    def expected_s(self, work: Hashable, steps: int, events: int) -> float:
        """Upper estimate of the time of a batch, in seconds; inf for a density that has not been seen."""
        return self.step_s(work, steps, events) * steps

    def density(self, work: Hashable) -> float | None:
        """Upper estimate of the spikes a step, where an encoder makes them; None where it has not run."""
        recent = self._densities.get(work)
        return None if recent is None else recent.upper


def _density_class(density: float) -> int:
    """Classes half an octave wide: within one the time of a step differs by less than half."""
    return int(2 * log2(1 + density))
