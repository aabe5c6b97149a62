"""Applies a chunk to a session without an interface."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial

from service.admission.budget import Permit
from service.ingress import Together
from service.observe.context import SESSION, Made
from service.registry.applying import Applying, begin
from service.registry.registry import SessionRegistry
from service.session.session import Answer
from service.wire.schema import InferRequest


async def apply_chunk(registry: SessionRegistry, request: InferRequest, permit: Permit) -> Answer:
    """Apply a chunk with a permit that the caller holds; a cancelled caller is one that has gone."""
    together = Together(1)
    chunk = Applying(registry, permit, partial(together.answered, 0))
    chunk.request, chunk.request_context = request, Made(copy_context())
    begin([chunk])
    SESSION.set(chunk.session)
    (result,) = await together.results([chunk])
    if isinstance(result, Exception):
        raise result
    return result
