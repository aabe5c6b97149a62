"""Plain chunks of many sessions at once (``registry.rows``), for ``/stream`` and ``/streams``."""

from __future__ import annotations

from collections.abc import Callable

from service.admission.turns import Turns
from service.api.streams import Streams
from service.batching.batcher import Batcher
from service.observe.timings import Transport
from service.observe.watch import Watch
from service.registry.rows import AppliedRows, Rows, RowSessions
from service.wire.schema import Envelope

BATCHES = 2  # that are under way


class PlainRows:
    """Batches of plain chunks: while one is on a thread, the next is prepared. Clients take turns, and so do these
    and the chunks of requests.

    Args:
        streams: give permits.
        batcher: says when a batch may run.
        rows: apply it; None where sessions are in a store.
    """

    def __init__(self, streams: Streams, batcher: Batcher, rows: RowSessions | None) -> None:
        self._streams = streams
        self._batcher = batcher
        self._rows = rows
        self._turns = Turns(BATCHES)

    @property
    def max_batch(self) -> int:
        """Most rows of a batch; 0 where none is applied."""
        return 0 if self._rows is None or not self._batcher.runs_rows else self._rows.max_batch

    async def apply(
        self, envelope: Envelope, rows: Callable[[], Rows], client: str, transport: Transport, watch: Watch
    ) -> AppliedRows | None:
        """As ``RowSessions.apply``, when it is the client's turn.

        Args:
            envelope: as there.
            rows: called then, because a session may have been taken meanwhile.
            client: whose turn it has to be.
            transport: by which the chunks came.
            watch: of their time.

        Raises:
            Overloaded, ShuttingDown: as ``Admission.permit``; or the turn did not come in time.
        """
        assert self._rows is not None
        async with self._streams.permit(client, self._turns, transport) as permit:
            await self._batcher.turn(permit.due_s)
            chosen = rows()
            return await self._rows.apply(envelope, chosen, watch) if chosen.numbers else None
