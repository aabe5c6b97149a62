"""Requests and replies of the Open Inference Protocol as values, for HTTP and gRPC.

A tensor's data are raw bytes (little endian, row major), or numbers of JSON and protobuf: flat, or nested once.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from math import prod
from types import NoneType, UnionType
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hetsyn_client.results import Classified, Reply
from service.contract.manifest import Manifest
from service.errors import InputError, TooLarge
from service.wire.chunk import SHORT, AudioChunk, Chunk, SpikeChunk, digest
from service.wire.decode import make_request
from service.wire.explain import explain_invalid, unknown_parameter
from service.wire.schema import Envelope, InferRequest
from service.wire.sound import check_rate, decode_samples
from service.wire.values import unpack_values

SEQ = "seq"
"""The parameter that numbers a chunk, which makes a retry harmless."""

INPUTS: Mapping[str, Mapping[str, str]] = {
    "audio": {"FP32": "<f4", "INT16": "<i2"},
    "spikes": {"BOOL": "|u1", "FP32": "<f4"},
    "values": {"FP32": "<f4"},
}
"""The numpy type of each datatype that an input may have; the first is the one in the metadata."""

FLAGS = ("sequence_start", "sequence_end", "binary_data_output", "triton_enable_empty_final_response")
PARAMETERS = ("sequence_id", SEQ, "sample_rate", "timeout", "priority", *FLAGS)
MOST_TENSORS, MOST_DIMENSIONS = 16, 8  # limits for a request, and for a tensor
LARGEST_ID = 2**64 - 1
LONGEST_ID = 1_000  # characters of a request's own id, which the reply repeats
PIECE = 16_384  # numbers to unpack at once: two milliseconds
LARGEST_BOOL_BYTES = 1024 * 1024  # a spike takes 16 bytes in memory, and one here


class Tensor(NamedTuple):
    """An input. Its name is one of ``INPUTS``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | Sequence[Any]


class ModelRequest(NamedTuple):
    """A request to a model.

    Attributes:
        version: None or empty takes the newest, or the session's.
        id: the reply repeats it.
        inputs: one; none if the request only ends its sequence.
        outputs: the wanted outputs by name, and whether as raw bytes; empty for all.
    """

    model: str
    version: str | None
    id: str
    parameters: Mapping[str, Any]
    inputs: Sequence[Tensor]
    outputs: Mapping[str, bool | None]


class OutputTensor(NamedTuple):
    """An output tensor. ``values`` are flat: numbers, or texts for BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]

    def packed(self) -> bytes:
        """Pack the values as raw bytes."""
        if self.datatype == "BYTES":
            encoded = [text.encode() for text in self.values]
            return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
        return np.asarray(self.values, "<f4" if self.datatype == "FP32" else "<i8").tobytes()


class OutputKind(NamedTuple):
    """The conversion of a reply's member to an output.

    Attributes:
        dimensions: depth of the member's lists; 0 for one value, which becomes an output of shape [1].
    """

    datatype: str
    dimensions: int

    def flat(self, value: Any) -> tuple[tuple[int, ...], Sequence[Any]]:
        """Return the shape and values of a member. None gives no values, or an empty text."""
        if self.dimensions == 2:
            rows = value or []
            return (len(rows), len(rows[0]) if rows else 0), list(chain.from_iterable(rows))
        if value is None and self.datatype == "BYTES":
            value = ""
        values = value or () if self.dimensions else () if value is None else (value,)
        return (len(values),), values


def _kind_of(hint: Any) -> OutputKind:
    """Find the kind of an output by the type of its member."""
    if get_origin(hint) is UnionType:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    dimensions = 0
    while get_origin(hint) is list:
        (hint,), dimensions = get_args(hint), dimensions + 1
    return OutputKind(DATATYPES[hint], dimensions)


DATATYPES = {float: "FP32", int: "INT64", str: "BYTES"}
KINDS = {name: _kind_of(hint) for name, hint in get_type_hints(Classified).items()} | {
    "total_steps": OutputKind("INT64", 0)
}
"""The outputs: all that the network says of an input, and how far the session is."""
NOT_OF_TRACE, OF_TRACE_ALONE = ("label", "probabilities"), ("readout",)  # members that only one kind of reply has


def input_of(manifest: Manifest) -> tuple[str, str, list[int]]:
    """Return name, datatype and shape of the input in a model's metadata."""
    name = {"events": "spikes"}.get(manifest.inputs[0], manifest.inputs[0])
    encoder, channels = manifest.encoder, manifest.input.channels
    if encoder is not None and encoder.kind == "values":
        channels = encoder.channels
    return name, next(iter(INPUTS[name])), [-1] if name == "audio" else [-1, channels]


