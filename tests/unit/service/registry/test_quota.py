"""The room of a server without a store: bytes, places and shares, and what goes when there is too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import NotFound, Overloaded, SessionEnded
from service.models.catalog import ModelCatalog
from service.registry.entries import ENTRY_BYTES
from service.session.session import ALLOCATOR_LOSS, OBJECT_BYTES, STREAM_BYTES
from service.wire.chunk import AudioChunk, spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import RATE_HZ, STEP_SAMPLES, load_fake
from tests.support.artifacts.gate import Gate
from tests.support.clients.infer_request import infer_request
from tests.support.clients.replies import Reply
from tests.support.clock import Clock
from tests.support.servers.apply_chunk import apply_chunk
from tests.support.servers.in_process import DirectServer, ServeDirect

ONE, OTHER = "192.0.2.1", "192.0.2.2"


async def send(server: DirectServer, client: str, *args: Any, **kwargs: Any) -> Reply:
    """As ``server.send``, from a client with an address."""
    return await server.send(*args, client=client, **kwargs)


async def refused(server: DirectServer, sentence: str, client: str, *args: Any, **kwargs: Any) -> Overloaded:
    with pytest.raises(Overloaded, match=sentence) as caught:
        await send(server, client, *args, **kwargs)
    return caught.value


def taken(server: DirectServer) -> int:
    return server.registry.sessions.bytes


async def size_of_a_session(serve: ServeDirect) -> int:
    server = serve()
    await server.send("a", 0)
    return taken(server)


async def test_bytes_are_those_of_state_reply_and_objects(server: DirectServer) -> None:
    reply = await server.send("a", 0)
    described = await server.registry.describe("a")
    expected = described["state_bytes"] + OBJECT_BYTES + 4 * len(reply.labels) + STREAM_BYTES  # not written yet
    expected += expected // ALLOCATOR_LOSS + ENTRY_BYTES
    assert taken(server) == expected
    await server.send("a", 0)
    assert taken(server) == expected
    last = await server.send("a", 1, seed=1, end=True)
    reply_bytes = len(last.to_json())
    assert taken(server) == reply_bytes + reply_bytes // ALLOCATOR_LOSS + ENTRY_BYTES
    await server.registry.delete("a")
    assert taken(server) == 0


async def test_a_session_that_begins_over_another_counts_its_own_bytes(serve: ServeDirect) -> None:
    server, other = serve(), serve()
    for seq in range(2):  # its next chunk of spikes would take no more
        await server.send("a", seq, seed=seq)
    sound = AudioChunk(np.zeros(10 * STEP_SAMPLES + STEP_SAMPLES // 2, np.float32), RATE_HZ)  # half a step waits
    await server.send("a", begin=True, chunk=sound)
    await other.send("a", begin=True, chunk=sound)
    assert taken(server) == taken(other)


async def test_a_reply_that_is_kept_as_json_counts_until_the_next_one(serve: ServeDirect) -> None:
    """One with spikes is, and it is longer."""
    server, plain = serve(), serve()
    for seq in range(5):
        has_spikes, request = seq == 2, infer_request("a", seq, seed=seq)
        with server.admission.permit("") as permit:
            envelope = request.envelope._replace(spikes=has_spikes)
            await apply_chunk(server.registry, request._replace(envelope=envelope), permit)
        await plain.send("a", seq, seed=seq)
        assert (taken(server) > taken(plain)) == has_spikes
        assert taken(server) >= taken(plain)


async def test_a_new_session_beyond_the_bytes_is_refused(serve: ServeDirect) -> None:
    size = await size_of_a_session(serve)
    server = serve(max_session_bytes=2 * size + size // 2)
    for name in "ab":
        await server.send(name, 0)
    error = await refused(server, "sessions take all the memory that the server has", "", "c", 0)
    assert error.retry_after_s == 60
    assert taken(server) == 2 * size
    with pytest.raises(NotFound):
        await server.registry.describe("c")
    assert (await server.send("a", 1, seed=1)).seq == 1
    await server.registry.delete("b")
    assert (await server.send("c", 0)).seq == 0


async def test_a_chunk_that_would_grow_a_session_beyond_the_bytes_leaves_it(
    tmp_path: Path, gate: Gate, serve: ServeDirect
) -> None:
    """The reply of a trace grows with the steps of its chunk."""
    write_artifact(tmp_path, rule="trace")
    server = serve(ModelCatalog(tmp_path, load=gate.load), max_session_bytes=20_000)
    undisturbed = serve(ModelCatalog(tmp_path, load=gate.load))
    first = await server.send("a", 0)
    long = spike_chunk(2_000, [], [])
    before = taken(server)
    await server.refused(
        Overloaded,
        "that the server has for them: end some, or try again",
        "a",
        1,
        chunk=long,
    )
    assert taken(server) == before
    assert await server.send("a", 0) == first == await undisturbed.send("a", 0)
    assert await server.send("a", 1, seed=1) == await undisturbed.send("a", 1, seed=1)
    ended = await server.send("a", 2, chunk=long, end=True)  # an end needs no room
    assert ended == await undisturbed.send("a", 2, chunk=long, end=True)
    await server.refused(NotFound, "ended a while ago", "a", 2, chunk=long, end=True)
    assert taken(server) < before


async def test_a_trace_s_reply_is_kept_as_its_bytes(tmp_path: Path, gate: Gate, serve: ServeDirect) -> None:
    write_artifact(tmp_path, rule="trace")
    server = serve(ModelCatalog(tmp_path, load=gate.load))
    reply = await server.send("a", 0, chunk=spike_chunk(5_000, [], []))
    length = len(reply.to_json())
    assert length < taken(server) < length + length // ALLOCATOR_LOSS + 5_000


async def test_a_whole_session_in_one_request_needs_no_place(server: DirectServer) -> None:
    for name in "abc":
        await server.send(name, 0)
    requests: list[tuple[str | None, int | None]] = [(None, None), (None, 0), ("one", 0), ("two", 0)]
    for session, seq in requests:
        reply = await server.send(session, seq, end=True)
        assert (reply.seq, reply.end) == (0, True)
    assert await server.send("two", 0, end=True) == reply  # its last reply is kept
    await server.refused(SessionEnded, "has ended", "two")
    await server.refused(Overloaded, "as many sessions as it takes", "d", 0)


async def test_a_session_behind_a_whole_one_that_failed_needs_a_place(server: DirectServer) -> None:
    for name in "abc":
        await server.send(name, 0)
    sessions = server.registry.sessions
    whole = sessions.enter("d", is_one_shot=True)
    behind = sessions.enter("d")
    sessions.leave(whole)
    open_session = sessions.find("a").session
    with pytest.raises(Overloaded, match="as many sessions as it takes"):
        sessions.put(behind, open_session)
    sessions.leave(behind)
    with pytest.raises(NotFound):
        sessions.find("d")
    assert sessions.open == 3


async def test_replies_of_ended_sessions_make_room(serve: ServeDirect) -> None:
    size = await size_of_a_session(serve)
    server = serve(max_session_bytes=3 * size + 100, ended_keep_s=10)
    last = {n: await server.send(f"e{n}", 0, end=True, seed=n) for n in range(20)}
    assert taken(server) <= 3 * size + 100
    assert await server.send("e19", 0, end=True, seed=19) == last[19]
    await server.refused(NotFound, "ended a while ago", "e0", 1)
    for name in "ab":
        await server.send(name, 0)
    assert taken(server) <= 3 * size + 100
    server.clock.now_s += 10
    await server.sweep()
    assert (await server.send("e0", 0)).seq == 0


async def test_one_client_has_its_share_of_the_places(serve: ServeDirect) -> None:
    server = serve(max_sessions=4, client_share=0.5, session_idle_s=60)
    for name in "ab":
        await send(server, ONE, name, 0)
    error = await refused(server, "2 sessions of this client are open", ONE, "c", 0)
    assert error.retry_after_s == 60
    assert (await send(server, ONE, "c", 0, end=True)).end
    for name in "de":
        await send(server, OTHER, name, 0)
    await send(server, ONE, "a", 1, seed=1, end=True)
    await refused(server, "2 sessions of this client are open", OTHER, "f", 0)
    await send(server, ONE, "g", 0)
    assert server.registry.sessions.open == 4


async def test_a_client_beyond_its_share_drops_nobody_else_s_session(serve: ServeDirect) -> None:
    server = serve(max_sessions=4, client_share=0.5, first_chunk_idle_s=60)
    for name in "ab":
        await send(server, OTHER, name, 0)
    server.clock.now_s += 60
    for name in "cd":
        await send(server, ONE, name, 0)
    await refused(server, "of this client are open", ONE, "e", 0)
    for name in "ab":
        assert (await send(server, OTHER, name, 1, seed=1)).seq == 1


async def test_one_client_has_its_share_of_the_bytes(serve: ServeDirect) -> None:
    size = await size_of_a_session(serve)
    server = serve(max_session_bytes=5 * size, client_share=0.5)
    for name in "ab":
        await send(server, ONE, name, 0)
    await refused(server, "sessions of this client take", ONE, "c", 0)
    await send(server, OTHER, "c", 0)


async def test_without_an_address_or_a_share_there_is_no_share(serve: ServeDirect) -> None:
    server = serve(max_sessions=2)
    for name in "ab":
        await server.send(name, 0)
    behind_proxy = serve(max_sessions=2, client_share=1.0)
    for name in "ab":
        await send(behind_proxy, ONE, name, 0)


async def test_idle_sessions_of_one_chunk_make_room_where_it_is_needed(serve: ServeDirect) -> None:
    server = serve(max_sessions=3, session_idle_s=600, first_chunk_idle_s=60)
    for name in "abc":
        await server.send(name, 0)
        server.clock.now_s += 1
    await server.send("a", 1, seed=1)
    error = await server.refused(Overloaded, "try again in 58 s", "d", 0)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 58
    server.clock.now_s += error.retry_after_s
    assert (await server.send("d", 0)).seq == 0
    await server.refused(NotFound, "has expired", "b", 1)
    assert (await server.send("c", 1, seed=1)).seq == 1  # nobody needed its place
    server.clock.now_s += 500
    assert (await server.send("c", 2, seed=2)).seq == 2
    assert server.counters.sessions_dropped == 1


async def test_retry_after_names_the_moment_when_the_oldest_goes(serve: ServeDirect) -> None:
    server = serve(max_sessions=1, session_idle_s=600, first_chunk_idle_s=60)
    await server.send("a", 0)
    await server.send("a", 1, seed=1)
    server.clock.now_s += 100
    error = await server.refused(Overloaded, "try again in 500 s", "b", 0)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 500
    server.clock.now_s += 500
    assert (await server.send("b", 0)).seq == 0


def test_clients_that_have_gone_leave_nothing(models: Path) -> None:
    clock = Clock()
    server = DirectServer(ModelCatalog(models, load=load_fake), Gate(), clock=clock)
    sessions = server.registry.sessions
    for n in range(100):
        sessions.leave(sessions.enter(f"s{n}", f"192.0.2.{n}"))
    assert sessions.quota._clients == {}
