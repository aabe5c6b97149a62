"""A small builder of ONNX graphs: nodes as method calls, constants as initializers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10  # onnx's own defaults are newer than current runtimes load
DOMAIN = "hetsyn"  # of the operators in service/runtime/operators

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


def _rename(graph: onnx.GraphProto, prefix: str, values: Mapping[str, str]) -> None:
    """Prefix every name, in subgraphs too (``onnx.compose`` misses their references to outer constants), and drop an
    exporter's notes, which have paths of its machine.

    Args:
        values: the new names of some values; the others get the prefix.
    """
    del graph.value_info[:], graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = values.get(value.name, prefix + value.name)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = prefix + node.name if node.name else ""
        for names in (node.input, node.output):
            names[:] = [values.get(name, prefix + name) if name else "" for name in names]  # empty: an omitted input
        for attribute in node.attribute:
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(subgraph, prefix, values)


class GraphBuilder:
    """Collects one graph. A method named after an operator adds a node and returns its output's name.

    Args:
        name: name of the graph, and prefix of its values.
        within_function: the graph becomes a function's body or a subgraph of one. These have no initializers, so
            constants become nodes.
    """

    def __init__(self, name: str, *, within_function: bool = False) -> None:
        self.name = name
        self._within_function = within_function
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[str, str] = {}  # small constants, by type, shape and content
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def subgraph(self, name: str) -> GraphBuilder:
        """Begin a graph for an attribute of a node of this one."""
        return GraphBuilder(name, within_function=self._within_function)

    def _fresh(self) -> str:
        self._count += 1
        return f"{self.name}/{self._count}"

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str], value: str) -> None:
        """Make ``value`` an output of the graph, under its own name."""
        self.bind(name, value)
        self.declare_output(name, dtype, shape)

    def bind(self, name: str, value: str) -> None:
        """Give a value a name; it may be an input."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def constant(self, value: NDArray[Any] | float | Sequence[int], dtype: str | None = None, name: str = "") -> str:
        array = np.asarray(value, dtype=dtype)
        # ascontiguousarray would make a scalar one-dimensional
        tensor = numpy_helper.from_array(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        key = f"{array.dtype}{array.shape}{array.tobytes()!r}" if array.size <= 8 and not name else ""
        if key in self._known:
            return self._known[key]
        tensor.name = f"{self.name}/{name}" if name else self._fresh()
        if key:
            self._known[key] = tensor.name
        if self._within_function:
            self._nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            self._constants.append(tensor)
        return tensor.name

    def filled(self, length: int, value: float) -> str:
        """Add a float32 vector of equal numbers, which takes no place in the file."""
        number = numpy_helper.from_array(np.array([value], np.float32))
        return str(self.node("ConstantOfShape", self.constant([length], "int64"), value=number))

    def node(self, operator: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> Any:
        """Add a node. Returns its output's name, which may be given, or a list of names for several."""
        names = [name] if name else [self._fresh() for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def cast(self, value: str, dtype: str) -> str:
        return str(self.node("Cast", value, to=DTYPES[dtype]))

    def unsqueeze(self, value: str, *axes: int) -> str:
        return str(self.node("Unsqueeze", value, self.constant(list(axes), "int64")))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Reshape to a constant shape; 0 keeps an axis, -1 is the rest."""
        return str(self.node("Reshape", value, self.constant(list(shape), "int64")))

    def size_of(self, value: str, axis: int) -> str:
        """Add the length of an axis, int64 [1]."""
        return str(self.node("Shape", value, start=axis, end=axis + 1))

    def splice(self, graph: onnx.GraphProto, prefix: str, inputs: Mapping[str, str]) -> dict[str, str]:
        """Add the nodes and constants of another graph.

        Args:
            graph: the other graph.
            prefix: prefix of its values' names; no other name may begin with it.
            inputs: a value for each of its inputs, by name.

        Returns:
            The value of each output, by the output's name.
        """
        renamed = onnx.GraphProto()
        renamed.CopyFrom(graph)
        _rename(renamed, prefix, inputs)
        if self._within_function:
            self._nodes.extend(helper.make_node("Constant", [], [one.name], value=one) for one in renamed.initializer)
        else:
            self._constants.extend(renamed.initializer)
        self._nodes.extend(renamed.node)
        return {value.name: inputs.get(value.name, prefix + value.name) for value in graph.output}

    def call(
        self, function: onnx.FunctionProto, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Add a call of a function, with these names for its outputs. Pass the function to :meth:`model` too."""
        self._nodes.append(
            helper.make_node(function.name, list(inputs), list(outputs), domain=function.domain, **attributes)
        )

    def declare_output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make the value of this name an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))

    def graph(self) -> onnx.GraphProto:
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._constants)

    def function(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Sequence[str]
    ) -> onnx.FunctionProto:
        """Make a function of the nodes.

        Args:
            inputs: names of its inputs, in order.
            outputs: names of its outputs, in order.
            attributes: names that a call may carry; the nodes do not use them.
        """
        return helper.make_function(
            DOMAIN,
            name,
            list(inputs),
            list(outputs),
            self._nodes,
            [helper.make_opsetid("", OPSET)],
            attributes=list(attributes),
        )

    def model(self, *functions: onnx.FunctionProto, opsets: Mapping[str, int] | None = None) -> bytes:
        """Check and serialise the model; the same graph gives the same bytes.

        Args:
            functions: functions that its nodes call.
            opsets: versions of further operators by domain; for ONNX's own domain, a version above ``OPSET``.
        """
        versions = {"": OPSET} | dict(opsets or {}) | ({DOMAIN: 1} if functions else {})
        domains = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        model = helper.make_model(
            self.graph(),
            functions=list(functions),
            opset_imports=domains,
            ir_version=IR_VERSION,
            producer_name="hetsyn",
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
