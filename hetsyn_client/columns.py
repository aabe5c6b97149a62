"""The binary frames of ``WS /streams``: chunks of many sessions and their results, as columns. Little endian.

All frames begin with 16 bytes: a name, the number of rows n, and two more numbers. The columns follow, one after the
other, each with n entries, and at last a part with a length in the head. A row is a chunk, a session or a result.

    chunks    HSC1  n  items     0           seq u64  handle u32  action u32  steps u32  length u32  content
    sessions  HSO1  n  id bytes  resume      handle u32  length u32  ids
    results   HSR1  n  outputs   JSON bytes  seq u64  total_steps u64  handle u32  action u32  status u32  steps u32
                                             label i32  probabilities f32 [n, outputs]  JSON
    opened    HSP1  n  0         JSON bytes  next_seq u64  total_steps u64  handle u32  status u32  state u32    JSON

``resume`` is 1 if all of the sessions must exist, else 0. ``items`` is the sum of the lengths. The content has all
rows, one after the other: events are all times (u16) and then all units (u16); samples are i16; values are f32, a row
of channels for each step. The JSON part is an object with the members that fit in no column, by the row's number as a
string; it is empty without any.

This module does no input or output: any client can use it, with threads or asyncio. The server's half is in
``service.wire.many_frames``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hetsyn_client.errors import InputError

More = dict[int, dict[str, Any]]

HEAD = struct.Struct("<4sIII")
NAMES = CHUNKS, SESSIONS, RESULTS, OPENED = b"HSC1", b"HSO1", b"HSR1", b"HSP1"
CHUNK, END, LEAVE = 0, 1, 2  # actions of a row (``pack_chunks``)
NEW, BEGUN, ENDED = 0, 1, 2  # states of a session that is opened
APPLIED = 200  # the status of a row that was applied
MOST_ROWS = 4_096  # of a frame

_RESULT_ROW, _OPENED_ROW = 36, 28  # bytes without probabilities and JSON


class Results(NamedTuple):
    """The outcome of each row of a frame of chunks.

    Attributes:
        seq: uint64 [n], number of the chunk.
        total_steps: uint64 [n], network steps of the session so far.
        handle: uint32 [n].
        action: uint32 [n], as sent.
        status: uint32 [n], ``APPLIED``, or a problem's HTTP status: the row was not applied.
        steps: uint32 [n], network steps of the chunk.
        label: int32 [n], index among the labels; -1 for none.
        probabilities: float32 [n, outputs]; no columns for rule trace. Zeros for a row that was not applied.
        more: by row: for a problem ``problem``, ``detail``, ``retryable``, ``retry_after_s`` and ``expected_seq``; for
            a chunk its ``readout`` with rule trace, and its ``events``.
    """

    seq: NDArray[np.uint64]
    total_steps: NDArray[np.uint64]
    handle: NDArray[np.uint32]
    action: NDArray[np.uint32]
    status: NDArray[np.uint32]
    steps: NDArray[np.uint32]
    label: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    more: More


class Opened(NamedTuple):
    """The outcome of each row of a frame of sessions.

    Attributes:
        next_seq: uint64 [n], number of the next chunk.
        total_steps: uint64 [n], network steps of the session so far.
        handle: uint32 [n].
        status: uint32 [n], ``APPLIED``, or a problem's HTTP status: the handle is free.
        state: uint32 [n], ``NEW``; ``BEGUN`` before; or ``ENDED``: its last row, sent again, gets its result.
        more: by row: a problem, as in ``Results``.
    """

    next_seq: NDArray[np.uint64]
    total_steps: NDArray[np.uint64]
    handle: NDArray[np.uint32]
    status: NDArray[np.uint32]
    state: NDArray[np.uint32]
    more: More


def pack_chunks(
    handles: ArrayLike,
    seq: ArrayLike,
    lengths: ArrayLike,
    content: bytes,
    steps: ArrayLike = 0,
    actions: ArrayLike = CHUNK,
) -> bytes:
    """Pack a frame of chunks, at most one of each session.

    Args:
        handles: [n], the sessions' handles on this connection.
        seq: number of each chunk in its session, [n] or one for all; ignored for ``LEAVE``.
        lengths: items of each chunk: events, samples, or rows of values, [n] or one for all.
        steps: network steps of events; 0 for samples and values; [n] or one for all.
        actions: [n] or one for all. ``CHUNK``: apply the content. ``END``: apply the content, if there is any, and end
            the session. ``LEAVE``: this connection leaves the session, which stays, and the handle is free.
    """
    handle = np.asarray(handles, "<u4")
    rows = handle.shape
    length = np.broadcast_to(np.asarray(lengths, "<u4"), rows)
    columns = [np.broadcast_to(np.asarray(column, "<u4"), rows) for column in (actions, steps)]
    head = HEAD.pack(CHUNKS, len(handle), int(length.sum(dtype=np.int64)), 0)
    numbers = np.broadcast_to(np.asarray(seq, "<u8"), rows)
    return b"".join(
        (
            head,
            numbers.tobytes(),
            handle.tobytes(),
            *(column.tobytes() for column in columns),
            length.tobytes(),
            content,
        )
    )


def pack_sessions(handles: Sequence[int], ids: Sequence[str], *, resume: bool = False) -> bytes:
    """Pack a frame of sessions to open; with ``resume``, all must exist."""
    encoded = [name.encode() for name in ids]
    lengths = np.array([len(name) for name in encoded], "<u4")
    head = HEAD.pack(SESSIONS, len(encoded), int(lengths.sum()), resume)
    return b"".join((head, np.asarray(handles, "<u4").tobytes(), lengths.tobytes(), *encoded))


def unpack_results(data: bytes) -> Results:
    """Unpack a frame of results.

    Raises:
        InputError: the bytes are no such frame.
    """
    count, outputs, length = head_of(data, RESULTS, None)
    check_length(data, HEAD.size + count * (_RESULT_ROW + 4 * outputs) + length, f"{count} results")
    seq, total_steps = np.frombuffer(data, "<u8", 2 * count, HEAD.size).reshape(2, count)
    at = HEAD.size + 16 * count
    handle, action, status, steps = np.frombuffer(data, "<u4", 4 * count, at).reshape(4, count)
    label = np.frombuffer(data, "<i4", count, at + 16 * count)
    at += 20 * count
    probabilities = np.frombuffer(data, "<f4", count * outputs, at).reshape(count, outputs)
    more = _unpack_more(data[at + 4 * count * outputs :])
    return Results(seq, total_steps, handle, action, status, steps, label, probabilities, more)


def unpack_opened(data: bytes) -> Opened:
    """Unpack a frame of opened sessions.

    Raises:
        InputError: the bytes are no such frame.
    """
    count, _, length = head_of(data, OPENED, None)
    check_length(data, HEAD.size + count * _OPENED_ROW + length, f"{count} opened sessions")
    next_seq, total_steps = np.frombuffer(data, "<u8", 2 * count, HEAD.size).reshape(2, count)
    handle, status, state = np.frombuffer(data, "<u4", 3 * count, HEAD.size + 16 * count).reshape(3, count)
    more = _unpack_more(data[HEAD.size + count * _OPENED_ROW :])
    return Opened(next_seq, total_steps, handle, status, state, more)


def head_of(data: bytes, name: bytes, most_rows: int | None) -> tuple[int, int, int]:
    """Read the head of a frame with this name: its number of rows, at most ``most_rows``, and two more numbers.

    Raises:
        InputError: the bytes are no such frame.
    """
    if len(data) < HEAD.size or not data.startswith(name):
        raise InputError(f"the frame does not begin with {name.decode()} and three numbers (16 bytes): pack it again")
    _, count, second, third = HEAD.unpack_from(data)
    if most_rows is not None and count > most_rows:
        raise InputError(f"the frame has {count} rows: send at most {most_rows}, and the others in further frames")
    return count, second, third


def check_length(data: bytes, expected: int, what: str) -> None:
    """Check the length of a frame; InputError if it has another."""
    if len(data) != expected:
        raise InputError(f"{what} take {expected} bytes, the frame has {len(data)}: send all of it, and nothing more")


def _unpack_more(text: bytes) -> More:
    try:
        return {int(row): members for row, members in json.loads(text).items()} if text else {}
    except (ValueError, AttributeError) as error:
        raise InputError(f"the JSON part of the frame cannot be read ({error})") from error
