"""The sessions of one connection of ``WS /streams`` where several workers have them.

A frame is split by columns: the rows of this worker's sessions are applied here, those of each other worker go there as
a frame of their own (``api.parts``), all at the same time. The results are put together in the order of the rows.

If another worker is away, its rows are refused, and the client sends them again. When it is there again, its sessions
are opened there once more: with a store they go on, without one they are lost, and their rows say so.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.columns import (
    APPLIED,
    END,
    LEAVE,
    NEW,
    Chunks,
    Opened,
    Results,
    Sessions,
    pack_chunks,
    pack_opened,
    pack_results,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from service.api import problems
from service.api.many_streams import TAKEN, ConnectionSessions
from service.errors import RETRY_S, HetsynError, NotFound, Overloaded
from service.keys.caller import ANYBODY, Caller
from service.live.many import Offer
from service.workers.messages import Call
from service.workers.siblings import Siblings, away

PATH = "/streams"
_NUMBERS = itertools.count()  # of the connections of this process

Rows = NDArray[np.intp]


class SplitSessions:
    """As ``ConnectionSessions``.

    Args:
        local: those of this worker.
        siblings: the other workers.
        query: of the client.
        client: address and port at the other end of the connection.
        caller: who has opened it.
    """

    def __init__(
        self,
        local: ConnectionSessions,
        siblings: Siblings,
        query: list[tuple[str, str]],
        client: tuple[str, int] | None,
        caller: Caller = ANYBODY,
    ) -> None:
        self._local = local
        self._siblings = siblings
        self._is_events = ("encoding", "events") in query
        key = f"{siblings.routing.index}-{os.getpid()}-{next(_NUMBERS)}"
        self._query = urlencode([*query, ("connection", key)]).encode()
        self._client = (caller.key, 0) if caller.key else client
        self._caller = caller.packed()
        self._worker_of: dict[int, int] = {}  # by handle, as the ids
        self._ids: dict[int, str] = {}
        self._called: set[int] = set()

    @property
    def offer(self) -> Offer:
        return self._local.offer

    @property
    def item_bytes(self) -> int:
        return self._local.item_bytes

    def release(self) -> None:
        """Stream nothing more."""
        self._local.release()
        for index in self._called:
            self._siblings.tell(index, self._call("DELETE"))

    async def open(self, sessions: Sessions) -> bytes:
        """As ``ConnectionSessions.open``."""
        if not sessions.handles:  # no worker has a row
            return await self._local.open(sessions)
        routing = self._siblings.routing
        workers = [
            self._worker_of.get(handle, routing.worker_of(name))  # a handle that is in use is refused there
            for handle, name in zip(sessions.handles, sessions.ids, strict=True)
        ]

        async def opened(index: int, rows: Rows) -> Opened:
            part = Sessions([sessions.handles[row] for row in rows], [sessions.ids[row] for row in rows])
            if index == routing.index:
                return unpack_opened(await self._local.open(part))
            try:
                return unpack_opened(await self._elsewhere(index, pack_sessions(part.handles, part.ids)))
            except HetsynError as error:
                nothing = np.zeros(len(rows), np.uint64)
                status, more = _refused(error, len(rows))
                return Opened(nothing, nothing, np.array(part.handles, np.uint32), status, status * 0 + NEW, more)

        parts = await _split(workers, opened)
        all_opened: Opened = _joined(parts, Opened)
        for row, status in enumerate(all_opened.status.tolist()):
            if status == APPLIED:
                self._worker_of[sessions.handles[row]] = workers[row]
                self._ids[sessions.handles[row]] = sessions.ids[row]
        return pack_opened(all_opened)

    async def apply(self, chunks: Chunks) -> tuple[bytes, int]:
        """As ``ConnectionSessions.apply``."""
        own = self._siblings.routing.index
        handles = chunks.handle.tolist()
        if not handles:  # no worker has a row
            return await self._local.apply(chunks)
        workers = [self._worker_of.get(handle, own) for handle in handles]

        async def applied(index: int, rows: Rows) -> Results:
            part = chunks if len(rows) == len(handles) else _rows_of(chunks, rows, self.item_bytes, self._is_events)
            if index == own:
                return unpack_results((await self._local.apply(part))[0])
            try:
                return await self._applied_elsewhere(index, _packed(part))
            except HetsynError as error:
                status, more = _refused(error, len(rows))
                none = np.zeros(len(rows), np.uint32)
                label, total = none.astype(np.int32) - 1, none.astype(np.uint64)
                probabilities = np.zeros((len(rows), self._local.outputs), np.float32)
                return Results(part.seq, total, part.handle, part.action, status, none, label, probabilities, more)

        results: Results = _joined(await _split(workers, applied), Results)
        self._forget(results)
        return pack_results(results), int(np.count_nonzero((results.status == APPLIED) & (results.action <= END)))

    def _forget(self, results: Results) -> None:
        """Forget the workers of handles that are free now."""
        free = (results.action == LEAVE) | ((results.action == END) & (results.status == APPLIED))
        for handle in results.handle[free].tolist():
            self._drop(handle)
        for row, members in results.more.items():
            if members.get("detail") == TAKEN:
                self._drop(int(results.handle[row]))

    def _drop(self, handle: int) -> None:
        self._worker_of.pop(handle, None)
        self._ids.pop(handle, None)

    async def _applied_elsewhere(self, index: int, frame: bytes) -> Results:
        """The results of a frame of chunks from another worker.

        Raises:
            HetsynError: it has none.
        """
        try:
            return unpack_results(await self._elsewhere(index, frame))
        except NotFound:  # the worker was started again
            handles = [handle for handle, worker in self._worker_of.items() if worker == index]
            again = pack_sessions(handles, [self._ids[handle] for handle in handles])
            opened = unpack_opened(await self._elsewhere(index, again))
        results = unpack_results(await self._elsewhere(index, frame))
        refused = {int(opened.handle[row]): (opened.status[row], more) for row, more in opened.more.items()}
        status = results.status.copy()
        for row, handle in enumerate(results.handle.tolist()):
            if handle in refused:
                status[row], results.more[row] = refused[handle]
        for handle in refused:
            self._drop(handle)
        return results._replace(status=status)

    async def _elsewhere(self, index: int, frame: bytes) -> bytes:
        """The answer of another worker to a frame.

        Raises:
            NotFound: the worker does not know the connection, whose sessions are to be opened first.
            HetsynError: it has none.
        """
        self._called.add(index)
        reply = await self._siblings.call(index, self._call("POST"), frame)
        if reply is None:
            raise away(index)
        if reply.status == 404:
            raise NotFound("the connection has no session there")
        if reply.status != 200:
            raise Overloaded(str(json.loads(reply.body)["detail"]), RETRY_S)
        return reply.body

    def _call(self, method: str) -> Call:
        return Call(method, PATH, self._query, client=self._client, caller=self._caller)


async def _split(workers: list[int], work: Any) -> list[tuple[Rows, Any]]:
    """Do the work of each worker for its rows, all at the same time."""
    of_row = np.array(workers, np.intp)
    rows = {int(index): np.flatnonzero(of_row == index) for index in np.unique(of_row)}
    works: list[Coroutine[Any, Any, Any]] = [work(index, of_worker) for index, of_worker in rows.items()]
    if len(works) == 1:
        done = [await works[0]]
    else:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in works]
        done = [task.result() for task in tasks]
    return list(zip(rows.values(), done, strict=True))


def _joined(parts: list[tuple[Rows, Any]], kind: Any) -> Any:
    """The rows of all parts in their order."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")
    columns = zip(*(part[:-1] for _, part in parts), strict=True)
    more = {int(rows[row]): members for rows, part in parts for row, members in part.more.items()}
    return kind(*(np.concatenate(column)[order] for column in columns), more)


def _rows_of(chunks: Chunks, rows: Rows, item_bytes: int, is_events: bool) -> Chunks:
    """Some rows of a frame, with their content."""
    keeps = np.zeros(len(chunks.seq), bool)
    keeps[rows] = True
    items = np.repeat(keeps, chunks.length)
    if is_events:
        columns = np.frombuffer(chunks.content, "<u2").reshape(2, -1)
        content = columns[:, items].tobytes()
    else:
        content = np.frombuffer(chunks.content, f"V{item_bytes}")[items].tobytes()
    seq, handle, action, steps, length, _ = chunks
    return Chunks(seq[rows], handle[rows], action[rows], steps[rows], length[rows], memoryview(content))


def _packed(chunks: Chunks) -> bytes:
    return pack_chunks(chunks.handle, chunks.seq, chunks.length, bytes(chunks.content), chunks.steps, chunks.action)


def _refused(error: HetsynError, count: int) -> tuple[NDArray[np.uint32], dict[int, dict[str, Any]]]:
    """Status and members of rows that an error refuses."""
    refusal = problems.refusal_of(error)
    members = dict(refusal.frame())
    status = members.pop("status")
    del members["type"]
    return np.full(count, status, np.uint32), {row: dict(members) for row in range(count)}
