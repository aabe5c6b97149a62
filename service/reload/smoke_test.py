"""Tests a model before requests may run on it."""

from __future__ import annotations

import numpy as np

from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.errors import ArtifactError, StateBroken
from service.models.model import Model
from service.wire.chunk import AudioChunk, Chunk, Samples, ValuesChunk, spike_chunk

STEPS = 8


def smoke_test(model: Model, engine: Engine) -> None:
    """Run a short session of each kind of input on a model.

    Raises:
        ArtifactError: a graph fails, or its outputs have the wrong size or are out of range.
        RuntimeUnavailable: the runtime fails.
    """
    chunks: list[Chunk] = [_spikes(model)]
    if model.row_values:
        chunks.append(ValuesChunk(_noise(STEPS * model.row_values).reshape(STEPS, -1)))
    if "audio" in model.manifest.inputs:
        chunks.append(AudioChunk(_noise(STEPS * model.encoder.samples_per_step), model.encoder.sample_rate_hz))
    for chunk in chunks:
        stream = initial_stream(model)
        for end in (False, True):  # the second chunk goes on from the state after the first
            try:
                (outcome,) = engine.run(model, [Work(stream, chunk, end)])
            except ArtifactError as error:
                raise ArtifactError(
                    f"{model.artifact.folder}: fails its test ({error}): export the model again with a matching hetsyn"
                ) from error
            except StateBroken as error:
                raise ArtifactError(
                    f"{model.artifact.folder}: the state that it begins with has numbers out of range: export the "
                    "model again"
                ) from error
            stream = outcome.stream


def _spikes(model: Model) -> Chunk:
    """One spike a step, over all channels."""
    units = np.arange(STEPS, dtype=np.int64) * 7 % model.manifest.input.channels
    return spike_chunk(STEPS, np.arange(STEPS, dtype=np.int64), units)


def _noise(samples: int) -> Samples:
    return np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
