"""Requests as the API layer hands them to the registry."""

from __future__ import annotations

from service.wire.chunk import Chunk, digest, spike_chunk
from service.wire.schema import InferRequest, Parameters
from tests.support.data.signals import spikes


def infer_request(
    session: str | None = "s",
    seq: int | None = None,
    *,
    seed: int = 0,
    begin: bool = False,
    end: bool = False,
    chunk: Chunk | None = None,
    empty: bool = False,
    model: str | None = None,
    version: str | None = None,
) -> InferRequest:
    """
    Args:
        seed: decides the content of a chunk of ten steps.
        chunk: in place of one made from the seed.
        empty: without a chunk.
    """
    content = None if empty else chunk or spike_chunk(10, *spikes(10, seed))
    envelope = Parameters(session=session, seq=seq, begin=begin, end=end, model=model, version=version)
    return InferRequest(envelope, content, digest(content, end))
