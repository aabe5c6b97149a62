"""Computes the state after silence, in which a stream may begin.

The initial state of a network never occurs again: the encoder takes the first silence for a change, and the effect of
its spikes fades slowly. A stream that begins after ``quiet_s`` of silence is past that. Its decision still begins at
step 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import torch

from hetsyn_model.compiled import Compiled
from hetsyn_model.encoder import Encoder, EncoderState
from hetsyn_model.events import Events
from hetsyn_model.spec import SpecError
from hetsyn_model.state import State, StateTensor, initial_state
from hetsyn_model.step import step

LONGEST_QUIET_S = 60.0


def quiet_steps(quiet_s: float, step_s: float) -> int:
    """Convert a silence to whole steps.

    Args:
        quiet_s: the silence, in seconds.
        step_s: duration of a step, in seconds.

    Raises:
        SpecError: the silence is negative, not finite or too long.
    """
    if not isfinite(quiet_s) or not 0 <= quiet_s <= LONGEST_QUIET_S:
        raise SpecError(f"quiet_s: {quiet_s:g} is not from 0 to {LONGEST_QUIET_S:g} seconds")
    return round(quiet_s / step_s)


def empty_steps(steps: int, channels: int) -> Events:
    """Make one stream of ``steps`` steps without a spike."""
    return Events.of(torch.zeros(1, steps, channels))


@dataclass(frozen=True)
class QuietStart:
    """The spikes and the state of an audio encoder after silence.

    Attributes:
        events: its spikes, [1, steps, channels].
        after: its state after them, of one stream.
    """

    events: Events
    after: EncoderState

    @staticmethod
    def of(encoder: Encoder, steps: int) -> QuietStart:
        """Run an encoder on silence.

        Args:
            steps: length of the silence, at least 1.
        """
        audio = torch.zeros(1, steps * encoder.spec.step_samples)
        spikes, after = encoder.step(audio, encoder.initial_state(1))
        return QuietStart(Events.of(spikes.to(torch.float32)), after)

    def encoder_state(self, batch: int) -> EncoderState:
        """Return the state after the silence, for ``batch`` streams."""
        after = self.after
        return EncoderState(
            after.history.expand(batch, -1), after.gain_db.expand(batch), after.level_db.expand(batch, -1)
        )


@torch.no_grad()
def layout_after(compiled: Compiled, before: Events) -> tuple[StateTensor, ...]:
    """Return the layout of a network's state with the values after a stream; the decision's stay initial.

    Args:
        before: the stream.
    """
    state: State = initial_state(compiled.layout, 1, compiled.dtype, compiled.device)
    for x in before.dense(compiled.dtype).to(compiled.device).unbind(1):
        state, _ = step(compiled, state, x)
    return tuple(
        tensor if tensor.is_decision else replace(tensor, start=state[tensor.name][0]) for tensor in compiled.layout
    )
