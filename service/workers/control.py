"""The worker's end of its control socket: reports to the supervisor, and does as it says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket

from service.contract.manifest import content_hash
from service.models.catalog import CatalogSnapshot
from service.reload.reload import Reloader, ReloadPlan
from service.workers.place import LINE_BYTES, Place

log = logging.getLogger("hetsyn.workers")


def offer_of(snapshot: CatalogSnapshot) -> dict[str, str]:
    """Hashes of the models of a catalog by ``NAME/VERSION``, and its default model under an empty name."""
    hashes = {
        f"{name}/{version}": content_hash(model.manifest).hex() for (name, version), model in snapshot.by_key().items()
    }
    return hashes | {"": snapshot.default_name or ""}


class Control:
    """The control socket.

    Args:
        place: of this worker.
        reloader: of its models.
    """

    def __init__(self, place: Place, reloader: Reloader) -> None:
        self._socket = socket.socket(fileno=place.control)
        self._reloader = reloader
        self._may_serve = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._plan: ReloadPlan | None = None
        reloader.coordinate = self.request_reload

    async def wait_to_serve(self, snapshot: CatalogSnapshot) -> None:
        """Say that the models are loaded, and wait until the supervisor lets this worker serve."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=LINE_BYTES)
        self._task = asyncio.create_task(self._obey(reader))
        self._say("loaded", offer=offer_of(snapshot))
        await self._may_serve.wait()

    def request_reload(self) -> None:
        """Ask for a reload of all workers."""
        self._say("reload")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._writer is not None:
            self._writer.close()

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            try:
                await self._do(json.loads(line))
            except Exception as error:
                log.error("an order of the supervisor failed", exc_info=error)
        log.error("the supervisor has ended: this worker ends too")
        os.kill(os.getpid(), signal.SIGTERM)
        self._may_serve.set()

    async def _do(self, order: dict[str, str | int]) -> None:
        if order["do"] == "serve":
            self._may_serve.set()
        elif order["do"] == "plan":
            self._plan = await self._reloader.plan()
            refused = [part.reason for part in self._plan.refused]
            self._say("planned", round=order["round"], offer=offer_of(self._plan.snapshot), refused=refused)
        elif order["do"] == "publish" and self._plan is not None:
            self._reloader.publish(self._plan)
            self._plan = None
        elif order["do"] == "forget":
            self._plan = None

    def _say(self, what: str, **more: object) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps({"say": what, **more}).encode() + b"\n")
