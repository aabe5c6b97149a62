"""The state of one stream between two chunks, as a value: the engine returns the next one and changes none."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from hetsyn_client.results import UtteranceEnd
from service.contract.endpointing import Endpointing
from service.contract.graph_io import Float32Array
from service.engine.endpointer import Hearing
from service.engine.resampler import Resampler
from service.models.model import Arrays, Model
from service.wire.chunk import Chunk, Samples, chunk_bytes

InputKind = Literal["audio", "spikes", "values"]

NO_SAMPLES: Samples = np.zeros(0, np.float32)
STEP_BYTES = 8
UTTERANCE_BYTES = 400  # of ``Utterances`` without input and ends
END_BYTES, PROBABILITY_BYTES = 700, 32  # of one end, and of each of its probabilities


class Utterances(NamedTuple):
    """The utterances of a stream. Positions count the client's input: samples, or steps of other input.

    Attributes:
        settings: the endpointer's; None: an utterance ends only when the client says so.
        number: number of the current or next utterance.
        start: position where the current utterance, or the silence before the next one, began.
        position: input taken so far.
        recent: the last input before ``position`` during silence; an utterance begins with some of it.
        ends: the last ends, for a client that has lost its connection.
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
        """Return whether the network hears the next input."""
        return self.settings is None or self.hearing.is_speech

    @property
    def bytes(self) -> int:
        """Count the bytes that it takes in memory."""
        count = UTTERANCE_BYTES + (0 if self.recent is None else chunk_bytes(self.recent))
        return count + sum(END_BYTES + PROBABILITY_BYTES * len(end["probabilities"] or ()) for end in self.ends)


class StreamState(NamedTuple):
    """The state of one stream.

    Attributes:
        network: the network's state, [words].
        step: network steps so far.
        encoder: the encoder's state tensors by name, without a batch axis.
        kind: kind of the input, set by the first chunk; None before it. A network of values takes spikes as values.
        resampler: converts to the model's sample rate; None before the first audio.
        pending: samples at the model's rate that do not fill a step yet.
        utterances: None for a stream that is one utterance. During silence, network and step are those of a new stream;
            the encoder has heard the input so far, because the endpointer hears values by it.
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
        """Count the bytes of the state in memory."""
        count = self.network.nbytes + STEP_BYTES + self.pending.nbytes
        if self.resampler is not None:
            count += self.resampler.waiting.nbytes
        for tensor in self.encoder.values():  # a sum over a generator would take a microsecond more a chunk
            count += tensor.nbytes
        if self.utterances is not None:
            count += self.utterances.bytes
        return count


def initial_stream(model: Model) -> StreamState:
    """Make the state of a stream before its first chunk."""
    return StreamState(model.initial_row, 0, model.initial_encoder, None, None, NO_SAMPLES)


def received_samples(stream: StreamState | None) -> int:
    """Count the samples of sound that a stream has received, at their own rate."""
    if stream is None:
        return 0
    if stream.utterances is not None:
        return stream.utterances.position
    return 0 if stream.resampler is None else stream.resampler.received
