"""Reads a foreign ONNX file: its inputs and outputs, and its graph with some inputs replaced by constants.

The graph must be deterministic and finite: no random numbers, no NaN weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.folder import ExportError
from export.graphs.build import OPSET
from export.graphs.foreign import check_nodes
from hetsyn_client.extras import install_command


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        dtype: numpy's name.
        shape: None for an open length; None in place of all if the rank is open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class OnnxFile:
    """A model, and its inputs and outputs by name.

    Attributes:
        model: includes all its tensors.
        inputs: those without a default.
    """

    model: onnx.ModelProto
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]

    @property
    def content(self) -> bytes:
        """Serialise the file, with all its tensors."""
        return bytes(self.model.SerializeToString())


def read_onnx(path: Path) -> OnnxFile:
    """Read a model from its file, and from files beside it that it names.

    Raises:
        ExportError: there is no such file, it is no model, or a weight is NaN.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be read ({error.strerror or error}): give the path of an ONNX file"
        ) from error
    except Exception as error:  # protobuf and the checker have their own classes
        line = str(error).strip().partition("\n")[0][:200]
        raise ExportError(f"{path} is not a valid ONNX file ({line}): export the model again") from error
    check_nodes(model)
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [_port(value) for value in model.graph.input if value.name not in known]
    outputs = [_port(value) for value in model.graph.output]
    return OnnxFile(model, {port.name: port for port in inputs}, {port.name: port for port in outputs})


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        return Port(value.name, "no tensor", None)
    dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if not kind.HasField("shape"):
        return Port(value.name, dtype, None)
    return Port(value.name, dtype, tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim))


def choose(name: str, known: Mapping[str, Port], what: str) -> Port:
    """Find a port by its name.

    Args:
        known: ports by name.
        what: ``input`` or ``output``.

    Raises:
        ExportError: the graph lacks it; the message has the nearest name.
    """
    if name in known:
        return known[name]
    nearest = get_close_matches(name, known, n=1, cutoff=0)
    raise ExportError(
        f"the graph has no {what} {name!r}: it has {', '.join(known) or 'none'}"
        + (f"; did you mean {nearest[0]!r}?" if nearest else "")
    )


def constant_array(port: Port, value: float | Sequence[float] | NDArray[np.generic]) -> NDArray[np.generic]:
    """Convert a constant to the type and shape of an input.

    Raises:
        ExportError: the input has an open length, or the value does not fit.
    """
    try:
        array = np.asarray(value)
        typed = array.astype(port.dtype)
        if array.dtype.kind in "if" and not np.array_equal(typed.astype(array.dtype), array):
            raise ValueError(f"{value} is no {port.dtype}")
        if port.shape is None or None in port.shape:
            return typed
        return np.broadcast_to(typed, port.shape).copy()  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ExportError(f"constant {port.name} is {port.dtype} {_text(port.shape)}: {error}") from error


def _text(shape: tuple[int | None, ...] | None) -> str:
    return "of any shape" if shape is None else str([length or "?" for length in shape])


def folded(file: OnnxFile, constants: Mapping[str, NDArray[np.generic]]) -> onnx.ModelProto:
    """Replace inputs by constants, fold them, and convert the model to an opset that can be wrapped.

    Args:
        constants: by the input's name.

    Raises:
        ExportError: its operators are too old, or onnxscript is missing.
    """
    try:
        from onnxscript import optimizer
    except ModuleNotFoundError as error:
        raise ExportError(f"this needs {error.name}: {install_command('train')}") from error
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    kept = [value for value in model.graph.input if value.name in file.inputs and value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    model = onnx.inliner.inline_local_functions(model)
    model = optimizer.optimize(model)
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter's C++ exceptions
            line = str(error).strip().partition("\n")[0][:200]
            raise ExportError(
                f"the file has opset {version}, which cannot be brought to {OPSET} ({line}): export the model again "
                f"with opset {OPSET}"
            ) from error
    return model
