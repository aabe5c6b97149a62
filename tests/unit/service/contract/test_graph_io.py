"""The shipped graphs declare exactly the inputs and outputs that the contract names."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from service.contract.artifact import Artifact
from service.contract.graph_io import (
    TensorType,
    encoder_inputs,
    encoder_outputs,
    network_inputs,
    network_outputs,
)
from tests.support.paths import MODELS

ARTIFACTS = sorted(path.parent for path in MODELS.glob("*/*/manifest.json"))


def declared(values: list[onnx.ValueInfoProto]) -> dict[str, TensorType]:
    return {
        value.name: TensorType(
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
    }


@pytest.mark.parametrize("folder", ARTIFACTS, ids=lambda folder: folder.parent.name)
def test_a_graph_declares_what_the_contract_names(folder: Path) -> None:
    artifact = Artifact.describe(folder)
    manifest = artifact.manifest
    hidden = {f"hidden{index + 1}": neurons for index, neurons in enumerate(manifest.hidden)}
    network = manifest.network
    graph = onnx.load_from_string(artifact.read(network.file)).graph
    assert declared(graph.input) == network_inputs(network.words)
    assert declared(graph.output) == network_outputs(network.words, manifest.outputs, hidden)
    if manifest.encoder is not None:
        assert manifest.encoder.file is not None
        graph = onnx.load_from_string(artifact.read(manifest.encoder.file)).graph
        values = manifest.encoder.channels if manifest.encoder.kind == "values" else 0
        assert declared(graph.input) == encoder_inputs(manifest.encoder.state, values)
        assert declared(graph.output) == encoder_outputs(manifest.encoder.state)


def test_axes_get_their_lengths_in_a_call() -> None:
    readout = network_outputs(9, 3, hidden={})["readout"]
    assert readout.lengths({"batch": 2, "longest": 5}) == (2, 5, 3)


def test_values_take_the_place_of_events_or_of_audio() -> None:
    assert list(network_inputs(9, 2)) == ["values", "steps", "state", "step"]
    assert network_inputs(9, 2)["values"].lengths({"batch": 4, "longest": 5}) == (4, 5, 2)
    assert encoder_inputs((), 3)["values"].lengths({"batch": 4, "longest": 5}) == (4, 5, 3)
