"""What carries chunks to a server: a pool of HTTP connections, or WebSockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import Response

CONNECT_TIMEOUT_S = 5.0
RECONNECT_PAUSE_S = 0.1  # after a failed attempt, so that a dead server is not hammered
OPENED_TOGETHER = 64
SWEEP_S = 0.1


class Job:
    """A request under way. Times are those of ``time.perf_counter``.

    Args:
        request: what ``Target.request`` or ``Target.drop`` has made.
        stream: sender of the chunk; None for a request that deletes a session.
        intended_s: when the chunk was due.

    Attributes:
        request: see above.
        stream: see above.
        intended_s: see above.
        queued_s: when the job came to the carrier.
        sent_s: when it was last sent.
        is_repeated: whether it was sent a second time.
    """

    __slots__ = ("intended_s", "is_repeated", "queued_s", "request", "sent_s", "stream")

    def __init__(self, request: bytes, stream: LoadStream | None, intended_s: float) -> None:
        self.request = request
        self.stream = stream
        self.intended_s = intended_s
        self.queued_s = 0.0
        self.sent_s = 0.0
        self.is_repeated = False


class CarrierOwner(Protocol):
    """Receives the outcome of each job: one call of either method."""

    def answered(self, job: Job, response: Response, now_s: float) -> None: ...

    def failed(self, job: Job, error: str, now_s: float) -> None: ...


class Carrier(Protocol):
    """Carries jobs to a server, and their outcomes back to its owner."""

    @property
    def waits(self) -> int:
        """Number of jobs that found no free connection."""

    @property
    def size(self) -> int:
        """Open connections."""

    async def open(self, streams: Sequence[LoadStream]) -> None:
        """Open connections before a run of these streams starts.

        Raises:
            ServiceUnreachable: no server answers.
        """

    def send(self, job: Job) -> None: ...

    def sweep(self, now_s: float) -> None:
        """Fail the jobs that have taken longer than the timeout. Call it a few times a second."""

    async def idle(self, timeout_s: float) -> bool:
        """Wait until every job has an outcome. False if the time ran out first."""

    def abandon(self) -> list[Job]:
        """Forget the jobs that have no outcome yet, and close their connections. Those jobs."""

    async def close(self) -> None: ...


@runtime_checkable
class Carried(Protocol):
    """A target with a carrier of its own. Those of all others are pools of HTTP connections."""

    def carrier(self, limit: int, timeout_s: float, owner: CarrierOwner) -> Carrier:
        """The carrier of one run.

        Args:
            limit: the most connections, where streams share them.
            timeout_s: time limit of one request.
            owner: receives the outcomes.
        """
