"""Computes the start of an artifact's streams: the initial state, or the state after a silence."""

from __future__ import annotations

from typing import NamedTuple

from export.encoders import EncoderParts, encoder_arrays
from export.folder import ExportError
from hetsyn_model.encoder import Encoder
from hetsyn_model.events import Events
from hetsyn_model.quiet import QuietStart, empty_steps
from service.runtime.onnx import Array


class StreamStart(NamedTuple):
    """The start of streams.

    Attributes:
        before: the network's input during the silence, [1, steps, channels]; None for nothing.
        quiet: the audio encoder's silence; None without an audio encoder.
        arrays: the encoder's state after it, by tensor; empty without ``quiet``.
    """

    before: Events | None
    quiet: QuietStart | None
    arrays: dict[str, Array]


def stream_start(quiet_steps: int, encoder: EncoderParts | None, channels: int) -> StreamStart:
    """Compute the start of streams.

    Args:
        quiet_steps: length of the silence; 0 for nothing.
        encoder: None for a network without an encoder.

    Raises:
        ExportError: the encoder takes values, which have no silence.
    """
    if not quiet_steps:
        return StreamStart(None, None, {})
    if encoder is None:
        return StreamStart(empty_steps(quiet_steps, channels), None, {})
    if not isinstance(encoder.reference, Encoder):
        raise ExportError("rows of values have no silence that a stream could begin after: leave --quiet-s out")
    quiet = QuietStart.of(encoder.reference, quiet_steps)
    return StreamStart(quiet.events, quiet, encoder_arrays(quiet))


def quiet_provenance(quiet_steps: int, step_s: float) -> dict[str, float]:
    """Make the manifest's entry about the silence before a stream."""
    return {"quiet_s": quiet_steps * step_s} if quiet_steps else {}
