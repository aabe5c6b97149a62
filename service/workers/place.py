"""What the supervisor tells a worker that it starts."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from service.workers.routing import Routing

LINE_BYTES = 2**24  # of a report: a hundred bytes a model

VARIABLE = "HETSYN_WORKER"
"""In the environment of a worker: its ``Place`` as JSON."""


@dataclass(frozen=True)
class Place:
    """What the supervisor tells a worker that it starts.

    Attributes:
        index: of the worker, from 0.
        count: of workers.
        seed: of the hash that assigns sessions.
        folder: of the workers' sockets and files.
        control: file descriptor of the control socket.
        listeners: file descriptors of the sockets that listen on the port.
    """

    index: int
    count: int
    seed: int
    folder: str
    control: int
    listeners: tuple[int, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def routing(self) -> Routing:
        return Routing(self.index, self.count, self.seed)

    def expected(self) -> dict[tuple[str, str], bytes]:
        """Hashes of the models that the other workers offer, by name and version; empty where none does yet."""
        if not offer_path(self.folder).exists():
            return {}
        offer = json.loads(offer_path(self.folder).read_text())
        pairs = ((key.partition("/"), value) for key, value in offer.items() if key)
        return {(name, version): bytes.fromhex(value) for (name, _, version), value in pairs}

    @property
    def begun_path(self) -> Path:
        """File of ``registry.begun``."""
        return Path(self.folder) / f"{self.index}.begun"

    def sockets(self) -> list[socket.socket]:
        """The sockets that listen on the port."""
        return [socket.socket(fileno=fd) for fd in self.listeners]


def offer_path(folder: str) -> Path:
    """File with the models that all workers offer: their hashes by ``NAME/VERSION``."""
    return Path(folder) / "offer.json"


def place_of_worker() -> Place | None:
    """What the supervisor has told this process; None if it is no worker. Child processes are none."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    values = json.loads(text)
    return Place(**values | {"listeners": tuple(values["listeners"])})
