"""Decodes a large JSON body in pieces, so that it takes little memory and stops no other thread for long.

pydantic parses a body as a whole: 4 MiB of numbers would take 160 MB, and the interpreter for 0.1 s. But a large body
is a few fields and one or two arrays of numbers, or a string. So the arrays are cut out, and decoded in pieces to NumPy
arrays. pydantic parses the rest, in which they are empty. Each piece is parsed by pydantic too, as JSON of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from hetsyn_client.values import MEDIA_TYPE as VALUES_TYPE
from service.errors import InputError, TooLarge, UnsupportedInput
from service.wire.chunk import SpikeChunk, ValuesChunk, dense_chunk, spike_chunk, values_chunk
from service.wire.explain import explain_invalid
from service.wire.schema import STRICT, Bits, DenseInput, EventsInput, InferBody, Input, Rows, ValuesInput, Wholes

PIECE_BYTES = 64 * 1024  # of JSON that is parsed at once
LONGEST_ROW_BYTES = 256 * 1024  # of a dense input
MOST_VALUES = 1_000  # beside the numbers; a valid body has a dozen
UNKNOWN_FIELD = "a field of this request: leave it out"

_ARRAY = re.compile(rb'"(times|units|spikes|values)"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
_NESTED = re.compile(rb"\[[^]]*\[")
_COMMA = re.compile(rb"[ \t\n\r]*,")
_BLANK = b" \t\n\r"
_WHOLES: TypeAdapter[list[float]] = TypeAdapter(Wholes, config=STRICT)
_ROWS: dict[str, TypeAdapter[list[list[float]]]] = {
    "spikes": TypeAdapter(Bits, config=STRICT),
    "values": TypeAdapter(Rows, config=STRICT),
}
_SMALLER = {"spikes": "send the spikes as kind 'events'", "values": f"send the values as {VALUES_TYPE}"}
_REST: TypeAdapter[InferBody] = TypeAdapter(InferBody)

Floats = NDArray[np.float64]


class Array(NamedTuple):
    """An array of a body, cut out: ``body[begin:end]`` goes from its ``[`` to its ``]``."""

    body: bytes
    begin: int
    end: int


def decode_large(body: bytes, max_rows: float = inf) -> tuple[InferBody, SpikeChunk | ValuesChunk | None]:
    """Decode a body.

    Args:
        body: of a request.
        max_rows: of a matrix.

    Returns:
        The body without the numbers of its input, and their chunk; None if it has no array that was cut out.

    Raises:
        InputError: the body is not JSON, or not of the schema.
        TooLarge: the input has more rows.
        UnsupportedInput: there is no such kind of input.
    """
    rest, arrays = _cut_out(body)
    if sum(map(rest.count, (b",", b":", b"[", b"{"))) > MOST_VALUES:
        raise _explain_excess(rest)
    try:
        parsed = _REST.validate_json(rest)
    except ValidationError as error:
        raise explain_invalid(error, "the body", UNKNOWN_FIELD) from error
    if not arrays:
        return parsed, None
    if parsed.input is None or any(getattr(parsed.input, name, None) != [] for name in arrays):
        raise InputError("the body has a key twice, one of them for an array: send each once")  # the last one counted
    _check_rows(arrays, max_rows)
    return parsed, _chunk(parsed.input, arrays)


def _cut_out(body: bytes) -> tuple[bytes, dict[str, Array]]:
    """Empty the arrays of numbers of a body.

    An array reaches up to the last ``]`` before the next string or object. Within a string none is found: its key would
    have to end the string.

    Returns:
        The body with ``[]`` in their places, and the arrays by name.
    """
    parts, arrays, done = [], dict[str, Array](), 0
    for match in islice(_ARRAY.finditer(body), MOST_VALUES):
        name, begin = match[1].decode(), match.end()
        end = body.rfind(b"]", begin, _end_of_numbers(body, begin)) + 1
        if body.count(b"[", begin, end) != body.count(b"]", begin, end) or not end:
            continue  # it is cut off, or has something else among its numbers
        if name in arrays:
            raise InputError(f"input.{name} occurs twice: send it once")
        arrays[name] = Array(body, begin, end)
        parts += [body[done:begin], b"[]"]
        done = end
    return b"".join([*parts, body[done:]]), arrays


def _end_of_numbers(body: bytes, begin: int) -> int:
    """Where the next string or object begins or ends."""
    end = len(body)
    for delimiter in b'"', b"{", b"}":
        found = body.find(delimiter, begin, end)
        end = end if found < 0 else found
    return end


def _explain_excess(rest: bytes) -> InputError | UnsupportedInput:
    """Explain what is wrong with too many values, from the first of them."""
    try:
        beginning: Any = from_json(rest[:PIECE_BYTES], allow_partial="trailing-strings")
    except ValueError as error:
        return InputError(f"the body is not JSON ({error}): send one JSON object")
    try:
        InferBody.model_validate(beginning)
    except ValidationError as error:
        # what is missing may come later
        if any(item["type"] != "missing" for item in error.errors(include_url=False, include_input=False)):
            return explain_invalid(error, "the body", UNKNOWN_FIELD, ignored="missing")
    array = _ARRAY.search(rest)
    if array is not None:  # its beginning is valid, so it was not cut out because of a string or an object further on
        name, begin, end = array[1].decode(), array.end(), _end_of_numbers(rest, array.end())
        row = rest.rfind(b"[", begin, end)
        index = f"[{rest.count(b']', begin, end)}]" if row > begin else ""
        return InputError(f"input.{name}{index}[{rest.count(b',', row, end)}]: send a number")
    return InputError(
        f"the body has more than {MOST_VALUES:,} values that are not numbers of times, units, spikes or values: "
        "send only those"
    )


def _check_rows(arrays: dict[str, Array], max_rows: float) -> None:
    """Check the number of rows before they are decoded: a million rows of one number take half a second.

    Raises:
        TooLarge: they are too many.
    """
    for name, (body, begin, end) in arrays.items():
        rows = body.count(b"[", begin + 1, end)
        if rows > max_rows and not _NESTED.search(body, begin + 1, end):  # arrays in a row are explained later
            raise TooLarge(
                f"input.{name} has {rows} rows, and at most {max_rows} are taken: cut it into several chunks"
            )


def _chunk(inputs: Input | None, arrays: dict[str, Array]) -> SpikeChunk | ValuesChunk | None:
    """The chunk whose arrays were cut out."""
    if isinstance(inputs, EventsInput):
        times = _wholes("times", arrays["times"]) if "times" in arrays else np.array(inputs.times, np.float64)
        units = _wholes("units", arrays["units"]) if "units" in arrays else np.array(inputs.units, np.float64)
        return spike_chunk(inputs.steps, times, units)
    if isinstance(inputs, DenseInput) and "spikes" in arrays:
        return dense_chunk(_rows("spikes", arrays["spikes"]))
    if isinstance(inputs, ValuesInput) and "values" in arrays:
        return values_chunk(_rows("values", arrays["values"]))
    return None


def _wholes(name: str, array: Array) -> Floats:
    """Decode an array of numbers."""
    parts: list[Floats] = []
    count = 0
    for piece in _cut_at_commas(array):
        try:
            values = _WHOLES.validate_json(b"[" + piece + b"]")
        except ValidationError as error:
            raise explain_invalid(error, "the body", UNKNOWN_FIELD, within=("input", name), first=count) from error
        if not values and (parts or array.end - array.begin > len(piece) + 2):
            raise InputError(f"the body is not JSON (input.{name}[{count}] is empty): send one JSON object")
        parts.append(np.array(values, np.float64))
        count += len(values)
    return np.concatenate(parts)


def _cut_at_commas(array: Array) -> Iterator[bytes]:
    body, position, end = array.body, array.begin + 1, array.end - 1
    while True:
        cut = end
        if end - position > PIECE_BYTES:
            cut = body.rfind(b",", position, position + PIECE_BYTES)
            if cut < 0:
                cut = body.find(b",", position, end)
        if cut < 0:
            cut = end
        yield body[position:cut]
        if cut == end:
            return
        position = cut + 1


def _rows(name: str, array: Array) -> Iterator[list[list[float]]]:
    """Decode a matrix, some rows at a time."""
    count = 0
    # as pydantic has it, with the kind before a field of the same name
    within = ("input", "values", name) if name == "values" else ("input", name)
    for piece in _cut_at_rows(array):
        if len(piece) > LONGEST_ROW_BYTES:
            if piece.lstrip(_BLANK).startswith(b"["):
                raise InputError(f"input.{name}[{count}] takes more than {LONGEST_ROW_BYTES} bytes: {_SMALLER[name]}")
            piece = piece.partition(b",")[0]  # it is no row
        try:
            rows = _validate_rows(name, piece)
        except ValidationError as error:
            raise explain_invalid(error, "the body", UNKNOWN_FIELD, within=within, first=count) from error
        if not rows and (count or array.end - array.begin > len(piece) + 2):
            raise InputError(f"the body is not JSON (input.{name}[{count}] is empty): send one JSON object")
        yield rows
        count += len(rows)


def _validate_rows(name: str, piece: bytes) -> list[list[float]]:
    text = b"[" + piece + b"]"
    with suppress(ValueError, TypeError):  # pydantic takes twice as long, so it only explains what is wrong
        rows: Any = from_json(text, allow_inf_nan=False)
        if set(map(type, rows)) <= {list} and _are_numbers(name, rows):
            return list(rows)
    if piece.count(b"[") != piece.count(b"]"):  # cut within arrays of arrays, which are refused, or not JSON
        try:
            beginning = from_json(text[:-1], allow_partial=True)
        except ValueError:
            beginning = []
        _ROWS[name].validate_python(beginning)
    return _ROWS[name].validate_json(text)


def _are_numbers(name: str, rows: list[list[Any]]) -> bool:
    numbers = chain.from_iterable(rows)
    return set(numbers) <= {0, 1} if name == "spikes" else set(map(type, numbers)) <= {float, int}


def _cut_at_rows(array: Array) -> Iterator[bytes]:
    body, position, end = array.body, array.begin + 1, array.end - 1
    while True:
        cut = body.rfind(b"]", position, min(position + PIECE_BYTES, end))
        if cut < 0:
            cut = body.find(b"]", position, end)
        comma = None if cut < 0 else _COMMA.match(body, cut + 1, end)
        if comma is None:
            yield body[position:end]
            return
        yield body[position : cut + 1]
        position = comma.end()
