"""A reply that is not written as JSON yet: most replies of a session are replaced before anybody asks for them."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from hetsyn_client.results import Classified, Reply, classified
from service.contract.manifest import Manifest
from service.keys.ids import client_id
from service.models.model import Model

OBJECT_BYTES = 100  # of a ``PlainReply``, beside its probabilities


class PlainReply(NamedTuple):
    """What the reply to a session's last chunk has, beside the session: class probabilities, and nothing else.

    Attributes:
        steps: network steps of the chunk.
        label: index of the likeliest; -1 for none.
        probabilities: float32 [outputs], as bytes: an array of its own takes three times the memory.
    """

    steps: int
    label: int
    probabilities: bytes

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return OBJECT_BYTES + len(self.probabilities)

    def reply(self, session_id: str, model: Model, seq: int, total_steps: int) -> Reply:
        """All members.

        Args:
            session_id: of the session.
            model: of the session.
            seq: number of the chunk.
            total_steps: of the session after it.
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
        session_id: of the session.
        manifest: of its model.
        seq: number of the chunk.
        steps: network steps of the chunk.
        total_steps: of the session after it.
        said: what the network says.
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