def outputs_of(manifest: Manifest) -> list[tuple[str, str, list[int]]]:
    """Return name, datatype and shape of a model's outputs: the classification at the chunk's end, or a row a step."""
    unsaid = NOT_OF_TRACE if manifest.decision.rule == "trace" else OF_TRACE_ALONE
    lengths = {0: [1], 1: [manifest.outputs], 2: [-1, manifest.outputs]}
    return [(name, kind.datatype, lengths[kind.dimensions]) for name, kind in KINDS.items() if name not in unsaid]


def infer_request(request: ModelRequest) -> InferRequest:
    """Convert a request to one of ``/infer``.

    The model of its session completes it later, because only the session knows the model's version.

    Raises:
        InputError: a parameter or the input is wrong.
    """
    given = request.parameters
    if len(request.id) > LONGEST_ID:
        raise InputError(f"id: send at most {LONGEST_ID} characters")
    for name in given:
        if name not in PARAMETERS:
            sentence = f"parameter {name[:64]!r} is not one of this server: send any of {', '.join(PARAMETERS)}"
            raise unknown_parameter(name, sentence, PARAMETERS)
    session, seq = sequence_id(given), given.get(SEQ)
    start, end, *_ = (_flag(given, name) for name in FLAGS)
    if not _is_number(given.get("priority", 0)):
        raise InputError("priority: send a whole number")
    if seq is not None and type(seq) is not int:
        raise InputError(f"{SEQ}: send a whole number")
    if session is None and seq is not None:
        raise InputError(f"{SEQ} numbers the chunks of a sequence: send a sequence_id too")
    if start and seq:
        raise InputError(f"sequence_start goes with {SEQ} 0: leave one of them out")
    fields = {
        "session": session, "model": request.model, "version": request.version or None,
        "seq": seq, "begin": start, "end": session is None or end,
    }  # fmt: skip
    try:
        envelope = Envelope.model_validate(fields)
    except ValidationError as error:
        raise explain_invalid(error, "the parameters", "a parameter of this server") from error
    if len(request.inputs) > 1:
        raise InputError(f"{len(request.inputs)} inputs: send one of {', '.join(INPUTS)}")
    rate_hz = given.get("sample_rate")
    if "sample_rate" in given and (isinstance(rate_hz, bool) or not isinstance(rate_hz, int) or rate_hz <= 0):
        raise InputError("sample_rate: send a whole number of Hz")
    chunk = _chunk(request.inputs[0], rate_hz) if request.inputs else None
    completed = partial(_completed, tuple(request.outputs))
    return make_request(envelope, chunk)._replace(timeout_s=_timeout_s(given), completed=completed)


def _completed(outputs: tuple[str, ...], request: InferRequest, manifest: Manifest) -> InferRequest:
    """Complete a request for its model, with the model's sample rate if it has none of its own."""
    known = [name for name, _, _ in outputs_of(manifest)]
    for name in outputs:
        if name not in known:
            raise InputError(f"no output {name[:64]!r}: ask for {', '.join(known)}")
    if not isinstance(request.chunk, AudioChunk) or request.chunk.rate_hz:
        return request
    rate_hz = manifest.encoder.sample_rate_hz if manifest.encoder else 0
    if not rate_hz:
        raise InputError(f"model {manifest.name!r} takes no audio: send {input_of(manifest)[0]}")
    chunk = AudioChunk(request.chunk.samples, check_rate(rate_hz))
    return request._replace(chunk=chunk, digest=digest(chunk, request.envelope.end))


def check_tensor_parameters(where: str, given: Iterable[str], known: str) -> None:
    """Refuse unknown parameters of an input or output: a client would rely on what the server ignores.

    Raises:
        InputError: a parameter is not ``known``.
    """
    for name in given:
        if name != known:
            raise InputError(f"{where}: parameter {name[:64]!r} is not one of this server: send {known}, or none")


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Read the time within which the work must begin; None takes the server's limit."""
    value = parameters.get("timeout", 0)
    if not _is_number(value):
        raise InputError("timeout: send a whole number of microseconds")
    return value / 1e6 or None


def output_tensors(reply: Reply, wanted: Collection[str]) -> list[OutputTensor]:
    """Convert a reply of ``/infer`` to the wanted outputs; to all if none is named."""
    members = cast(dict[str, Any], reply)
    unsaid = NOT_OF_TRACE if "readout" in reply else OF_TRACE_ALONE
    return [
        OutputTensor(name, kind.datatype, *kind.flat(members.get(name)))
        for name, kind in KINDS.items()
        if name not in unsaid and (not wanted or name in wanted)
    ]


