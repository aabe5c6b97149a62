"""A frame of ``/streams`` that is divided among workers, and its results that are put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.columns import Chunks, Opened, events_content, pack_chunks, unpack_chunks
from service.api.split_sessions import _joined, _packed, _rows_of, _split

ITEM_BYTES = {"events": 4, "samples": 2, "values": 12}


@st.composite
def frames(draw: st.DrawFn, kind: str) -> Chunks:
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=9))
    count, items = len(lengths), sum(lengths)
    numbers = np.arange(items * ITEM_BYTES[kind] // 2, dtype="<u2")
    content = events_content(numbers[:items], numbers[items:]) if kind == "events" else numbers.tobytes()
    handles, seq = np.arange(count) * 3, np.arange(count) + 7
    data = pack_chunks(handles, seq, lengths, content, np.arange(count) + 1, np.arange(count) % 2)
    return unpack_chunks(data, ITEM_BYTES[kind])


def contents(chunks: Chunks, kind: str) -> list[bytes]:
    """The content of each row."""
    ends = np.cumsum(chunks.length, dtype=np.int64)
    bounds = list(zip([0, *ends.tolist()], ends.tolist(), strict=False))
    if kind == "events":
        times, units = np.frombuffer(chunks.content, "<u2").reshape(2, -1)
        return [times[begin:end].tobytes() + units[begin:end].tobytes() for begin, end in bounds]
    size = ITEM_BYTES[kind]
    return [bytes(chunks.content[size * begin : size * end]) for begin, end in bounds]


@pytest.mark.parametrize("kind", ITEM_BYTES)
@given(st.data())
def test_each_worker_gets_its_rows_as_they_were(kind: str, data: st.DataObject) -> None:
    chunks = data.draw(frames(kind))
    count = len(chunks.seq)
    workers = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    for worker in range(3):
        rows = np.flatnonzero(workers == worker)
        part = _rows_of(chunks, rows, ITEM_BYTES[kind], kind == "events")
        sent = unpack_chunks(_packed(part), ITEM_BYTES[kind])  # it is a frame
        for name in ("seq", "handle", "action", "steps", "length"):
            assert np.array_equal(getattr(sent, name), getattr(chunks, name)[rows])
        assert contents(sent, kind) == [contents(chunks, kind)[row] for row in rows]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
async def test_results_come_in_the_order_of_the_rows(workers: list[int]) -> None:
    async def opened(index: int, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Opened:
        numbers = rows.astype(np.uint64)
        columns = (rows.astype(np.uint32), np.full(len(rows), index, np.uint32), rows.astype(np.uint32))
        return Opened(numbers, numbers, *columns, {n: {"row": int(row)} for n, row in enumerate(rows) if row % 2})

    joined = _joined(await _split(workers, opened), Opened)
    assert joined.next_seq.tolist() == joined.handle.tolist() == list(range(len(workers)))
    assert joined.status.tolist() == workers
    assert joined.more == {row: {"row": row} for row in range(1, len(workers), 2)}
