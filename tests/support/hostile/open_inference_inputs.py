"""Requests of the Open Inference Protocol to change at random, and their decoders."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from service.errors import InputError
from service.grpc.messages import check_counts, request_of
from service.models.catalog import ModelCatalog
from service.open_inference.json_body import parse_request
from service.wire.open_inference import infer_request
from service.wire.schema import InferRequest
from tests.support.data.signals import sound
from tests.support.hostile.decoders import BINARY, JSON, TEXT, Decoder, check_request


def open_inference_decoders(catalog: ModelCatalog) -> dict[str, Decoder]:
    """Those of the Open Inference Protocol, by name."""
    model = catalog.get(None)
    manifest = model.manifest

    def tensors(data: bytes) -> InferRequest:
        length, _, body = data.partition(b"\n")
        return infer_request(parse_request(model.name, None, body, length, manifest)).of(manifest)

    def message(data: bytes) -> InferRequest:
        try:
            parsed = service_pb2.ModelInferRequest.FromString(data)
            check_counts(parsed)
            request = request_of(parsed)
        except DecodeError as error:  # grpc refuses it so
            raise InputError("the message is not of the protocol") from error
        return infer_request(request).of(manifest)

    bodies = open_inference_bodies()
    messages = [ParseDict(body, service_pb2.ModelInferRequest()).SerializeToString() for body in MESSAGES]
    return {
        "Open Inference JSON": Decoder(bodies, JSON, lambda data: tensors(b"\n" + data), check_request),
        "Open Inference tensors": Decoder(
            [b"%d\n" % len(body) + body + content for body, content in open_inference_tensors()] + [b"0\n" + bytes(40)],
            [*BINARY, *JSON],
            tensors,
            check_request,
        ),
        "Open Inference message": Decoder(messages, [*BINARY, *TEXT], message, check_request),
    }


SEQUENCE = {
    "sequence_id": "abc",
    "sequence_start": True,
    "sequence_end": True,
    "seq": 0,
    "timeout": 900_000_000,
}
SPIKES = {"name": "spikes", "datatype": "BOOL", "shape": [2, 3]}
AUDIO = {"name": "audio", "datatype": "INT16", "shape": [4]}


def open_inference_bodies() -> list[bytes]:
    """Requests whose tensors are JSON."""
    inputs: list[list[dict[str, Any]]] = [
        [{**SPIKES, "data": [[0, 1, 0], [1, True, False]]}],
        [{**SPIKES, "datatype": "FP32", "data": [0, 1, 0, 1, 1.0, 0]}],
        [{**AUDIO, "data": [1, -3, 32767, 0]}],
        [{"name": "values", "datatype": "FP32", "shape": [1, 3], "data": [[0.5, -1e3, 2]]}],
        [],
    ]
    outputs = [{"name": "label"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    return [
        json.dumps({"id": "r", "parameters": SEQUENCE, "inputs": one, "outputs": outputs}).encode() for one in inputs
    ]


def open_inference_tensors() -> list[tuple[bytes, bytes]]:
    """Requests whose tensors follow, and these."""
    tensors: list[tuple[dict[str, Any], bytes]] = [
        (SPIKES, bytes([0, 1, 0, 1, 7, 255])),
        ({**SPIKES, "datatype": "FP32"}, np.array([0, 1, 0, 1, 1, 0], "<f4").tobytes()),
        (AUDIO, sound(4).tobytes()),
    ]
    return [
        (json.dumps({"inputs": [{**one, "parameters": {"binary_data_size": len(raw)}}]}).encode(), raw)
        for one, raw in tensors
    ]


PARAMETERS = {"sequence_id": {"int64_param": 7}, "sequence_start": {"bool_param": True}, "seq": {"int64_param": 0}}
MESSAGES: list[dict[str, Any]] = [
    {
        "model_name": "digits",
        "id": "r",
        "parameters": PARAMETERS,
        "inputs": [SPIKES],
        "raw_input_contents": ["AAEAAQH/"],
    },
    {
        "model_name": "digits",
        "inputs": [{**SPIKES, "contents": {"bool_contents": [False, True, True, False, False, True]}}],
        "outputs": [{"name": "label"}],
    },
    {"model_name": "digits", "inputs": [{**AUDIO, "contents": {"int_contents": [1, -3, 32767, 0]}}]},
    {"model_name": "digits", "inputs": [{**AUDIO, "datatype": "FP32", "contents": {"fp32_contents": [0, 1, 0.5, -1]}}]},
]
"""Requests over gRPC, as protobuf writes them as JSON."""


LONG = 1_000_000  # bytes of a body or message, below the limits


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf that has a length."""
    length, digits = len(content), b""
    while length > 127:
        digits += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + digits + bytes([length]) + content


def long_messages() -> list[bytes]:
    """Messages of many parts at each level: in the request, in an input, in its contents, in an output."""
    empty = {number: _field(number, b"") * (LONG // 2) for number in range(1, 9)}
    entries = b"".join(_field(4, _field(1, b"%d" % index)) for index in range(LONG // 11))
    inner = [_field(3, bytes(LONG)), empty[4], entries]
    contents = [_field(1, bytes(LONG)), _field(2, bytes(LONG)), _field(6, bytes(LONG // 4 * 4)), empty[8]]
    name = _field(1, b"digits")
    tensor = _field(1, b"spikes") + _field(2, b"BOOL")
    return [
        *(name + empty[number] for number in (3, 4, 5, 6, 7)),
        name + entries,
        *(name + _field(5, tensor + one) for one in inner),
        *(name + _field(5, tensor + _field(5, one)) for one in contents),
        name + _field(6, _field(1, b"label") + empty[2]),
    ]


def long_bodies() -> list[bytes]:
    """Bodies of many parts at each level."""

    def many(part: str) -> str:
        return ",".join([part] * (LONG // (len(part) + 1) - 200))

    tensor = '{"inputs":[{"name":"spikes","datatype":"BOOL","shape":[1,%s],"data":[%s]}]}'
    names = ",".join(f'"p{index}":0' for index in range(LONG // 12))
    bodies = [
        '{"inputs":[' + many("{}") + "]}", '{"outputs":[' + many("{}") + "]}", '{"parameters":{' + names + "}}",
        '{"inputs":[{"parameters":{' + names + "}}]}", '{"outputs":[{"name":"label","parameters":{' + names + "}}]}",
        tensor % (many("1"), "0"), tensor % ("6", many("0")), tensor % ("6", many("[]")), tensor % ("6", many("{}")),
        '{"inputs":' + "[" * LONG, '{"id":"' + "x" * (LONG - 20) + '"}',
    ]  # fmt: skip
    return [body.encode() for body in bodies]


def of_session(session: str, seq: int) -> tuple[list[bytes], list[bytes]]:
    """Bodies and messages to a session, with a number."""
    named = {"sequence_id": session, "seq": seq}
    parameters = {"sequence_id": {"string_param": session}, "seq": {"int64_param": seq}}
    bodies = [json.dumps({**json.loads(body), "parameters": named}).encode() for body in open_inference_bodies()[:3]]
    messages = [{**message, "parameters": parameters} for message in MESSAGES]
    return bodies, [ParseDict(one, service_pb2.ModelInferRequest()).SerializeToString() for one in messages]
