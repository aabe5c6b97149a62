"""Compares a model's answers with those that its artifact recorded on the CPU when it was exported."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import GOLDEN
from service.contract.manifest import FormName
from service.engine.engine import Engine
from service.engine.stream import initial_stream
from service.engine.work import Outcome, Work
from service.errors import ArtifactError
from service.models.model import Model
from service.wire.chunk import Chunk, ValuesChunk, spike_chunk

MAX_UNPACKED_BYTES = 2**28
TOLERANCE = 1e-5  # at least: of a probability or a readout, and relative of a large one: another order of sums
Inputs = NDArray[np.uint8] | NDArray[np.float32]


def golden_test(model: Model, engine: Engine) -> None:
    """Run the artifact's golden streams on a model, as one batch and in two chunks each, in each form.

    Raises:
        ArtifactError: an answer is not the recorded one, or there are no recorded ones.
        RuntimeUnavailable: the runtime fails.
        Overloaded: the device has no room for the states.
    """
    inputs, lengths, recorded = _recorded(model)
    for form in model.manifest.forms:
        streams = [initial_stream(model, form) for _ in lengths]
        parts: list[list[Outcome]] = []
        for is_first in (True, False):
            chunks = [_half(one, length, is_first) for one, length in zip(inputs, lengths, strict=True)]
            works = [Work(stream, chunk, end=False) for stream, chunk in zip(streams, chunks, strict=True)]
            parts.append(engine.run(model, form, works))
            streams = [outcome.stream for outcome in parts[-1]]
        for index, (first, last) in enumerate(zip(*parts, strict=True)):
            _compare(model, form, index, int(lengths[index]), first, last, recorded)


def _recorded(model: Model) -> tuple[Inputs, NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """The golden streams: spikes or values [streams, steps, channels], the steps of each, and the answers by name.

    Raises:
        ArtifactError: the file cannot be read.
    """
    path = model.artifact.folder / GOLDEN
    content = model.artifact.read(GOLDEN)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked_bytes = sum(info.file_size for info in archive.infolist())
        if unpacked_bytes > MAX_UNPACKED_BYTES:
            raise ValueError(f"unpacked, it has more than {MAX_UNPACKED_BYTES:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        inputs, steps = arrays.pop(model.manifest.input.kind), arrays.pop("steps")
    except Exception as error:  # a damaged file may raise anything
        raise ArtifactError(f"{path}: cannot be read ({error!s:.300}): export it again") from error
    if inputs.shape != (len(steps), steps.max(initial=0), model.manifest.input.channels):
        kind = model.manifest.input.kind
        raise ArtifactError(f"{path}: has {kind} {inputs.shape} for {len(steps)} streams: export it again")
    return inputs, steps, arrays


def _half(inputs: Inputs, length: int, is_first: bool) -> Chunk:
    middle = length // 2
    part = inputs[:middle] if is_first else inputs[middle:length]
    if part.dtype != np.uint8:
        return ValuesChunk(part.astype(np.float32))
    step, unit = part.nonzero()
    return spike_chunk(len(part), step, unit)


def _compare(
    model: Model,
    form: FormName,
    index: int,
    length: int,
    first: Outcome,
    last: Outcome,
    recorded: dict[str, NDArray[np.float32]],
) -> None:
    """Compare the answer to a stream.

    Raises:
        ArtifactError: it is not the recorded one.
    """
    has_readout = first.result.readout is not None and last.result.readout is not None
    name = f"{form}.{'readout' if has_readout else 'probabilities'}"
    if name not in recorded:
        raise ArtifactError(f"{model.artifact.folder / GOLDEN}: has no {name}: export the model again")
    expected, answer = recorded[name][index], last.result.probabilities
    if first.result.readout is not None and last.result.readout is not None:
        expected, answer = expected[:length], np.concatenate([first.result.readout, last.result.readout])
    tolerance = max(TOLERANCE, model.manifest.forms[form].tolerance)
    if not np.allclose(answer, expected, rtol=tolerance, atol=tolerance):
        raise ArtifactError(
            f"model {model.name!r} version {model.version!r}, form {form!r}, golden stream {index}: the answer is off "
            f"by {np.abs(answer - expected).max():.2g}"
        )