def sequence_id(parameters: Mapping[str, Any]) -> str | None:
    """Read the id of a request's sequence; None if the request belongs to none.

    Raises:
        InputError: the parameter is no id.
    """
    value = parameters.get("sequence_id")
    if value is None or value == "" or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError("sequence_id: send a whole number or a string")
    if isinstance(value, int) and not 0 < value <= LARGEST_ID:
        raise InputError(f"sequence_id: send a whole number up to {LARGEST_ID}, or a string")
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InputError(f"{name}: send true or false")
    return value


def check_binary(where: str, value: Any) -> None:
    """Refuse a parameter ``binary_data`` of an output that is neither true nor false. None is fine."""
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{where}.parameters.binary_data: send true or false")


def _chunk(tensor: Tensor, rate_hz: int | None) -> Chunk | None:
    """Make the chunk of an input; None if it is empty.

    Args:
        rate_hz: sample rate of audio; None leaves it to the model.

    Raises:
        InputError: its name, datatype, shape or data are wrong.
        TooLarge: it would take much more memory than it has bytes.
    """
    name, datatype, shape = tensor.name, tensor.datatype, tensor.shape
    if name not in INPUTS:
        raise InputError(f"no input {name[:64]!r}: send {', '.join(INPUTS)}")
    if datatype not in INPUTS[name]:
        raise InputError(f"input {name!r} has datatype {datatype[:16]!r}: send {' or '.join(INPUTS[name])}")
    expected = "[samples]" if name == "audio" else "[steps, channels]"
    if len(shape) != (1 if name == "audio" else 2) or any(not 0 <= length < 2**31 for length in shape):
        raise InputError(f"input {name!r} has shape {list(shape[:8])}: send {expected}")
    dtype = np.dtype(INPUTS[name][datatype])
    count = prod(shape)
    data = tensor.data
    if not isinstance(data, bytes | memoryview):
        data = _packed(data, shape, name, dtype)
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"input {name!r} of shape {list(shape)} and datatype {datatype} takes {count * dtype.itemsize} bytes, "
            f"{len(data)} came: send all of it"
        )
    if not count:
        return None
    if name == "audio":
        samples = decode_samples(bytes(data), "pcm_s16le" if dtype.kind == "i" else "pcm_f32le")
        return AudioChunk(samples, 0 if rate_hz is None else check_rate(rate_hz))
    if name == "values":
        return unpack_values(bytes(data), {"channels": str(shape[1])})
    if dtype.itemsize == 1 and len(data) > LARGEST_BOOL_BYTES:
        raise TooLarge(f"the spikes have more than {LARGEST_BOOL_BYTES} bytes: cut them into several chunks")
    rows = np.frombuffer(data, dtype).reshape(shape)
    if dtype.kind == "f":  # BOOL: any byte but 0 is true, as perf_analyzer sends them
        _check_bits(rows)
    # ``rows.nonzero()`` takes five times as long
    step, unit = np.divmod(np.flatnonzero(rows.view(bool) if dtype.itemsize == 1 else rows), shape[1])
    positions = (step << 16 | unit).astype(np.uint32) if max(shape) <= SHORT else None
    return SpikeChunk(shape[0], step, unit, shape[1], positions)


def _check_bits(rows: NDArray[Any]) -> None:
    wrong = (rows != 0) & (rows != 1)
    if wrong.any():
        t, i = (int(index) for index in np.argwhere(wrong)[0])
        raise InputError(f"spikes[{t}][{i}] is {rows[t, i]:g}: send 0 or 1 for each channel and step")


def _packed(data: Sequence[Any], shape: tuple[int, ...], name: str, dtype: np.dtype[Any]) -> bytes:
    """Pack numbers as raw bytes."""
    flat: Iterable[Any] = data
    if len(shape) == 2 and data and isinstance(data[0], list):
        if any(not isinstance(row, list) or len(row) != shape[1] for row in data):
            raise InputError(f"input {name!r} has rows of other lengths than its shape says: send {list(shape)}")
        flat = chain.from_iterable(data)
    values, left = array("d"), iter(flat)
    try:
        while piece := list(islice(left, PIECE)):  # in pieces, so that other threads can run in between
            values.extend(piece)
        numbers = np.frombuffer(values, np.float64) if values else np.zeros(0)
    except (TypeError, OverflowError):
        raise InputError(
            f"input {name!r} has data that are no numbers: send them flat, or a list for each row"
        ) from None
    if len(numbers) != prod(shape):
        raise InputError(f"input {name!r} has {len(numbers)} numbers and the shape {list(shape)}: send as many as that")
    with np.errstate(all="ignore"):
        packed = numbers.astype(bool if dtype.kind == "u" else dtype)
    if dtype.kind != "f" and not np.array_equal(packed, numbers):
        raise InputError(f"input {name!r} has numbers that its datatype cannot hold: send such as it can, or FP32")
    return packed.tobytes()
