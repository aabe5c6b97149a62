"""Reads and writes the bodies of ``infer`` over HTTP: JSON, followed by tensors as raw bytes."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from service.contract.manifest import Manifest
from service.errors import InputError, TooLarge
from service.open_inference.service import ModelReply
from service.wire.open_inference import (
    INPUTS,
    MOST_DIMENSIONS,
    MOST_TENSORS,
    ModelRequest,
    Tensor,
    check_binary,
    check_tensor_parameters,
    input_of,
)

MAX_JSON_BYTES = 1024 * 1024  # it takes up to 60 times its length in memory
BINARY = "binary_data_size"


def parse_request(
    name: str, version: str | None, body: bytes, header_length: bytes, manifest: Manifest
) -> ModelRequest:
    """Parse a body.

    Args:
        header_length: bytes of the JSON, in digits. Empty: the whole body is JSON. 0: the whole body is the only input.

    Raises:
        InputError: the body breaks the protocol.
        TooLarge: its JSON is above ``MAX_JSON_BYTES``.
    """
    length = len(body)
    if header_length:
        if not (header_length.isdigit() and len(header_length) <= 10 and int(header_length) <= length):
            raise InputError("Inference-Header-Content-Length: send the length of the JSON in the body")
        length = int(header_length)
        if not length:
            return _raw(name, version, body, manifest)
    if length > MAX_JSON_BYTES:
        raise TooLarge(f"the JSON is longer than {MAX_JSON_BYTES} bytes: send binary tensors, or shorter chunks")
    try:
        content = from_json(memoryview(body)[:length].tobytes(), allow_inf_nan=False)
    except ValueError as error:
        raise InputError(f"the body is not JSON ({str(error)[:200]}): send one object") from error
    content = _typed(content, dict, "the body", "an object")
    inputs, at = [], length
    for index, item in enumerate(_few(content.get("inputs") or [], "inputs")):
        tensor, at = _tensor(_typed(item, dict, f"inputs[{index}]", "an object"), f"inputs[{index}]", body, at)
        inputs.append(tensor)
    if at != len(body):
        raise InputError(f"{len(body) - at} bytes follow the last tensor: send what {BINARY} says")
    parameters = _typed(content.get("parameters") or {}, dict, "parameters", "an object")
    outputs: dict[str, bool | None] = {}
    for index, item in enumerate(_few(content.get("outputs") or [], "outputs")):
        output = _typed(item, dict, f"outputs[{index}]", "an object")
        own = _typed(output.get("parameters") or {}, dict, f"outputs[{index}].parameters", "an object")
        check_tensor_parameters(f"outputs[{index}]", own, "binary_data")
        check_binary(f"outputs[{index}]", own.get("binary_data"))
        outputs[_typed(output.get("name"), str, f"outputs[{index}].name", "a string")] = own.get("binary_data")
    id_ = _typed(content.get("id") or "", str, "id", "a string")
    return ModelRequest(name, version, id_, parameters, inputs, outputs)


def reply_body(reply: ModelReply, request: ModelRequest) -> tuple[int | None, bytes]:
    """Write a reply's body. Returns the length of its JSON, None if all of it is JSON, and the body."""
    usual = request.parameters.get("binary_data_output") is True
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for tensor in reply.outputs:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if usual if (own := request.outputs.get(tensor.name)) is None else own is True:
            raw.append(tensor.packed())
            output["parameters"] = {BINARY: len(raw[-1])}
        else:
            output["data"] = tensor.values
        outputs.append(output)
    content: dict[str, Any] = {"model_name": reply.model, "model_version": reply.version, "outputs": outputs}
    if reply.id:
        content["id"] = reply.id
    if reply.parameters:
        content["parameters"] = reply.parameters
    header = to_json(content)
    return (len(header), header + b"".join(raw)) if raw else (None, header)


def _raw(name: str, version: str | None, body: bytes, manifest: Manifest) -> ModelRequest:
    tensor, datatype, (_, *more) = input_of(manifest)
    row_bytes = (1 if datatype == "BOOL" else 4) * (more[0] if more else 1)
    if len(body) % row_bytes:
        raise InputError(f"{len(body)} bytes are not a whole number of rows of {row_bytes} bytes: send whole rows")
    inputs = [Tensor(tensor, datatype, (len(body) // row_bytes, *more), body)]
    return ModelRequest(name, version, "", {"binary_data_output": True}, inputs, {})


def _tensor(item: dict[str, Any], where: str, body: bytes, at: int) -> tuple[Tensor, int]:
    """Read an input. Returns it, and the offset of the next one's raw bytes.

    Args:
        where: its place in the JSON, for messages.
        at: offset of the input's raw bytes.
    """
    shape = _typed(item.get("shape"), list, f"{where}.shape", "a list")
    if len(shape) > MOST_DIMENSIONS or any(type(length) is not int for length in shape):
        raise InputError(f"{where}.shape: send whole numbers, one a dimension")
    own = _typed(item.get("parameters") or {}, dict, f"{where}.parameters", "an object")
    check_tensor_parameters(where, own, BINARY)
    data: Any = item.get("data")
    if BINARY in own:
        size = own[BINARY]
        if type(size) is not int or not 0 <= size <= len(body) - at or data is not None:
            raise InputError(f"{where}.parameters.{BINARY}: send the number of the tensor's bytes after the JSON")
        data, at = memoryview(body)[at : at + size], at + size
    else:
        data = _typed(data, list, f"{where}.data", "a list")
    name = _typed(item.get("name"), str, f"{where}.name", f"one of {', '.join(INPUTS)}")
    return Tensor(name, _typed(item.get("datatype"), str, f"{where}.datatype", "a string"), tuple(shape), data), at


def _few(items: Any, name: str) -> list[Any]:
    found: list[Any] = _typed(items, list, name, "a list")
    if len(found) > MOST_TENSORS:
        raise InputError(f"{name} has {len(found)} items: send at most {MOST_TENSORS}")
    return found


def _typed(value: Any, kind: type, where: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{where}: send {what}")
    return value
