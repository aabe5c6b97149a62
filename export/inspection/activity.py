"""Measures how often a network's units are active on its golden streams."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from export.inspection.operations import Numbers, sizes
from service.contract.artifact import GOLDEN, Artifact
from service.contract.graph_io import EVENT_ROW, EVENT_UNIT, SCORES, STATE, STEP, STEPS, VALUES, spikes_name
from service.contract.initial import InitialState
from service.errors import ArtifactError, RuntimeUnavailable
from service.runtime.onnx import load_graph

MAX_STREAM_STEPS = 2**16  # over all golden streams; a shipped artifact has at most 8,000


@dataclass(frozen=True)
class Measured:
    """The activity on golden streams.

    Attributes:
        streams: number of golden streams.
        rates: by source, the share of steps in which each unit is not 0, [units].
    """

    streams: int
    steps: int
    rates: dict[str, Numbers]


def measure(artifact: Artifact) -> Measured | str:
    """Run the golden streams. Returns a sentence with the reason if that is not possible."""
    kind = artifact.manifest.input.kind
    try:
        with np.load(io.BytesIO(artifact.read(GOLDEN)), allow_pickle=False) as file:
            inputs, steps = file[kind], file["steps"].astype(np.int64)
        longest = int(steps.max())
        if inputs.shape != (len(steps), inputs.shape[1], artifact.manifest.input.channels) or steps.min() < 1:
            raise ValueError("not streams of the network's channels")
        inside = np.arange(longest) < steps[:, None]
        inputs = np.where(inside[..., None], inputs[:, :longest], 0)
        if int(steps.sum()) > MAX_STREAM_STEPS:
            return f"{GOLDEN} has more than {MAX_STREAM_STEPS:,} steps, so its spikes were not measured"
        rates = _rates(artifact, inputs, steps, inside)
    except RuntimeUnavailable as error:
        return f"its spikes were not measured: {error}"
    except (ArtifactError, OSError, BadZipFile, ValueError, EOFError, LookupError, AttributeError, TypeError):
        return f"{GOLDEN} has no streams that its graph runs, so its spikes were not measured"
    return Measured(len(steps), int(steps.sum()), rates)


def _rates(
    artifact: Artifact, inputs: NDArray[Any], steps: NDArray[np.int64], inside: NDArray[np.bool_]
) -> dict[str, Numbers]:
    manifest = artifact.manifest
    row = InitialState(artifact).network()
    feed: dict[str, NDArray[Any]] = {
        STEPS: steps,
        STATE: np.tile(row, (len(steps), 1)),
        STEP: np.zeros(len(steps), np.int64),
    }
    feed |= _values(inputs) if manifest.input.kind == "values" else _events(inputs)
    hidden = {name: spikes_name(name) for name in sizes(manifest) if name != "readout"}
    out = load_graph(artifact.read(manifest.network.file)).run(feed, [*hidden.values(), SCORES])
    rates = {"input": _share(inputs, inside)} | {name: _share(out[spikes], inside) for name, spikes in hidden.items()}
    if manifest.decision.rule == "spike_count":  # the scores are the outputs' spikes
        counted = int(np.maximum(steps - manifest.decision.skip_steps, 0).sum())
        rates["readout"] = out[SCORES].sum(0, dtype=np.float64) / max(1, counted)
    return rates


def _values(inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    return {VALUES: inputs.astype(np.float32)}


def _events(inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    stream, step, unit = np.nonzero(inputs)
    return {EVENT_ROW: (stream * inputs.shape[1] + step).astype(np.int64), EVENT_UNIT: unit.astype(np.int64)}


def _share(activations: NDArray[Any], inside: NDArray[np.bool_]) -> Numbers:
    """Compute the share of steps within streams in which each unit is not 0, [units]."""
    return np.asarray((activations[inside] != 0).mean(0, dtype=np.float64))
