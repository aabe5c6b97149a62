"""Decodes all rows of a frame of chunks together, by array operations (``hetsyn_client.columns``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from hetsyn_client.columns import CHUNK
from hetsyn_client.events import HEADER, LARGEST, MAGIC, Integers
from service.errors import InputError
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, digest, spike_chunk
from service.wire.many_frames import Chunks
from service.wire.pcm import FULL_SCALE

Encoding = Literal["events", "pcm_s16le", "values"]
Decoded = Chunk | InputError | None


class DecodedFrame(Protocol):
    """The chunks of a frame.

    Attributes:
        is_valid: [rows], whether a row is a valid chunk that does not end its session.
    """

    is_valid: list[bool]

    def chunk(self, row: int) -> Decoded:
        """Return a row's chunk, or its error. None: no content, which is valid if the row ends its session."""

    def digest(self, row: int) -> bytes:
        """Return ``chunk.digest`` of a valid row."""


class Decoder(NamedTuple):
    """Decodes the frames of a connection.

    Attributes:
        decode: decodes a frame.
    """

    item_bytes: int
    decode: Callable[[Chunks], DecodedFrame]


def decoder_of(encoding: Encoding, rate_hz: int, channels: int) -> Decoder:
    """Choose the decoder of an encoding."""
    if encoding == "events":
        return Decoder(4, EventFrame)
    if encoding == "values":
        return Decoder(4 * channels, lambda chunks: _decode_values(chunks, channels))
    return Decoder(2, lambda chunks: _decode_samples(chunks, rate_hz))


def _bounds_of(chunks: Chunks) -> list[int]:
    """Return the offsets of the rows' first items and of the end, [n + 1]."""
    return [0, *np.cumsum(chunks.length, dtype=np.int64).tolist()]


class EventFrame:
    """The spikes of a frame. Rows that ascend and are in range, as most clients send them, are checked together.

    Attributes:
        steps: network steps of each row.
    """

    def __init__(self, chunks: Chunks) -> None:
        self._bounds = _bounds_of(chunks)
        items = self._bounds[-1]
        self._rows = list(map(slice, self._bounds, self._bounds[1:]))
        self.steps: list[int] = chunks.steps.tolist()
        self._times = np.frombuffer(chunks.content, "<u2", items)
        self._units = np.frombuffer(chunks.content, "<u2", items, 2 * items)
        self._positions = self._times.astype(np.uint32) << 16 | self._units
        self._are_in_order = self._checked(chunks)
        self.is_valid: list[bool] = (self._are_in_order & (chunks.action == CHUNK)).tolist()
        self._is_end: list[bool] = (chunks.action != CHUNK).tolist()

    def chunk(self, row: int) -> Decoded:
        steps, items = self.steps[row], self._rows[row]
        step, unit = self._step[items], self._unit[items]
        if self._are_in_order[row]:
            return tuple.__new__(SpikeChunk, (steps, step, unit, None, self._positions[items], self._bound))
        if not steps and not len(step):
            return None if self._is_end[row] else _empty()
        try:
            return spike_chunk(steps, step, unit)
        except InputError as error:
            return error

    def digest(self, row: int) -> bytes:
        content = self._content[self._rows[row]]
        head = b"spikes %d %d False\n" % (self.steps[row], len(content))
        of_row: bytes = xxhash.xxh3_128_digest(head + content)
        return of_row

    @cached_property
    def _bound(self) -> int:
        return int(self._units.max(initial=0))

    @cached_property
    def _step(self) -> Integers:
        return self._times.astype(np.int64)

    @cached_property
    def _unit(self) -> Integers:
        return self._units.astype(np.int64)

    @cached_property
    def _content(self) -> memoryview:
        return memoryview(self._positions)

    def _checked(self, chunks: Chunks) -> NDArray[np.bool_]:
        """Return which rows have steps, and pairs (time, unit) that ascend and are within the steps, bool [rows]."""
        times, positions = self._times, self._positions
        ends = np.array(self._bounds[1:], np.int64)
        are_in_order = (chunks.steps > 0) & (chunks.steps <= LARGEST + 1)
        if not len(times):
            return are_in_order
        are_in_order &= (times[np.maximum(ends - 1, 0)] < chunks.steps) | (chunks.length == 0)
        is_first = np.zeros(len(times) + 1, bool)  # first events of rows: they have no order to check
        is_first[ends] = True
        descents = np.flatnonzero(positions[1:] <= positions[:-1]) + 1
        are_in_order[np.searchsorted(ends, descents[~is_first[descents]], side="right")] = False
        return are_in_order


