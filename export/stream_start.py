"""What the streams of an artifact begin after: nothing, or the silence that it was exported with."""

from __future__ import annotations

from typing import NamedTuple

from export.encoders import EncoderParts, encoder_arrays
from export.folder import ExportError
from hetsyn_model.encoder import Encoder
from hetsyn_model.events import Events
from hetsyn_model.quiet import QuietStart, empty_steps
from service.runtime.onnx import Array


class StreamStart(NamedTuple):
    """What streams begin after.

    Attributes:
        before: what the network has heard then, [1, steps, channels]; None for nothing.
        quiet: what silence makes of the encoder; None where there is no such encoder.
        arrays: the encoder's state then, by tensor; empty without ``quiet``.
    """

    before: Events | None
    quiet: QuietStart | None
    arrays: dict[str, Array]


def stream_start(quiet_steps: int, encoder: EncoderParts | None, channels: int) -> StreamStart:
    """Find what streams begin after.

    Args:
        quiet_steps: of silence; 0 for nothing.
        encoder: before the network; None without.

    Raises:
        ExportError: the encoder is of values, among which nothing is silence.
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
    """Say in the manifest how a stream begins quietly."""
    return {"quiet_s": quiet_steps * step_s} if quiet_steps else {}
