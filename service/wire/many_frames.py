"""The server's half of the binary frames of ``WS /streams``. ``hetsyn_client.columns`` has the format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.columns import (
    CHUNK,
    CHUNKS,
    HEAD,
    LEAVE,
    MOST_ROWS,
    OPENED,
    RESULTS,
    SESSIONS,
    Opened,
    Results,
    check_length,
    head_of,
)
from service.errors import InputError

LONGEST_ID = 128
_CHUNK_ROW, _SESSION_ROW = 24, 8  # bytes of a row without content


class Chunks(NamedTuple):
    """Chunks of sessions, at most one of each (``hetsyn_client.columns.pack_chunks``). Each column is [n]."""

    seq: NDArray[np.uint64]
    handle: NDArray[np.uint32]
    action: NDArray[np.uint32]
    steps: NDArray[np.uint32]
    length: NDArray[np.uint32]
    content: memoryview


class Sessions(NamedTuple):
    """Sessions to open, under handles that the client has chosen. ``resume``: all must exist."""

    handles: list[int]
    ids: list[str]
    resume: bool = False


def unpack_chunks(data: bytes, item_bytes: int) -> Chunks:
    """Unpack a frame of chunks.

    Args:
        item_bytes: size of an event (4), a sample (2), or a row of values (4 for each channel).

    Raises:
        InputError: the bytes are no such frame. Its length is checked before anything is allocated.
    """
    count, items, zero = head_of(data, CHUNKS, MOST_ROWS)
    check_length(data, HEAD.size + count * _CHUNK_ROW + items * item_bytes, f"{count} chunks of {items} items")
    if zero:
        raise InputError("bytes 12 to 15 of the frame are not 0: send 0 there")
    seq, at = np.frombuffer(data, "<u8", count, HEAD.size), HEAD.size + 8 * count
    handle, action, steps, length = np.frombuffer(data, "<u4", 4 * count, at).reshape(4, count)
    actions = action.tolist()
    if (total := sum(length.tolist())) != items:
        raise InputError(f"the lengths of the chunks are {total} together, the head says {items}")
    if (highest := max(actions, default=CHUNK)) > LEAVE:
        raise InputError(f"there is no action {highest}: send 0 chunk, 1 end or 2 leave")
    if LEAVE in actions and np.count_nonzero(length[action == LEAVE]):
        raise InputError("a row that leaves a session has content: send its length as 0")
    if _has_twice(handle.tolist()):
        raise InputError("a handle occurs twice in the frame: send the session's next chunk in another frame")
    return Chunks(seq, handle, action, steps, length, memoryview(data)[at + 16 * count :])


def unpack_sessions(data: bytes) -> Sessions:
    """Unpack a frame of sessions to open.

    Raises:
        InputError: the bytes are no such frame, or an id is too long or not ASCII.
    """
    count, length, resume = head_of(data, SESSIONS, MOST_ROWS)
    if resume > 1:
        raise InputError(f"bytes 12 to 15 of the frame say {resume}: send 1 if all sessions have to have begun, else 0")
    check_length(data, HEAD.size + count * _SESSION_ROW + length, f"{count} sessions with {length} bytes of ids")
    handles, lengths = np.frombuffer(data, "<u4", 2 * count, HEAD.size).reshape(2, count).tolist()
    if (total := sum(lengths)) != length:
        raise InputError(f"the lengths of the ids are {total} together, the head says {length}")
    if (longest := max(lengths, default=0)) > LONGEST_ID:
        raise InputError(f"an id has {longest} characters: send at most {LONGEST_ID}")
    try:
        text = data[HEAD.size + count * _SESSION_ROW :].decode("ascii")
    except UnicodeDecodeError:
        raise InputError("an id is not ASCII: send letters, digits and . _ ~ : -") from None
    if _has_twice(handles):
        raise InputError("a handle occurs twice in the frame: choose another one for each session")
    ends = list(accumulate(lengths))
    ids = [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    return Sessions(handles, ids, bool(resume))


def _has_twice(handles: list[int]) -> bool:
    return len(set(handles)) < len(handles)


def pack_results(results: Results) -> bytes:
    """Pack a frame of results."""
    more = _pack_more(results.more)
    head = HEAD.pack(RESULTS, len(results.seq), results.probabilities.shape[1], len(more))
    return b"".join(
        (
            head,
            results.seq.astype("<u8").tobytes(),
            results.total_steps.astype("<u8").tobytes(),
            results.handle.astype("<u4").tobytes(),
            results.action.astype("<u4").tobytes(),
            results.status.astype("<u4").tobytes(),
            results.steps.astype("<u4").tobytes(),
            results.label.astype("<i4").tobytes(),
            results.probabilities.astype("<f4").tobytes(),
            more,
        )
    )


def pack_opened(opened: Opened) -> bytes:
    """Pack a frame of opened sessions."""
    more = _pack_more(opened.more)
    columns = [column.astype("<u4").tobytes() for column in (opened.handle, opened.status, opened.state)]
    numbers = (opened.next_seq.astype("<u8").tobytes(), opened.total_steps.astype("<u8").tobytes())
    return b"".join((HEAD.pack(OPENED, len(opened.handle), 0, len(more)), *numbers, *columns, more))


def _pack_more(more: Mapping[int, Mapping[str, Any]]) -> bytes:
    return json.dumps({str(row): members for row, members in more.items()}).encode() if more else b""
