"""The state of one stream, which a session holds between two chunks, as a value.

Nothing in it is changed in place; the engine takes one and returns the next.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from hetsyn_client.results import UtteranceEnd
from service.contract.endpointing import Endpointing
from service.contract.graph_io import Float32Array
from service.engine.endpointer import Hearing
from service.engine.resampler import Resampler
from service.models.model import Arrays, Model
from service.wire.chunk import Chunk, chunk_bytes
from service.wire.pcm import Samples

InputKind = Literal["audio", "spikes", "values"]

NO_SAMPLES: Samples = np.zeros(0, np.float32)
STEP_BYTES = 8
UTTERANCE_BYTES = 400  # objects of ``Utterances``, without its input and its ends
END_BYTES, PROBABILITY_BYTES = 700, 32  # objects of one of its ends, and of each probability


class Utterances(NamedTuple):
    """Where a stream is among its utterances. Positions count what the client sent: samples, or steps of other input.

    Attributes:
        settings: of the endpointer; None: an utterance ends only when the client says so.
        hearing: of the endpointer.
        number: of the utterance that is under way, or comes next.
        start: where that began, or the silence since the last one.
        position: input that was taken so far.
        recent: the latest input before ``position``, while nobody speaks; an utterance begins with some of it.
        ends: the latest, for a client that has lost its connection.
    """

    settings: Endpointing | None
    hearing: Hearing
    number: int
    start: int
    position: int
    recent: Chunk | None
    ends: tuple[UtteranceEnd, ...]

    @property
    def is_speech(self) -> bool:
        """Whether the network hears what comes."""
        return self.settings is None or self.hearing.is_speech

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        count = UTTERANCE_BYTES + (0 if self.recent is None else chunk_bytes(self.recent))
        return count + sum(END_BYTES + PROBABILITY_BYTES * len(end["probabilities"] or ()) for end in self.ends)


class StreamState(NamedTuple):
    """The state of one stream.

    Attributes:
        network: the network's state, [words].
        step: network steps done.
        encoder: its state tensors by name, without a batch axis.
        kind: of the input, fixed by the first chunk; None before it. A network of values takes spikes as values.
        resampler: to the model's sample rate; None before the first audio.
        pending: samples at the model's rate that do not fill a step yet.
        utterances: None for a stream that is one utterance. While nobody speaks, network and step are those of a stream
            before its first chunk; the encoder's is that of the input so far, since the endpointer hears values by it.
    """

    network: Float32Array
    step: int
    encoder: Arrays
    kind: InputKind | None
    resampler: Resampler | None
    pending: Samples
    utterances: Utterances | None = None

    @property
    def bytes(self) -> int:
        """Memory of the state."""
        count = self.network.nbytes + STEP_BYTES + self.pending.nbytes
        if self.resampler is not None:
            count += self.resampler.waiting.nbytes
        for tensor in self.encoder.values():  # a sum over a generator takes a microsecond more, of each chunk
            count += tensor.nbytes
        if self.utterances is not None:
            count += self.utterances.bytes
        return count


def initial_stream(model: Model) -> StreamState:
    """A stream before its first chunk."""
    return StreamState(model.initial_row, 0, model.initial_encoder, None, None, NO_SAMPLES)


def received_samples(stream: StreamState | None) -> int:
    """Samples of sound that a stream has got so far, at their own rate."""
    if stream is None:
        return 0
    if stream.utterances is not None:
        return stream.utterances.position
    return 0 if stream.resampler is None else stream.resampler.received
