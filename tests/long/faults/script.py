"""Plays a schedule of faults on a stage while clients stream, and times the recovery from each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.long.faults.clients import Acknowledgements, Client, client_path, replica_path
from tests.long.faults.live import LiveClient
from tests.long.faults.schedule import OF_A_CLUSTER, Fault, Kind
from tests.long.faults.stage import UNDER_WAY_TIMEOUT_S, Replica, Store
from tests.long.faults.tally import Tally
from tests.support.servers.server_process import ServerError

RECOVERY_TIMEOUT_S = 60.0
LAST_CHUNKS_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Occurred:
    """A fault that has happened. Times are those of ``time.perf_counter``.

    Attributes:
        replica: index of the affected replica; None if the store or all replicas were affected.
        began_s: when it began.
        back_s: when it was undone: a process was started again or continued, or the disk freed.
        recovered_s: when each affected path had a chunk acknowledged after that; None if that took too long. The path
            is the replica; every replica if the store failed; or the clients whose connections were cut.
        errors: refused and broken requests of the clients, from the beginning to the recovery.
        remark: other observations.
    """

    kind: Kind
    replica: int | None
    began_s: float
    back_s: float
    recovered_s: float | None
    errors: int
    remark: str = ""

    @property
    def recovery_s(self) -> float | None:
        return None if self.recovered_s is None else self.recovered_s - self.back_s


class Script:
    """Plays faults.

    Args:
        replicas: processes that may be killed and paused.
        tally: judges the answers.
        acknowledgements: the acknowledged chunks.
        report: called after each fault with its number.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        store: Store,
        clients: Sequence[Client | LiveClient],
        tally: Tally,
        acknowledgements: Acknowledgements,
        report: Callable[[int, Occurred], None],
    ) -> None:
        self._replicas = replicas
        self._store = store
        self._clients = clients
        self._tally = tally
        self._acknowledgements = acknowledgements
        self._report = report

    async def play(self, faults: Sequence[Fault], at_least_chunks: int, calm_s: float = 2.0) -> list[Occurred]:
        """Play all faults, with a calm time before and after, until the clients have ended their last sessions.

        Args:
            faults: in order.
            at_least_chunks: to be acknowledged before the clients stop.
            calm_s: the calm time.
        """
        streaming = [asyncio.create_task(client.run()) for client in self._clients]
        occurred = []
        try:
            await asyncio.sleep(calm_s)
            for number, fault in enumerate(faults):
                await asyncio.sleep(fault.wait_s)
                occurred.append(await self._happen(fault))
                self._report(number, occurred[-1])
                if occurred[-1].recovered_s is None:
                    break  # the next fault would show nothing
            await asyncio.sleep(calm_s)
            deadline_s = time.monotonic() + LAST_CHUNKS_TIMEOUT_S
            while self._tally.acknowledged < at_least_chunks and time.monotonic() < deadline_s:
                await asyncio.sleep(0.1)
            for client in self._clients:
                client.stop()
            async with asyncio.timeout(LAST_CHUNKS_TIMEOUT_S):
                await asyncio.gather(*streaming)
        finally:
            for task in streaming:
                task.cancel()
            await asyncio.gather(*streaming, return_exceptions=True)
        return occurred

    async def _happen(self, fault: Fault) -> Occurred:
        errors = self._tally.errors.total()
        replica = self._replicas[fault.replica]
        paths = [replica_path(index) for index in range(len(self._replicas))]
        began_s, remark, index = time.perf_counter(), "", None
        if fault.kind in (Kind.kill_replica, Kind.pause_replica, Kind.cut_connections):
            paths, index = [replica_path(fault.replica)], fault.replica
        match fault.kind:
            case Kind.kill_replica:
                replica.kill()
                await asyncio.sleep(fault.lasts_s)
                back_s = time.perf_counter()
                replica.start()
            case Kind.pause_replica:
                replica.pause()
                await asyncio.sleep(fault.lasts_s)
                back_s = time.perf_counter()
                replica.resume()
            case Kind.kill_store:
                self._store.kill()
                await asyncio.sleep(fault.lasts_s)
                back_s = time.perf_counter()
                await asyncio.to_thread(self._store.start)
            case Kind.pause_store:
                self._store.pause()
                await asyncio.sleep(fault.lasts_s)
                back_s = time.perf_counter()
                self._store.resume()
            case Kind.kill_all:
                for one in self._replicas:
                    one.kill()
                self._store.kill()
                await asyncio.sleep(fault.lasts_s)
                back_s = time.perf_counter()
                for one in self._replicas:
                    one.start()
                await asyncio.to_thread(self._store.start)
            case Kind.cut_connections:
                await self._requests_under_way(fault.replica)
                cut = [client.index for client in self._clients if client.cut(fault.replica)]
                paths = [client_path(index) for index in cut] or paths
                remark = f"{len(cut)} requests under way"
                back_s = time.perf_counter()
            case Kind.lose_answers:
                lost = await asyncio.to_thread(self._store.lose_answers, fault.lasts_s)
                remark = f"{lost} answers"
                back_s = time.perf_counter()
            case Kind.full_store:
                pids = [one.pid for one in self._replicas]
                await asyncio.to_thread(self._store.fill, pids)
                await asyncio.sleep(fault.lasts_s)
                refused = self._tally.errors["503 store-unavailable"]
                remark = f"{refused} chunks refused so far"
                back_s = time.perf_counter()
                self._store.free(pids)
            case Kind.damaged_file:
                for one in self._replicas:
                    one.kill()
                await asyncio.to_thread(self._store.damage)
                remark = await self._refusal(replica)
                await asyncio.to_thread(self._store.restore)
                back_s = time.perf_counter()
                for one in self._replicas:
                    one.start()
            case kind if kind in OF_A_CLUSTER:
                remark = await asyncio.to_thread(self._store.disturb, kind, fault.lasts_s)
                back_s = time.perf_counter()
        recovered_s = await self._recovery(paths)
        return Occurred(fault.kind, index, began_s, back_s, recovered_s, self._tally.errors.total() - errors, remark)

    async def _requests_under_way(self, replica: int) -> None:
        """Wait until a connection to a replica has a request under way."""
        deadline_s = time.monotonic() + UNDER_WAY_TIMEOUT_S
        while not any(client.is_busy_with(replica) for client in self._clients) and time.monotonic() < deadline_s:
            await asyncio.sleep(0)

    async def _refusal(self, replica: Replica) -> str:
        """The error message of a replica about the damaged file. No such message counts as a wrong answer."""
        replica.start()
        try:
            status, words = await replica.refusal()
        except ServerError as error:
            replica.kill()
            status, words = 0, str(error)
        if status != 1 or "sessions.db" not in words:
            self._tally.failed_check(f"a damaged file: {status}, {words}")
        return words

    async def _recovery(self, paths: Sequence[str]) -> float | None:
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                await self._acknowledgements.on_each(paths)
        except TimeoutError:
            self._tally.failed_check("no recovery in time")
            return None
        return time.perf_counter()
