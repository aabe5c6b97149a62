"""Converts tritonclient's messages to the values of ``service.wire.open_inference`` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from service import errors
from service.open_inference.service import ModelReply
from service.problem import Problem
from service.wire.open_inference import (
    MOST_DIMENSIONS,
    MOST_TENSORS,
    PARAMETERS,
    ModelRequest,
    Tensor,
    check_binary,
    check_tensor_parameters,
)

CONTENTS = {"BOOL": "bool_contents", "INT16": "int_contents", "FP32": "fp32_contents"}


def refusal(problem: Problem) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Return the gRPC code, the sentence and the trailing metadata of a problem."""
    metadata = tuple((name, str(value)) for name, value in problem.metadata().items())
    return grpc.StatusCode[problem.grpc], problem.detail, metadata


def refused_message(problem: Problem, id_: str) -> Any:
    """Make the ``ModelStreamInferResponse`` of a problem. Its parameters are the metadata of a call."""
    message = pb.ModelStreamInferResponse(error_message=problem.detail)
    message.infer_response.id = id_
    for name, value in problem.metadata().items():
        setattr(message.infer_response.parameters[name], _choice(value), value)
    return message


def parameters_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Convert parameters to Python values.

    Raises:
        InputError: a parameter is empty.
    """
    found = {}
    for name, parameter in fields.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise errors.InputError(f"parameter {name[:64]!r} has no value: send one")
        found[name] = getattr(parameter, choice)
    return found


def check_counts(message: Any) -> None:
    """Limit the parts of a ``ModelInferRequest`` before they are converted: each takes a kilobyte as a Python value.

    Raises:
        InputError: it has too many.
    """
    for name, count, most in (
        ("inputs", len(message.inputs), MOST_TENSORS),
        ("outputs", len(message.outputs), MOST_TENSORS),
        ("raw_input_contents", len(message.raw_input_contents), MOST_TENSORS),
        ("parameters", len(message.parameters), len(PARAMETERS)),
    ):
        if count > most:
            raise errors.InputError(f"{name} has {count} items: send at most {most}")
    for index, tensor in enumerate(message.inputs):
        if len(tensor.shape) > MOST_DIMENSIONS:
            found = f"inputs[{index}].shape has {len(tensor.shape)} numbers"
            raise errors.InputError(f"{found}: send one a dimension, {MOST_DIMENSIONS} at most")


def request_of(message: Any) -> ModelRequest:
    """Convert a ``ModelInferRequest``; call ``check_counts`` first.

    Raises:
        InputError: its tensors break the protocol.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise errors.InputError(f"{len(raw)} raw contents for {len(message.inputs)} inputs: send one each, or none")
    for where, tensors, known in (
        ("inputs", message.inputs, "binary_data_size"),
        ("outputs", message.outputs, "binary_data"),
    ):
        for index, tensor in enumerate(tensors):
            check_tensor_parameters(f"{where}[{index}]", tensor.parameters, known)
    inputs = [
        Tensor(
            tensor.name,
            tensor.datatype,
            tuple(tensor.shape),
            raw[index] if (data := _contents(f"inputs[{index}]", tensor, bool(raw))) is None else data,
        )
        for index, tensor in enumerate(message.inputs)
    ]
    for index, output in enumerate(message.outputs):
        check_binary(f"outputs[{index}]", parameters_of(output.parameters).get("binary_data"))
    outputs = dict.fromkeys((output.name for output in message.outputs), True)
    parameters = parameters_of(message.parameters)
    return ModelRequest(message.model_name, message.model_version or None, message.id, parameters, inputs, outputs)


def message_of(reply: ModelReply, is_final: bool) -> Any:
    """Convert a reply to a ``ModelStreamInferResponse``: a call's answer is its ``infer_response``.

    Args:
        is_final: add that no more responses follow, as clients of decoupled models expect.
    """
    message = pb.ModelStreamInferResponse()
    response = message.infer_response  # its parts are filled in place: messages that are passed are copied
    response.model_name, response.model_version, response.id = reply.model, reply.version, reply.id
    parameters = response.parameters
    for name, value in reply.parameters.items():
        setattr(parameters[name], _choice(value), value)
    if is_final:
        parameters["triton_final_response"].bool_param = True
    for one in reply.outputs:
        response.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        response.raw_output_contents.append(one.packed())
    return message


def _contents(where: str, tensor: Any, is_raw: bool) -> Sequence[Any] | None:
    """Return the typed contents of an input; None if its data are raw."""
    wanted = None if is_raw else CONTENTS.get(tensor.datatype, "bytes_contents")
    for field, _ in tensor.contents.ListFields():
        if field.name != wanted:
            place = "raw_input_contents" if is_raw else f"{wanted} for datatype {tensor.datatype[:16]!r}"
            raise errors.InputError(f"{where}.contents.{field.name} would be ignored: send the data in {place} alone")
    return None if wanted is None else getattr(tensor.contents, wanted)


def _choice(value: Any) -> str:
    """Return the field of a parameter that takes a value."""
    if isinstance(value, bool):
        return "bool_param"
    if isinstance(value, str):
        return "string_param"
    if isinstance(value, float):
        return "double_param"
    return "int64_param" if value < 2**63 else "uint64_param"
