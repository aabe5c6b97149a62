"""Reads an artifact's golden streams: inputs, and the answers that its network gave on the CPU at the export."""

from __future__ import annotations

import io
import zipfile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import GOLDEN
from service.errors import ArtifactError
from service.models.model import Model

MAX_UNPACKED_BYTES = 2**28
Inputs = NDArray[np.uint8] | NDArray[np.float32]


class GoldenStreams(NamedTuple):
    """The golden streams.

    Attributes:
        inputs: [streams, steps, channels], spikes or values, as the manifest's ``input.kind`` says.
        steps: [streams], the length of each stream.
        answers: by name, as ``bank.probabilities``.
    """

    inputs: Inputs
    steps: NDArray[np.int64]
    answers: dict[str, NDArray[np.float32]]


def golden_streams(model: Model, max_unpacked_bytes: int = MAX_UNPACKED_BYTES) -> GoldenStreams:
    """Read the golden streams of a model's artifact.

    Args:
        max_unpacked_bytes: limit for all streams and answers together.

    Raises:
        ArtifactError: the file cannot be read, or is above the limit.
    """
    path = model.artifact.folder / GOLDEN
    content = model.artifact.read(GOLDEN)
    kind = model.manifest.input.kind
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked_bytes = sum(info.file_size for info in archive.infolist())
        if unpacked_bytes > max_unpacked_bytes:
            raise ValueError(f"unpacked, it has more than {max_unpacked_bytes:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        inputs, steps = arrays.pop(kind), arrays.pop("steps")
    except Exception as error:  # a damaged file may raise anything
        raise ArtifactError(f"{path}: cannot be read ({error!s:.300}): export it again") from error
    if inputs.shape != (len(steps), steps.max(initial=0), model.manifest.input.channels):
        raise ArtifactError(f"{path}: has {kind} {inputs.shape} for {len(steps)} streams: export it again")
    return GoldenStreams(inputs, steps, arrays)
