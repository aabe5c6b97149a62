"""The state of one stream, which a session holds between two chunks, as a value.

Nothing in it is changed in place; the engine takes one and returns the next.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from service.contract.manifest import FormName
from service.engine.resampler import Resampler
from service.models.model import Arrays, Model
from service.runtime.state_memory import Row
from service.wire.pcm import Samples

InputKind = Literal["audio", "spikes", "values"]

STEP_BYTES = 8


class StreamState(NamedTuple):
    """The state of one stream.

    Attributes:
        network: the network's state, a row of the model's ``states``.
        step: network steps done.
        encoder: its state tensors by name, without a batch axis.
        kind: of the input, fixed by the first chunk; None before it. A network of values takes spikes as values.
        resampler: to the model's sample rate; None before the first audio.
        pending: samples at the model's rate that do not fill a step yet.
    """

    network: Row
    step: int
    encoder: Arrays
    kind: InputKind | None
    resampler: Resampler | None
    pending: Samples

    @property
    def bytes(self) -> int:
        """Memory of the state, wherever it is."""
        count = self.network.nbytes + STEP_BYTES + self.pending.nbytes
        if self.resampler is not None:
            count += self.resampler.waiting.nbytes
        for tensor in self.encoder.values():  # a sum over a generator takes a microsecond more, of each chunk
            count += tensor.nbytes
        return count


def initial_stream(model: Model, form: FormName) -> StreamState:
    """A stream before its first chunk."""
    return StreamState(model.initial_row(form), 0, model.initial_encoder_state(), None, None, np.zeros(0, np.float32))


def received_samples(stream: StreamState | None) -> int:
    """Samples of sound that a stream has got so far, at their own rate."""
    return 0 if stream is None or stream.resampler is None else stream.resampler.received
