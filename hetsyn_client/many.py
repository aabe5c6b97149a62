"""Many sessions over one WebSocket (``WS /streams``), for a program that has many streams, such as a gateway.

    with LiveStreams("http://127.0.0.1:8000", sample_rate_hz=16000) as streams:
        hall, kitchen = streams.open(["hall", "kitchen"])
        for results in streams.send([hall, kitchen], [hall_samples, kitchen_samples]):
            print(results.handle, results.label, results.probabilities)
        for results in streams.end([hall, kitchen]) + streams.wait():
            print(results.handle, results.label)

The server acknowledges each chunk after it has stored it. If the connection breaks, another one is opened, and each
session's unacknowledged chunks are sent again. None is lost, and none counts twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from types import TracebackType
from typing import Literal, NamedTuple, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.access import access_of
from hetsyn_client.columns import (
    APPLIED,
    CHUNK,
    END,
    ENDED,
    LEAVE,
    MOST_ROWS,
    Opened,
    Results,
    pack_chunks,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from hetsyn_client.errors import InputError, ServiceProblem
from hetsyn_client.events import HEADER, Integers, pack_events
from hetsyn_client.network.transport import Transport
from hetsyn_client.protocol.calls import check_names
from hetsyn_client.protocol.pending import Content, Pending
from hetsyn_client.protocol.reconnecting import ConnectionOptions, Frame, Reconnecting
from hetsyn_client.protocol.steps import Broken, Now, Pause, Steps, T, target
from hetsyn_client.sources.bodies import Matrix, packed_samples
from hetsyn_client.values import rows_of


class _OpenedRow(NamedTuple):
    next_seq: int
    state: int
    more: Frame


class LiveStreams(Reconnecting):
    """Many sessions. Use it as a context manager; those that were not ended stay on the server.

    Its methods raise ServiceProblem if the server ends the connection for good, or has room for no chunk however often
    it is asked, ServiceUnreachable if it does not answer, and InputError for input that cannot be sent.

    Args:
        url: as ``http://127.0.0.1:8000``.
        sample_rate_hz: sample rate of sound; None for events or values.
        channels: numbers of a row of values; None for sound or events.
        sleep: waits between two tries, in seconds; tests replace it.
        options: those of ``ConnectionOptions``.

    Attributes:
        begin: the last ``Begin`` of the server; it has the ``labels``.
    """

    def __init__(
        self,
        url: str,
        *,
        sample_rate_hz: int | None = None,
        channels: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        check_names(options, ConnectionOptions.__optional_keys__)
        if sample_rate_hz is not None and channels is not None:
            raise InputError("the streams are sound or values: give sample_rate_hz or channels, not both")
        self._kind: Literal["pcm_s16le", "events", "values"] = (
            "pcm_s16le" if sample_rate_hz is not None else "events" if channels is None else "values"
        )
        self._channels = channels
        query = {
            "model": options.get("model"), "version": options.get("version"),
            "encoding": self._kind, "sample_rate": sample_rate_hz, "channels": channels,
        }  # fmt: skip
        access = access_of(url, options)
        super().__init__(access.url, target("/streams", query), options)
        self._transport = Transport(access, self._timeout_s, sleep=sleep)
        self._pending = Pending()
        self._later: ServiceProblem | None = None  # the last refusal that asked to send a chunk again
        self._handles = count()
        self.begin: Frame = {}

    def __enter__(self) -> Self:
        self._transport.run(self._begin_once())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The sessions stay on the server until they expire.

        Chunks that were not acknowledged may not be applied: ``wait`` first.
        """
        self._transport.run(self._close())
        self._transport.close()

    def open(self, ids: Sequence[str]) -> list[int]:
        """Open sessions, and return a handle for each. A session that has begun goes on with its next chunk.

        Raises:
            ServiceProblem: the server refused one; then none of them is open here.
        """
        if isinstance(ids, str):
            raise InputError(f"{ids!r} is one id: give a list of ids")
        return self._transport.run(self._open_all(ids))

    def _open_all(self, ids: Sequence[str]) -> Steps[list[int]]:
        handles = [next(self._handles) for _ in ids]
        yield from self._wait()
        while True:
            opened = yield from self._exchanged(lambda: self._opened(handles, ids))
            refused = [index for index, row in enumerate(opened) if row.more or row.state == ENDED]
            if not refused:
                break
            yield from self._left([handle for index, handle in enumerate(handles) if not opened[index].more])
            first = next((index for index in refused if not opened[index].more.get("retryable")), refused[0])
            more = opened[first].more
            if not more.get("retryable") or self._patience.is_over((yield Now()), 0.0):
                detail = more.get("detail", "it has ended: begin another one under a new id")
                status, problem = int(more.get("status", 409)), more.get("problem", "session-ended")
                raise ServiceProblem(status, f"session {ids[first]!r}: {detail}", None, None, problem)
            yield Pause(self._patience.pause_s(more.get("retry_after_s") or 0.0, 0.0))
        for handle, name, row in zip(handles, ids, opened, strict=True):
            self._pending.add(handle, name, row.next_seq)
        return handles

    def send(self, handles: Sequence[int], samples: Sequence[NDArray[np.int16]]) -> list[Results]:
        """Send 16-bit samples, [n] of each session, one channel.

        Returns:
            The results that have come meanwhile. A row that the server refused has a status other than ``APPLIED``.
            It waits for results if too many chunks are unacknowledged.
        """
        self._check("pcm_s16le")
        rows = [packed_samples(np.asarray(row), "pcm_s16le", 1) for row in samples]
        return self._rows(handles, CHUNK, [Content(0, len(row) // 2, row) for row in rows])

    def send_events(
        self,
        handles: Sequence[int],
        steps: Sequence[int],
        times: Sequence[Sequence[int] | Integers],
        units: Sequence[Sequence[int] | Integers],
    ) -> list[Results]:
        """Send each session's spikes of ``steps`` network steps: ``times`` and ``units``, [spikes]; as ``send``."""
        self._check("events")
        rows = []
        for length, of_times, of_units in zip(steps, times, units, strict=True):
            packed = pack_events(length, of_times, of_units)[HEADER.size :]
            half = len(packed) // 2
            rows.append(Content(length, half // 2, packed[:half], packed[half:]))
        return self._rows(handles, CHUNK, rows)

    def send_values(self, handles: Sequence[int], values: Sequence[Matrix]) -> list[Results]:
        """Send rows of values, [steps, channels] of each session; as ``send``."""
        self._check("values")
        checked = [rows_of(rows, self._channels) for rows in values]
        return self._rows(handles, CHUNK, [Content(0, len(rows), rows.astype("<f4").tobytes()) for rows in checked])

    def end(self, handles: Sequence[int]) -> list[Results]:
        """End sessions, as ``send``. Their final results come like those of chunks."""
        return self._rows(handles, END, [Content()] * len(handles))

    def wait(self) -> list[Results]:
        """Wait until all chunks are answered, and return the results that come; errors as of ``send``.

        If the connection broke, the results of some chunks may be lost. The chunks are not.
        """
        return self._transport.run(self._wait())

    def _wait(self) -> Steps[list[Results]]:
        results: list[Results] = []
        while self._pending.under_way:
            results += yield from self._receive(self._timeout_s)
        return results

    def leave(self, handles: Sequence[int]) -> list[Results]:
        """Leave sessions open on the server, after the chunks before, and return the results that come meanwhile.

        Their handles are free. ``StreamingClient.drop`` deletes a session.
        """
        results = self.wait()
        for handle in handles:  # first, so that a connection that breaks now is reopened without them
            self._pending.remove(handle)
        self._transport.run(self._left(handles))
        return results

    def _check(self, kind: str) -> None:
        if kind != self._kind:
            raise InputError(f"these streams are of {self._kind}: open others for {kind}")

    def _rows(self, handles: Sequence[int], action: int, content: Sequence[Content]) -> list[Results]:
        if len(content) != len(handles) or len(set(handles)) != len(handles):
            raise InputError(f"{len(content)} chunks for {len(handles)} handles: send one chunk of each session")
        self._check_open(handles)
        return self._transport.run(self._sent(handles, action, content))

    def _check_open(self, handles: Sequence[int]) -> None:
        if unknown := [handle for handle in handles if handle not in self._pending]:
            raise InputError(f"handle {unknown[0]} is not open: open the session first")

    def _sent(self, handles: Sequence[int], action: int, content: Sequence[Content]) -> Steps[list[Results]]:
        results: list[Results] = []
        for at in _starts(handles):
            part = slice(at, at + MOST_ROWS)
            while self._pending.under_way and self._pending.under_way + len(handles[part]) > self.begin["max_inflight"]:
                results += yield from self._receive(self._timeout_s)
            yield from self._send_all(self._pending.frames(handles[part], action, content[part]))
        while self._pending.under_way and (more := (yield from self._receive(0))):
            results += more
        return results

    def _send_all(self, frames: Iterable[bytes]) -> Steps[None]:
        try:
            for frame in frames:
                yield from self._send_frame(frame)
        except Broken as error:
            yield from self._reopen(error)  # sends all that is pending

    def _receive(self, timeout_s: float) -> Steps[list[Results]]:
        """Return the next results; none if none come within a time of 0, or if the connection broke."""
        try:
            content = yield from self._content(timeout_s)
        except Broken as error:
            yield from self._reopen(error)
            return []
        if content is None:
            return []
        results = unpack_results(content)
        if APPLIED in results.status:
            self._patience.answered()
        for row, more in results.more.items():
            if more.get("retryable"):
                self._later = ServiceProblem(int(results.status[row]), more["detail"], None, None, more["problem"])
        again, pause_s = self._pending.take(results)
        if again:
            if self._later is not None and self._patience.is_over((yield Now()), 0.0):
                raise self._later
            yield Pause(self._patience.pause_s(pause_s, 0.0))
            yield from self._send_all(self._pending.repeat(again))
        return [results]

    def _left(self, handles: Sequence[int]) -> Steps[None]:
        """Leave sessions that have nothing pending."""
        for at in _starts(handles):
            yield from self._exchanged(partial(self._left_part, handles[at : at + MOST_ROWS]))

    def _left_part(self, handles: Sequence[int]) -> Steps[bytes]:
        yield from self._send_frame(pack_chunks(handles, 0, 0, b"", 0, LEAVE))
        return (yield from self._binary())

    def _exchanged(self, exchange: Callable[[], Steps[T]]) -> Steps[T]:
        """Carry out steps again if the connection breaks. Nothing must be pending."""
        while True:
            try:
                return (yield from exchange())
            except Broken as error:
                yield from self._reopen(error)

    def _content(self, timeout_s: float) -> Steps[bytes | None]:
        """Read the next binary frame; None if ``timeout_s`` is 0 and none has come."""
        while True:
            frame = yield from (self._awaited() if timeout_s else self._read(0))
            if frame is None or isinstance(frame, bytes):
                return frame

    def _binary(self) -> Steps[bytes]:
        """Read the next binary frame; Broken if none comes."""
        content = yield from self._content(self._timeout_s)
        assert content is not None
        return content

    def _opened(self, handles: Sequence[int], ids: Sequence[str]) -> Steps[list[_OpenedRow]]:
        """Open sessions on the connection."""
        rows = []
        for at in _starts(handles):
            opened = yield from self._opened_part(handles[at : at + MOST_ROWS], ids[at : at + MOST_ROWS])
            columns = zip(opened.next_seq.tolist(), opened.state.tolist(), opened.status.tolist(), strict=True)
            for row, (next_seq, state, status) in enumerate(columns):
                more = {"status": status} | opened.more[row] if row in opened.more else {}
                rows.append(_OpenedRow(next_seq, state, more))
        return rows

    def _opened_part(self, handles: Sequence[int], ids: Sequence[str], *, resume: bool = False) -> Steps[Opened]:
        yield from self._send_frame(pack_sessions(handles, ids, resume=resume))
        return unpack_opened((yield from self._binary()))

    def _open(self) -> Steps[None]:
        self.begin = yield from self._begun()
        opening = [
            (begun, self._pending.ids(begun=begun)) for begun in (False, True)
        ]  # before frames that come change it
        for begun, ids in opening:
            handles = list(ids)
            for at in _starts(handles):
                part = handles[at : at + MOST_ROWS]
                opened = yield from self._opened_part(part, [ids[handle] for handle in part], resume=begun)
                self._pending.reopen(part, opened)
        for frame in self._pending.repeat():
            yield from self._send_frame(frame)


def _starts(items: Sequence[object]) -> range:
    """Number the rows at which a new frame begins."""
    return range(0, len(items), MOST_ROWS)
