"""A small builder of ONNX graphs: nodes as method calls, constants as initializers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10  # onnx's own defaults are newer than current runtimes load

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class GraphBuilder:
    """Collects one graph. A method named after an operator adds a node and returns its output's name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def _fresh(self, hint: str) -> str:
        self._count += 1
        return f"{self.name}/{hint}_{self._count}"

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str], value: str) -> None:
        """Make ``value`` an output of the graph, under its own name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))

    def constant(self, value: NDArray[Any] | float | Sequence[int], dtype: str | None = None, name: str = "") -> str:
        array = np.asarray(value, dtype=dtype)
        # ascontiguousarray would make a scalar one-dimensional
        tensor = numpy_helper.from_array(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        key = f"{array.dtype}{array.shape}{array.tobytes()!r}" if array.size <= 8 and not name else ""
        for known, existing in self._constants.items() if key else ():
            if existing.doc_string == key:
                return known
        tensor.name = f"{self.name}/{name}" if name else self._fresh("constant")
        tensor.doc_string = key
        self._constants[tensor.name] = tensor
        return tensor.name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; the name of its output, or a list of names where it has several."""
        names = [self._fresh(operator) for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def cast(self, value: str, dtype: str) -> str:
        return str(self.node("Cast", value, to=DTYPES[dtype]))

    def unsqueeze(self, value: str, *axes: int) -> str:
        return str(self.node("Unsqueeze", value, self.constant(list(axes), "int64")))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Reshape to a constant shape; 0 keeps an axis, -1 is what is left."""
        return str(self.node("Reshape", value, self.constant(list(shape), "int64")))

    def size_of(self, value: str, axis: int) -> str:
        """int64 [1], length of an axis."""
        return str(self.node("Shape", value, start=axis, end=axis + 1))

    def graph(self) -> onnx.GraphProto:
        constants = []
        for tensor in self._constants.values():
            tensor.doc_string = ""
            constants.append(tensor)
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, constants)

    def model(self) -> bytes:
        """The checked, serialised model; the same bytes for the same graph."""
        model = helper.make_model(
            self.graph(), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="hetsyn"
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
