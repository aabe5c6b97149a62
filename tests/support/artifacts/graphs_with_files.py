"""Graphs that keep a tensor in a file beside them, everywhere that ONNX has tensors; and a graph that does not end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VALUES = 16  # bytes of the tensor
PLACES = ("initializer", "attribute", "subgraph", "subgraph's attribute", "function", "function's subgraph", "sparse")


def external(location: str, name: str = "x") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[VALUES], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(VALUES))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph_with_file(place: str, location: str) -> bytes:
    """A graph without inputs, whose output y is the file's first bytes.

    Args:
        place: of ``PLACES``.
    """
    tensor = external(location)
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    identity = helper.make_node("Identity", ["x"], ["y"])
    with_initializer = helper.make_graph([identity], "then", [], [_y()], [tensor])
    with_attribute = helper.make_graph([constant], "else", [], [_y()])
    condition = numpy_helper.from_array(np.array(place != "subgraph's attribute"), "yes")
    branch = helper.make_node("If", ["yes"], ["y"], then_branch=with_initializer, else_branch=with_attribute)
    match place:
        case "initializer":
            return _model([identity], [tensor])
        case "attribute":
            return _model([constant])
        case "subgraph" | "subgraph's attribute":
            return _model([branch], [condition])
        case "function":
            return _model([helper.make_node("F", [], ["y"], domain="ours")], functions=[_function([], constant)])
        case "function's subgraph":
            call = helper.make_node("F", ["yes"], ["y"], domain="ours")
            return _model([call], [condition], functions=[_function(["yes"], branch)])
        case "sparse":
            model = onnx.load_from_string(_model([identity]))
            indices = numpy_helper.from_array(np.arange(VALUES), "indices")
            model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, indices=indices, dims=[VALUES]))
            return bytes(model.SerializeToString())
    raise ValueError(place)


def with_endless_loop(graph: bytes) -> bytes:
    """A graph that takes its steps from a loop of 2^62 turns."""
    model = onnx.load_from_string(graph)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Add", ["n", "n"], ["n2"])],
        "turn",
        [value("turn", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("n", TensorProto.INT64, [1])],
        [value("goes", TensorProto.BOOL, []), value("n2", TensorProto.INT64, [1])],
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(2**62), "turns"),
            numpy_helper.from_array(np.array(True), "begin"),
            numpy_helper.from_array(np.zeros(1, np.int64), "nothing"),
        ]
    )
    for node in model.graph.node:
        node.input[:] = ["steps.late" if name == "steps" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Loop", ["turns", "begin", "nothing"], ["never"], body=body))
    model.graph.node.insert(1, helper.make_node("Add", ["steps", "never"], ["steps.late"]))
    return bytes(model.SerializeToString())


def with_fatal_division(graph: bytes) -> bytes:
    """A graph with constants whose quotient no int64 holds: who computes it gets SIGFPE."""
    model = onnx.load_from_string(graph)
    constants = {"smallest": -(2**63), "one": 1, "minus.one": -1}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.int64), name) for name, value in constants.items()
    )
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["smallest", "one"], ["product"]),
            helper.make_node("Div", ["product", "minus.one"], ["quotient"]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("quotient", TensorProto.INT64, [1]))
    return bytes(model.SerializeToString())


def _y() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("y", TensorProto.UINT8, [VALUES])


def _function(inputs: Sequence[str], node: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("ours", "F", inputs, ["y"], [node], [helper.make_opsetid("", 17)])


def _model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [_y()], list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ours", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8)
    return bytes(model.SerializeToString())
