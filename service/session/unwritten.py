"""A reply that is not written as JSON yet: most replies of a session are followed by another one that replaces them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from pydantic_core import to_json

from service.contract.decision import is_decided
from service.engine.work import Result
from service.models.model import Model
from service.session.advance import reply_of
from service.session.session import Session

_DIGITS = 24  # of a probability, with its comma
_NUMBERS = 400  # bytes of all other members, at most, without the labels


class UnwrittenReply(NamedTuple):
    """What the reply to a session's last chunk has, beside the session.

    Attributes:
        steps: network steps of the chunk.
        probabilities: float32 [outputs], as bytes: an array of its own takes three times the memory.
    """

    steps: int
    probabilities: bytes


def reply_bytes(model: Model) -> int:
    """Memory that a reply counts with, written or not."""
    return _reply_bytes(model.manifest.labels, model.manifest.outputs)


@cache
def _reply_bytes(labels: tuple[str, ...], outputs: int) -> int:
    return _NUMBERS + _DIGITS * outputs + sum(len(label.encode()) + 3 for label in labels)


def written(session_id: str, session: Session, reply: UnwrittenReply) -> Session:
    """A session with its last reply as JSON.

    Args:
        session_id: of the session.
        session: open, after a chunk.
        reply: to the chunk.
    """
    progress, stream = session.known.progress, session.open_stream
    assert progress.last is not None
    probabilities = np.frombuffer(reply.probabilities, np.float32)
    decided = is_decided(session.model.manifest.decision, stream.step)
    result = Result(reply.steps, probabilities, probabilities, decided, None)
    before = session._replace(
        known=session.known._replace(progress=progress._replace(total_steps=progress.total_steps - reply.steps))
    )
    content = to_json(reply_of(session_id, before, progress.last.seq, False, reply.steps, result))
    last = progress.last._replace(reply=content)
    return session._replace(known=session.known._replace(progress=progress._replace(last=last)))
