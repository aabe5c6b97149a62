"""Chunks that are decoded together: each is the one that it would be alone."""

from __future__ import annotations

import numpy as np

from hetsyn_client.columns import pack_chunks
from hetsyn_client.events import pack_events
from service.wire.chunk import Chunk, SpikeChunk, digest
from service.wire.columns import decoded_together, decoder_of
from service.wire.events import unpack_events
from service.wire.many_frames import unpack_chunks
from tests.support.clients.many import events_content
from tests.support.data.signals import spikes

STEPS = 10


def assert_alike(chunk: object, other: Chunk) -> None:
    assert isinstance(chunk, SpikeChunk)
    assert isinstance(other, SpikeChunk)
    assert chunk.steps == other.steps
    assert chunk.step.tolist() == other.step.tolist()
    assert chunk.unit.tolist() == other.unit.tolist()


def test_the_rows_of_a_frame_have_their_own_digests() -> None:
    trains = [spikes(STEPS, seed) for seed in range(4)]
    content = events_content(np.concatenate([t for t, _ in trains]), np.concatenate([u for _, u in trains]))
    packed = pack_chunks(list(range(4)), 0, [len(times) for times, _ in trains], content, STEPS)
    frame = decoder_of("events", 0, 0).decode(unpack_chunks(packed, 4))
    for row, train in enumerate(trains):
        alone = unpack_events(pack_events(STEPS, *train))
        assert_alike(frame.chunks[row], alone)
        assert frame.digests[row] == digest(alone, False)
    assert len(set(frame.digests)) == 4


def test_messages_that_came_together_are_those_that_came_alone() -> None:
    messages = [pack_events(STEPS, *spikes(STEPS, seed)) for seed in range(4)]
    descending = pack_events(STEPS, [1, 2], [0, 0])[:-8] + bytes([2, 0, 1, 0, 0, 0, 0, 0])
    found = decoded_together([messages[0], messages[1][:-2], b"", messages[2], descending, messages[3]])
    assert [one is None for one in found] == [False, True, True, False, True, False]
    for one, message in zip([one for one in found if one is not None], [messages[i] for i in (0, 2, 3)], strict=True):
        chunk, its_digest = one
        alone = unpack_events(message)
        assert_alike(chunk, alone)
        assert its_digest == digest(alone, False)


def test_a_chunk_keeps_its_own_message_in_memory_and_no_other_however_much_came_with_it() -> None:
    messages = [pack_events(100, np.arange(1_000) // 10, np.arange(1_000) % 10) for _ in range(100)]
    decoded = [one for one in decoded_together(messages) if one is not None]
    assert len(decoded) == 100
    for (chunk, its_digest), message in zip(decoded, messages, strict=True):
        assert_alike(chunk, unpack_events(message))
        assert its_digest == digest(chunk, False)
        assert isinstance(chunk, SpikeChunk)
        for column in (chunk.step, chunk.unit):
            owner: object = column
            while isinstance(owner, np.ndarray):
                owner = owner.base
            assert owner is message
