"""Carries chunks to any server of streams, over the connections of ``hetsyn bench``."""

from __future__ import annotations

from hetsyn_client.loadtest.connections import Pool
from hetsyn_client.loadtest.senders import Answer, Way
from tests.support.servers.target import Target


class RequestWay(Way):
    """Carries chunks as requests to a target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pool = Pool(*target.address)

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        return await self._exchange(self._target.request(session, seq, chunk, is_last=is_last))

    async def drop(self, session: str) -> Answer:
        request = self._target.drop(session)
        return Answer(200) if request is None else await self._exchange(request)

    async def close(self) -> None:
        self._pool.close()

    async def _exchange(self, request: bytes) -> Answer:
        response = await self._pool.exchange(request)
        return Answer(response.status, response.retry_after_s)
