"""A reply kept as numbers, and written as JSON only on demand: most are replaced before anybody asks for them."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from hetsyn_client.results import Classified, Reply, classified
from service.contract.manifest import Manifest
from service.keys.ids import client_id
from service.models.model import Model

OBJECT_BYTES = 100  # of a ``PlainReply`` without its probabilities


class PlainReply(NamedTuple):
    """The reply to a session's last chunk, if it has class probabilities and nothing else.

    Attributes:
        steps: network steps of the chunk.
        label: index of the likeliest label; -1 for null.
        probabilities: float32 [outputs], as bytes: an array would take three times the memory.
    """

    steps: int
    label: int
    probabilities: bytes

    @property
    def bytes(self) -> int:
        """Count the bytes that it takes in memory."""
        return OBJECT_BYTES + len(self.probabilities)

    def reply(self, session_id: str, model: Model, seq: int, total_steps: int) -> Reply:
        """Make the reply with all members.

        Args:
            seq: number of the chunk.
        """
        manifest = model.manifest
        label = None if self.label < 0 else manifest.labels[self.label]
        said = classified(label, np.frombuffer(self.probabilities, np.float32).tolist())
        return members(session_id, manifest, seq, self.steps, total_steps, said, end=False)


def members(
    session_id: str, manifest: Manifest, seq: int, steps: int, total_steps: int, said: Classified, end: bool
) -> Reply:
    """Make the reply to a chunk.

    Args:
        seq: number of the chunk.
        steps: network steps of the chunk.
        said: the network's members.
        end: the chunk ends the session.
    """
    reply = {
        "session": client_id(session_id),
        "model": manifest.name,
        "version": manifest.version,
        "seq": seq,
        "steps": steps,
        "total_steps": total_steps,
        **said,
        "labels": list(manifest.labels),
        "end": end,
    }
    return cast(Reply, reply)
