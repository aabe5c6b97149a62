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
from tests.support.decoders import BINARY, JSON, TEXT, Decoder, check_request
from tests.support.signals import sound


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
    "form": "bank",
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
