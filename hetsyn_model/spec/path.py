"""The description of a path's delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hetsyn_model.spec.errors import require

Spread = Literal["random", "even"]

REGISTER_STEPS = 24  # spikes of one unit that a float32 holds exactly: the bits of its mantissa
MOST_DELAY_STEPS = 10 * REGISTER_STEPS
MOST_TAPS = 64


@dataclass(frozen=True)
class PathSpec:
    """The delays of spikes on a path. Each unit and tap has a delay of whole steps, and a row of weights.

    A delay of 0 is the ordinary path. ``docs/explanation/model.md`` has the equations.

    Attributes:
        max_delay_steps: the longest delay; 0: no delays, and no history in the state.
        taps: copies of each spike, each with its own delay and weights.
        learn_delays: training changes the delays.
        initial: delays before training: ``random``, uniform from 0 to the longest by unit and tap; or ``even``, the
            taps of every unit evenly from 0 to the longest.
    """

    max_delay_steps: int = 0
    taps: int = 1
    learn_delays: bool = True
    initial: Spread = "random"

    def __post_init__(self) -> None:
        for name in ("max_delay_steps", "taps"):
            require(isinstance(getattr(self, name), int), f"{name}: {getattr(self, name)!r} is not a whole number")
        require(
            0 <= self.max_delay_steps <= MOST_DELAY_STEPS,
            f"max_delay_steps: {self.max_delay_steps} is not from 0 to {MOST_DELAY_STEPS}",
        )
        require(1 <= self.taps <= MOST_TAPS, f"taps: {self.taps} is not from 1 to {MOST_TAPS}")
        require(self.taps == 1 or self.is_delayed, f"taps: {self.taps} need a max_delay_steps above 0")
        require(self.initial in get_args(Spread), f"initial: {self.initial!r} is none of {get_args(Spread)}")

    @property
    def is_delayed(self) -> bool:
        """Return whether the path has delays, and so a history in the state."""
        return self.max_delay_steps > 0

    @property
    def registers(self) -> int:
        """Count the float32 numbers of a unit's history."""
        return -(-self.max_delay_steps // REGISTER_STEPS)