class ChunkFrame:
    """The samples or values of a frame.

    Args:
        rows: each row's chunk, None, or its error.
        is_end: whether each row ends its session.
    """

    def __init__(self, rows: list[Decoded], is_end: list[bool]) -> None:
        self._rows = rows
        self._is_end = is_end
        self.is_valid: list[bool] = [
            not (is_end or chunk is None or isinstance(chunk, InputError))
            for is_end, chunk in zip(self._is_end, rows, strict=True)
        ]

    def chunk(self, row: int) -> Decoded:
        return self._rows[row] if self._is_end[row] or self._rows[row] is not None else _empty()

    def digest(self, row: int) -> bytes:
        chunk = self._rows[row]
        return b"" if isinstance(chunk, InputError) else digest(chunk, False)


def decoded_together(messages: Sequence[bytes]) -> list[tuple[Chunk, bytes] | None]:
    """Decode messages of packed events (``hetsyn_client.events``) together to their chunks and digests.

    None for a message that is incomplete or does not ascend. Decoding it alone sorts it, or says what is wrong.
    """
    heads, halves = [], []
    for message in messages:
        magic, steps, count = HEADER.unpack_from(message) if len(message) >= HEADER.size else (b"", 0, 0)
        if magic != MAGIC or len(message) != HEADER.size + 4 * count:
            steps, count, message = 0, 0, b""
        heads.append((steps, count))
        halves.append((message[HEADER.size : HEADER.size + 2 * count], message[HEADER.size + 2 * count :]))
    content = b"".join([times for times, _ in halves] + [units for _, units in halves])
    numbers = np.array(heads, np.uint32).reshape(-1, 2)
    unused = np.zeros(len(numbers), np.uint32)
    action = np.full(len(numbers), CHUNK, np.uint32)
    chunks = Chunks(unused.astype(np.uint64), unused, action, numbers[:, 0], numbers[:, 1], memoryview(content))
    frame = EventFrame(chunks)
    return [
        (chunk, frame.digest(row)) if is_valid and isinstance(chunk := frame.chunk(row), SpikeChunk) else None
        for row, is_valid in enumerate(frame.is_valid)
    ]


def _empty() -> InputError:
    return InputError("the chunk is empty: send at least one sample or step, or end the session")


def _decode_samples(chunks: Chunks, rate_hz: int) -> ChunkFrame:
    samples = np.frombuffer(chunks.content, "<i2").astype(np.float32) / FULL_SCALE
    rows: list[Decoded] = [
        AudioChunk(samples[begin:end], rate_hz) if end > begin else None for begin, end in pairwise(_bounds_of(chunks))
    ]
    return ChunkFrame(rows, (chunks.action != CHUNK).tolist())


def _decode_values(chunks: Chunks, channels: int) -> ChunkFrame:
    values = np.frombuffer(chunks.content, "<f4").reshape(-1, channels).astype(np.float32)
    is_finite = np.logical_and.reduce(np.isfinite(values), axis=1)
    rows: list[Decoded] = []
    for begin, end in pairwise(_bounds_of(chunks)):
        if end == begin:
            rows.append(None)
        elif is_finite[begin:end].all():
            rows.append(ValuesChunk(values[begin:end]))
        else:
            step = int(np.flatnonzero(~is_finite[begin:end])[0])
            rows.append(InputError(f"the values of step {step} are not finite: send numbers that float32 can hold"))
    return ChunkFrame(rows, (chunks.action != CHUNK).tolist())
