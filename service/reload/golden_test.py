"""Compares a model's answers with those that its artifact recorded on the CPU when it was exported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import GOLDEN
from service.engine.engine import Engine
from service.engine.work import Outcome, Work, initial_stream
from service.errors import ArtifactError
from service.models.golden import Inputs, golden_streams
from service.models.model import Model
from service.wire.chunk import Chunk, ValuesChunk, spike_chunk

TOLERANCE = 1e-5  # least tolerance, absolute below 1 and relative above: devices sum in another order


def golden_test(model: Model, engine: Engine) -> None:
    """Run the artifact's golden streams on a model, as one batch and in two chunks each.

    Raises:
        ArtifactError: an answer is not the recorded one, or there are no recorded ones.
        RuntimeUnavailable: the runtime fails.
    """
    inputs, lengths, recorded = golden_streams(model)
    streams = [initial_stream(model) for _ in lengths]
    parts: list[list[Outcome]] = []
    for is_first in (True, False):
        chunks = [_half(one, length, is_first) for one, length in zip(inputs, lengths, strict=True)]
        works = [Work(stream, chunk, end=False) for stream, chunk in zip(streams, chunks, strict=True)]
        parts.append(engine.run(model, works))
        streams = [outcome.stream for outcome in parts[-1]]
    for index, (first, last) in enumerate(zip(*parts, strict=True)):
        _compare(model, index, int(lengths[index]), first, last, recorded)


def _half(inputs: Inputs, length: int, is_first: bool) -> Chunk:
    middle = length // 2
    part = inputs[:middle] if is_first else inputs[middle:length]
    if part.dtype != np.uint8:
        return ValuesChunk(part.astype(np.float32))
    step, unit = part.nonzero()
    return spike_chunk(len(part), step, unit)


def _compare(
    model: Model,
    index: int,
    length: int,
    first: Outcome,
    last: Outcome,
    recorded: dict[str, NDArray[np.float32]],
) -> None:
    """Compare the answer to a stream with the recorded one."""
    has_readout = first.result.readout is not None and last.result.readout is not None
    name = f"{model.manifest.network.form}.{'readout' if has_readout else 'probabilities'}"
    if name not in recorded:
        raise ArtifactError(f"{model.artifact.folder / GOLDEN}: has no {name}: export the model again")
    expected, answer = recorded[name][index], last.result.probabilities
    if first.result.readout is not None and last.result.readout is not None:
        expected, answer = expected[:length], np.concatenate([first.result.readout, last.result.readout])
    tolerance = max(TOLERANCE, model.manifest.network.tolerance)
    if not np.allclose(answer, expected, rtol=tolerance, atol=tolerance):
        raise ArtifactError(
            f"model {model.name!r} version {model.version!r}, golden stream {index}: the answer is off by "
            f"{np.abs(answer - expected).max():.2g}"
        )
