"""Reads the state before a stream's first step: one value for a whole tensor, or an array in ``initial_file``.

``initial_file`` is an ``.npz`` file. It has an array for each tensor that begins with more than one value, named
``FORM/TENSOR`` or ``encoder/TENSOR``, with the shape and type of the manifest. The decision's state always begins with
one value.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import Artifact
from service.contract.manifest import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP, FormName, TensorDescription
from service.errors import ArtifactError

ENCODER: Final = "encoder"
DECISION = (DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP)
HEAD_BYTES = 1_024  # bound of an array's header in the file

Arrays = dict[str, NDArray[Any]]


def array_name(part: str, tensor: str) -> str:
    """Name a tensor's array in the file. ``part`` is the network's form, or ``encoder``."""
    return f"{part}/{tensor}"


class InitialState:
    """The first state of an artifact's streams. Raises ArtifactError if ``initial_file`` is damaged or misfits."""

    def __init__(self, artifact: Artifact) -> None:
        self._manifest = artifact.manifest
        self._given = _read(artifact)

    def network(self) -> NDArray[np.float32]:
        """Return the network's state, float32 [words], at step 0."""
        network = self._manifest.network
        arrays = self._arrays(network.form, network.state[:-1])
        return np.concatenate([array.reshape(-1) for array in arrays.values()])

    def encoder(self) -> Arrays:
        """Return the encoder's state by tensor; empty without an encoder."""
        return self._arrays(ENCODER, self._manifest.encoder.state if self._manifest.encoder else ())

    def _arrays(self, part: str, state: Sequence[TensorDescription]) -> Arrays:
        return {
            tensor.name: np.array(given)
            if (given := self._given.get(array_name(part, tensor.name))) is not None
            else np.full(tensor.shape, tensor.initial, dtype=tensor.dtype)
            for tensor in state
        }


def _read(artifact: Artifact) -> Mapping[str, NDArray[Any]]:
    """Read and check the arrays of the artifact's file, by name."""
    name = artifact.manifest.initial_file
    if name is None:
        return {}
    manifest, content = artifact.manifest, artifact.read(name)
    parts: dict[str, Sequence[TensorDescription]] = {manifest.network.form: manifest.network.state}
    if manifest.encoder:
        parts[ENCODER] = manifest.encoder.state
    described = {
        array_name(part, tensor.name): tensor
        for part, state in parts.items()
        for tensor in state
        if tensor.name not in DECISION
    }
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            every = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        # before format 6 a file had the arrays of several forms
        others = tuple(f"{form}/" for form in get_args(FormName) if form != manifest.network.form)
        sizes = {each: size for each, size in every.items() if not each.startswith(others)}
        if unknown := sorted(sizes.keys() - described.keys()):
            raise ValueError(f"{unknown[0]:.100} is no state tensor that may begin with values of its own")
        if larger := [each for each, size in sizes.items() if size > described[each].bytes + HEAD_BYTES]:
            raise ValueError(f"{larger[0]:.100} is larger than its tensor")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {each: file[each] for each in file.files if each in sizes}
        for each, array in arrays.items():
            _check(each, array, described[each])
    except Exception as error:  # a damaged file may raise anything
        raise ArtifactError(
            f"{artifact.folder / name}: has no state to begin with ({error!s:.300}): export the model again"
        ) from error
    return arrays


def _check(name: str, array: NDArray[Any], tensor: TensorDescription) -> None:
    """Raise ValueError if an array does not fit its tensor."""
    if (array.shape, array.dtype) != (tensor.shape, np.dtype(tensor.dtype)):
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, its tensor {tensor.dtype} {list(tensor.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has numbers that are not finite")
