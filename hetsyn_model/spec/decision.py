"""How the readout becomes a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hetsyn_model.spec.errors import require

Rule = Literal["sum_softmax", "late_softmax", "spike_count", "last", "trace"]


@dataclass(frozen=True)
class DecisionSpec:
    """How the readout becomes a decision.

    Attributes:
        rule: ``sum_softmax`` adds up softmax(readout potential) over the steps that count;
            ``late_softmax`` is their mean in which the n-th of these steps counts n^3 times;
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
        """Whether the rule reads spikes of the output layer, which then has a threshold, and not its potential."""
        return self.rule == "spike_count"

    @property
    def averages_softmax(self) -> bool:
        """Whether the probabilities are a mean of softmaxes, and not the softmax of the score."""
        return self.rule in ("sum_softmax", "late_softmax")

    @property
    def adds_up(self) -> bool:
        """Whether each step adds to the score, which is not the value of the latest one."""
        return self.averages_softmax or self.rule == "spike_count"
