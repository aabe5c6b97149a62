"""Delays as a condition of an experiment: on one path of all layers, one a unit."""

from __future__ import annotations

from typing import Literal, get_args

from hetsyn_model.spec import PathSpec

Delays = Literal["none", "recurrent-learned", "recurrent-fixed", "input-learned", "input-fixed"]
DELAYED: tuple[Delays, ...] = tuple(kind for kind in get_args(Delays) if kind != "none")
LONGEST_DELAY_STEPS = 24  # one number of state a unit


def path_of(delays: Delays, name: Literal["input", "recurrent"], longest_steps: int = LONGEST_DELAY_STEPS) -> PathSpec:
    """The delays of a path: up to so many steps, learned, or fixed at random."""
    if not delays.startswith(name):
        return PathSpec()
    return PathSpec(longest_steps, learn_delays=delays.endswith("learned"))
