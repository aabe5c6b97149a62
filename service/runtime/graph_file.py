"""Checks the bytes of an ONNX file before ONNX Runtime reads them: a graph must not refer to other files.

ONNX keeps the values of a tensor in another file if the tensor says so (``external_data``, ``data_location``). ONNX
Runtime looks for that file in the working directory; its older versions read absolute paths and addresses of memory
too. So a graph could show a server's files to its clients, past the hashes of the manifest. Tensors occur in many
messages, also in subgraphs and functions. This module walks all of them by protobuf's framing alone.
"""

from __future__ import annotations

from service.errors import ArtifactError

# for each message of onnx.proto that can contain a tensor: the numbers of its fields that lead to tensors
MESSAGES = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of TensorProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MAX_FIELDS = 2**21  # of all messages; the walk takes about a second. An exported graph has some thousands
MAX_VARINT_BYTES = 10

_DAMAGED = "cannot load the graph: it is not an ONNX file, or damaged: export the model again"


def check_graph_file(content: bytes) -> None:
    """Check that a graph contains its tensors.

    Raises:
        ArtifactError: a tensor is in another file, or the content is no ONNX file.
    """
    fields = 0
    waiting = [("ModelProto", 0, len(content))]
    while waiting:
        message, at, end = waiting.pop()
        nested = MESSAGES[message]
        is_tensor = message == "TensorProto"
        while at < end:
            fields += 1
            tag, at = read_varint(content, at, end)
            number, framing, value = tag >> 3, tag & 7, 0
            begin = at
            if framing == VARINT:
                value, at = read_varint(content, at, end)
            elif framing == BYTES:
                length, begin = read_varint(content, at, end)
                at = begin + length
            elif framing in (FIXED64, FIXED32):
                at += 8 if framing == FIXED64 else 4
            else:  # groups, which ONNX does not use
                raise ArtifactError(_DAMAGED)
            if at > end or not 0 < number < 2**29:
                raise ArtifactError(_DAMAGED)
            if is_tensor and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
                raise ArtifactError(
                    "a tensor of the graph is in another file, which a server never reads: "
                    "export the model again with all tensors in the graph"
                )
            if fields > MAX_FIELDS:
                raise ArtifactError(f"the graph has more than {MAX_FIELDS} parts: export a smaller model")
            if framing == BYTES and number in nested:
                waiting.append((nested[number], begin, at))


def read_varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number of variable length. Returns it, and the position after it.

    Raises:
        ArtifactError: it does not end.
    """
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if at + index >= end:
            break
        byte = content[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ArtifactError(_DAMAGED)
