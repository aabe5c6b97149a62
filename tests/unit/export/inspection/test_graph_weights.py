"""Constants of ONNX files, against what the library of ONNX reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.inspection.graph_weights import read_tensors
from service.errors import ArtifactError
from tests.support.paths import MODELS

SHIPPED = sorted(MODELS.glob("*/*/*.onnx"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_constant_of_a_shipped_graph(path: Path) -> None:
    content = path.read_bytes()
    found = read_tensors(content)
    expected = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer
    }
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_what_is_not_kept_as_raw_bytes_is_left_out() -> None:
    kept = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "kept")
    scalar = numpy_helper.from_array(np.array(3.5), "scalar")
    floats = helper.make_tensor("floats", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = helper.make_graph([], "g", [], [], initializer=[kept, floats, scalar])
    found = read_tensors(helper.make_model(graph).SerializeToString())
    assert list(found) == ["kept", "scalar"]
    assert found["kept"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["scalar"] == 3.5


def test_another_file_is_refused() -> None:
    with pytest.raises(ArtifactError, match="export the model again"):
        read_tensors(b"%PDF-1.7 and more")
