"""The rule that makes a decision of the readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hetsyn_model.spec.errors import require

Rule = Literal["sum_softmax", "late_softmax", "spike_count", "last", "trace"]


@dataclass(frozen=True)
class DecisionSpec:
    """The rule that makes a decision of the readout.

    Attributes:
        rule: ``sum_softmax`` adds up softmax(readout potential) over the steps that count;
            ``late_softmax`` is their mean, with a weight of n^3 for the n-th of these steps;
            ``spike_count`` gives the output neurons a threshold and counts their spikes;
            ``last`` is the potential at the latest step; ``trace`` is a continuous output, no class.
        skip_steps: number of first steps that do not count (the reference code's "step index > 10" is 11).
    """

    rule: Rule = "sum_softmax"
    skip_steps: int = 0

    def __post_init__(self) -> None:
        require(self.rule in get_args(Rule), f"decision.rule: {self.rule!r} is none of {get_args(Rule)}")
        require(self.skip_steps >= 0, f"decision.skip_steps: {self.skip_steps} is below 0")

    @property
    def counts_spikes(self) -> bool:
        """Return whether the rule counts the output layer's spikes. If not, it reads the potential."""
        return self.rule == "spike_count"

    @property
    def averages_softmax(self) -> bool:
        """Return whether the probabilities are a mean of softmaxes. If not, they are the softmax of the score."""
        return self.rule in ("sum_softmax", "late_softmax")

    @property
    def adds_up(self) -> bool:
        """Return whether each step adds to the score. If not, the score is the last step's value."""
        return self.averages_softmax or self.rule == "spike_count"
