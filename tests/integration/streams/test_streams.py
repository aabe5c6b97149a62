"""``WS /streams`` on real sockets of the loopback: many sessions on one connection, each as ``/infer`` has it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsyn_client.columns import (
    APPLIED,
    BEGUN,
    END,
    ENDED,
    LEAVE,
    NEW,
    Results,
    pack_chunks,
)
from hetsyn_client.events import pack_events
from hetsyn_client.values import pack_values
from service.api.streaming.many_streams import ConnectionSessions
from service.errors import Overloaded
from service.ingress import Encoded, Source
from service.live.many_query import parse_many_query
from service.problem import Problem
from service.wire.many_frames import Sessions, unpack_chunks
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, LABELS
from tests.support.artifacts.gate import Gate
from tests.support.clients.infer_request import infer_request
from tests.support.clients.live import BINARY, Socket, opened, said, sent
from tests.support.clients.live import EVENTS as EVENTS_OF_ONE
from tests.support.clients.many import EVENTS, Hub, Left, hub, silence, spikes_frame
from tests.support.clock import Clock
from tests.support.data.signals import sound, spikes
from tests.support.servers.socket_server import LATER_S, SOON_S, Listening, listening
from tests.support.stores.memory_store import MemoryStore

EVENTS_TYPE = {"Content-Type": "application/vnd.hetsyn.events"}


async def test_sessions_from_their_beginning_to_their_end(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        many, begin = await hub(server, f"{EVENTS}&model=digits&version=1")
        assert begin == begin | {
            "type": "Begin", "model": "digits", "version": "1", "labels": list(LABELS), "step_ms": 10.0
        }  # fmt: skip
        answer = await many.opens("a", "b", "c")
        assert answer.handle.tolist() == [0, 1, 2]
        assert (answer.status.tolist(), answer.state.tolist()) == ([APPLIED] * 3, [NEW] * 3)
        first = await many.chunks(silence([2, 0], 0))
        assert (first.handle.tolist(), first.seq.tolist(), first.total_steps.tolist()) == ([2, 0], [0, 0], [5, 5])
        assert first.more == {}
        second = await many.chunks(silence([0, 1, 2], [1, 0, 1], 7, [0, 0, END]))
        assert second.total_steps.tolist() == [12, 7, 15]
        assert server.parts.counters.sessions_ended == 1
        third = await many.chunks(silence([0, 2], [2, 2], [0, 5], [LEAVE, 0]))
        assert third.status.tolist() == [APPLIED, 404]
        assert third.more[1]["problem"] == "not-found"
        assert server.parts.registry.sessions.open == 2  # a goes on without the connection
        again = await many.opens("a", "b", first=7)
        assert again.next_seq.tolist() == [2, 1]
        assert again.state.tolist() == [BEGUN, BEGUN]
        await many.send(said("KeepAlive"), sent(BINARY, silence([7], 2)), said("CloseStream"))
        assert (await many.results()).total_steps.tolist() == [17]
        assert await many.answer() == {"type": "Termination", "chunks": 7 - 1}
        assert await many.closed() == 1000
        assert server.parts.many.handles.total == 0


async def test_a_new_connection_goes_on_with_a_session_from_before_a_reload(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        many, _ = await hub(server, EVENTS)
        await many.opens("a")
        await many.chunks(silence([0], 0))
        write_artifact(models, version="2")
        await server.parts.reloader.reload()
        again, begin = await hub(server, EVENTS)
        assert begin["version"] == "2"
        assert (await again.opens("a", "b")).status.tolist() == [APPLIED, APPLIED]
        rows = await again.chunks(silence([0, 1], [1, 0]))
        assert rows.status.tolist() == [APPLIED, APPLIED], rows.more
        named, _ = await hub(server, f"{EVENTS}&version=2")
        assert (await named.opens("a")).more[0]["problem"] == "model-mismatch"  # it was chosen


PIECES = st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=4), min_size=1, max_size=4)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions=PIECES, kind=st.sampled_from(["pcm_s16le", "events", "values"]), inline_s=st.sampled_from([0.0, 1.0]))
def test_the_bits_are_those_of_infer_and_stream_for_any_cutting(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[list[int]], kind: str, inline_s: float
) -> None:
    async def compare() -> None:
        folder = tmp_path_factory.mktemp("models")
        write_artifact(folder, takes="values" if kind == "values" else None)
        inputs = [pieces(kind, lengths, seed) for seed, lengths in enumerate(sessions)]
        async with listening(folder, Gate(), inline_s=inline_s) as server:
            expected = [await replies(server, kind, parts) for parts in inputs]
            streamed = [await results(Socket(*await server.connect()), kind, parts) for parts in inputs]
            many, _ = await hub(server, query_of(kind))
            await many.opens(*(f"many-{index}" for index in range(len(inputs))))
            taken: list[list[tuple[list[float], str, int]]] = [[] for _ in inputs]
            for number in range(max(map(len, inputs)) + 1):
                rows = [index for index, parts in enumerate(inputs) if number <= len(parts)]
                answer = await many.chunks(frame(kind, rows, number, inputs))
                assert answer.status.tolist() == [APPLIED] * len(rows), answer.more
                for row, index in enumerate(rows):
                    label = LABELS[answer.label[row]] if answer.label[row] >= 0 else ""
                    taken[index].append((answer.probabilities[row].tolist(), label, int(answer.total_steps[row])))
        assert taken == expected == streamed

    asyncio.run(compare())


Piece = bytes
Answer = tuple[list[float], str, int]


def query_of(kind: str) -> str:
    more = {"pcm_s16le": "&sample_rate=16000", "values": f"&channels={CHANNELS}"}
    return f"encoding={kind}{more.get(kind, '')}"


def pieces(kind: str, lengths: list[int], seed: int) -> list[Piece]:
    """Chunks as the body of ``/infer`` has them."""
    if kind == "pcm_s16le":
        samples = np.split(sound(sum(lengths), seed).astype("<i2"), np.cumsum(lengths)[:-1])
        return [part.tobytes() for part in samples]
    if kind == "values":
        return [pack_values(np.random.default_rng(n).normal(size=(n % 50 + 1, CHANNELS)))[0] for n in lengths]
    return [pack_events(n % 50 + 1, *spikes(n % 50 + 1, n)) for n in lengths]


def frame(kind: str, rows: list[int], number: int, inputs: list[list[Piece]]) -> bytes:
    """The chunks of that number, of some sessions; after the last one, its end."""
    parts = [inputs[index][number] if number < len(inputs[index]) else b"" for index in rows]
    actions = [0 if part else END for part in parts]
    if kind == "events":
        steps = [int.from_bytes(part[4:8], "little") for part in parts]
        halves = [(part[12 : 12 + (len(part) - 12) // 2], part[12 + (len(part) - 12) // 2 :]) for part in parts]
        content = b"".join(times for times, _ in halves) + b"".join(units for _, units in halves)
        return pack_chunks(rows, number, [len(times) // 2 for times, _ in halves], content, steps, actions)
    size = 2 if kind == "pcm_s16le" else 4 * CHANNELS
    return pack_chunks(rows, number, [len(part) // size for part in parts], b"".join(parts), 0, actions)


async def replies(server: Listening, kind: str, parts: list[Piece]) -> list[Answer]:
    """What ``/infer`` says."""
    content_type = {
        "pcm_s16le": "audio/pcm;encoding=pcm_s16le;rate=16000",
        "values": f"application/vnd.hetsyn.values;channels={CHANNELS}",
        "events": "application/vnd.hetsyn.events",
    }[kind]
    answers = []
    async with server.http() as client:
        session = None
        for number, part in enumerate([*parts, b""]):
            query = {"end": number == len(parts)} | ({"session": session} if session else {})
            response = await client.post("/infer", params=query, content=part, headers={"Content-Type": content_type})
            reply = response.json()
            session = reply["session"]
            answers.append(
                (np.array(reply["probabilities"], np.float32).tolist(), reply["label"] or "", reply["total_steps"])
            )
    return answers


async def results(socket: Socket, kind: str, parts: list[Piece]) -> list[Answer]:
    """What ``/stream`` says."""
    begin = await socket.open(query_of(kind))
    await socket.send(*(sent(BINARY, part) for part in parts), said("CloseStream"))
    frames = await socket.frames(len(parts) + 1)
    answers = [
        (np.array(frame["probabilities"], np.float32).tolist(), frame["label"] or "", frame.get("total_steps", 0))
        for frame in frames
    ]
    total_steps = round(1000 * frames[-1]["end"] / begin["step_ms"])
    return [*answers[:-1], (*answers[-1][:2], total_steps)]


async def test_events_in_any_order_are_sorted_and_wrong_ones_refused(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        many, _ = await hub(server)
        await many.opens("a", "b", "c", "d", "e")
        rows = [
            (5, np.array([1, 3]), np.array([0, 1])),
            (5, np.array([3, 1, 1]), np.array([1, 0, 0])),
            (5, np.array([1, 1, 3]), np.array([0, 0, 1])),
            (5, np.array([1, 5]), np.array([0, 1])),
            (5, np.array([1]), np.array([CHANNELS])),
        ]
        answer = await many.chunks(spikes_frame([0, 1, 2, 3, 4], 0, rows))
        assert answer.status.tolist() == [APPLIED, APPLIED, APPLIED, 422, 422]
        for twice in (1, 2):  # a spike that comes twice is one
            assert answer.probabilities[0].tolist() == answer.probabilities[twice].tolist()
        assert answer.more[3]["detail"].startswith("times[1] is 5, outside the chunk's 5 steps")
        assert f"unit {CHANNELS} is outside" in answer.more[4]["detail"]


@pytest.mark.parametrize("inline_s", [0.0, 1.0])
@pytest.mark.parametrize("has_store", [False, True])
async def test_numbers_are_those_of_infer(models: Path, gate: Gate, has_store: bool, inline_s: float) -> None:
    async with listening(models, gate, store=MemoryStore() if has_store else None, inline_s=inline_s) as server:
        many, _ = await hub(server)
        await many.opens("a", "b")
        kept = await many.chunks(silence([1, 0], 0, [7, 5]))
        again = await many.chunks(silence([0, 1], [0, 2], [5, 5]))
        assert again.status.tolist() == [APPLIED, 409]
        assert again.probabilities[0].tolist() == kept.probabilities[1].tolist()
        assert again.total_steps.tolist() == [5, 0]
        assert again.more[1] == again.more[1] | {"problem": "out-of-order", "expected_seq": 1, "retryable": False}
        other = await many.chunks(silence([0, 1], 0, [6, 5]))
        assert other.more[0]["problem"] == "conflicting-chunk"
        assert server.parts.counters.chunks_applied == 2
        async with server.http() as client:
            body = pack_events(5, [], [])
            replay = await client.post("/infer?session=a&seq=0", content=body, headers=EVENTS_TYPE)
            assert np.array_equal(np.float32(replay.json()["probabilities"]), kept.probabilities[1])
            assert replay.json()["labels"] == list(LABELS)
            described = (await client.get("/sessions/a")).json()
            assert (described["expected_seq"], described["total_steps"]) == (1, 5)
            await client.post("/infer?session=a&seq=1", content=body, headers=EVENTS_TYPE)
            assert (await client.delete("/sessions/b")).status_code == 204
        after = await many.chunks(silence([0, 1], [2, 0]))
        assert after.total_steps.tolist() == [15, 5]


@pytest.mark.parametrize("inline_s", [0.0, 1.0])
@pytest.mark.parametrize("has_store", [False, True])
async def test_a_connection_that_broke_goes_on(models: Path, gate: Gate, has_store: bool, inline_s: float) -> None:
    async with listening(models, gate, store=MemoryStore() if has_store else None, inline_s=inline_s) as server:
        first, _ = await hub(server)
        await first.opens("a", "b", "c")
        await first.chunks(silence([0, 1, 2], 0))
        await first.chunks(silence([0, 2], 1, 5, [0, END]))
        first.writer.transport.abort()
        second, _ = await hub(server)
        answer = await second.opens("a", "b", "c", "d")
        assert answer.next_seq.tolist() == [2, 1, 2, 0]
        assert answer.state.tolist() == [BEGUN, BEGUN, ENDED, NEW]
        ended = await second.chunks(silence([2], 1, 5, END))  # the result was lost
        assert ended.total_steps.tolist() == [13]


async def test_another_connection_takes_a_session(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        first, _ = await hub(server)
        await first.opens("a", "b", "c")
        await first.chunks(silence([0, 1, 2], 0))
        second, _ = await hub(server)
        assert (await second.opens("a")).next_seq.tolist() == [1]
        one, begin = await opened(server, f"{EVENTS_OF_ONE}&session=b")
        assert begin["next_seq"] == 1
        answer = await first.chunks(silence([0, 1, 2], 1))
        assert answer.status.tolist() == [409, 409, APPLIED]
        assert [answer.more[row]["problem"] for row in (0, 1)] == ["session-taken"] * 2
        assert (await first.chunks(silence([0], 1))).status.tolist() == [404]
        assert (await second.chunks(silence([0], 1))).status.tolist() == [APPLIED]
        assert (await first.opens("b", first=1)).next_seq.tolist() == [1]
        assert await one.refused() == ("session-taken", 4409)


async def test_chunks_of_a_client_that_has_gone_are_not_applied(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        many, _ = await hub(server)
        await many.opens("a", "b")
        gate.opened.clear()
        await many.send(sent(BINARY, silence([0, 1], 0)), sent(BINARY, silence([0, 1], 1)))
        await gate.computes()
        many.writer.transport.abort()
        await server.until(lambda: server.parts.counters.chunks_abandoned == 1)
        gate.opened.set()
        await server.until(lambda: server.parts.admission.in_flight == 0)
        assert server.parts.counters.chunks_applied == 0
        assert server.parts.registry.sessions.open == server.parts.many.handles.total == 0


async def test_a_server_that_ends_answers_what_has_come(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        many, _ = await hub(server)
        await many.opens("a", "b")
        gate.opened.clear()
        await many.send(sent(BINARY, silence([0, 1], 0)), sent(BINARY, silence([0, 1], 1)))
        await gate.computes()
        server.process.should_exit = True
        await asyncio.sleep(SOON_S)
        gate.opened.set()
        assert [(await many.results()).total_steps.tolist() for _ in range(2)] == [[5, 5], [10, 10]]
        assert await many.refused() == ("shutting-down", 1012)


@pytest.mark.parametrize("name", ["a\n", "\na", "a/b", "alice/a", "..%2Fa", ""])
async def test_an_id_is_the_same_as_in_other_requests(models: Path, gate: Gate, name: str) -> None:
    async with listening(models, gate) as server:
        many, _ = await hub(server)
        assert (await many.opens(name)).status.tolist() == [422]


async def test_handles_have_a_bound(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_sessions=2) as server:
        many, begin = await hub(server)
        assert begin["max_sessions"] == 4
        answer = await many.opens(*"abcdef")
        assert sorted(answer.status.tolist()) == [APPLIED] * 4 + [503] * 2
        details = [members["detail"] for members in answer.more.values()]
        own = "4 sessions of this client are open on connections, as many as may be: let the connections leave some"
        assert details == [own] * 2
        other: Hub = (await hub(server))[0]
        assert (await other.opens("g")).status.tolist() == [503]
        handles = server.parts.many.handles
        handles.take("another", 4)
        with pytest.raises(Overloaded, match=r"^0 sessions of this client .*, and the server has no place for more"):
            handles.take("third")
        left: Results = await many.chunks(silence([0], 0, 0, LEAVE))
        assert left.status.tolist() == [APPLIED]
        assert (await other.opens("g")).status.tolist() == [APPLIED]


async def test_an_idle_session_expires_and_an_idle_client_is_sent_away(models: Path, gate: Gate) -> None:
    clock = Clock()
    async with listening(
        models, gate, clock=clock, session_idle_s=60.0, idle_timeout_s=LATER_S, inline_s=1.0
    ) as server:
        many, _ = await hub(server)
        await many.opens("a")
        await many.chunks(silence([0], 0))
        await many.chunks(silence([0], 1))
        clock.now_s += 61.0
        results = await many.chunks(silence([0], 2))
        assert (results.status.tolist(), results.more[0]["problem"]) == ([404], "not-found")
        assert await many.refused() == ("idle", 4408)


async def test_a_client_that_does_not_read_is_not_read(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        many, _ = await hub(server)
        reader: Any = many._reader
        reader._transport.pause_reading()
        refused, unknown, count = server.parts.counters.chunks_refused, range(4096), 12
        sending = asyncio.create_task(many.send(*[sent(BINARY, silence(unknown, 0))] * count))
        before = -1
        while before != refused["not-found"] or not before:  # until it stands still
            before = refused["not-found"]
            await asyncio.sleep(LATER_S)
        assert before < count * len(unknown)
        reader._transport.resume_reading()
        for _ in range(count):
            assert (await many.results()).status.tolist() == [404] * len(unknown)
        await sending


async def test_one_frame_of_many_chunks_does_not_keep_others_waiting(models: Path, gate: Gate) -> None:
    async with listening(models, gate, inline_s=1.0) as server:
        many, _ = await hub(server)
        names = [f"n{index}" for index in range(2000)]
        await many.opens(*names)
        await many.chunks(silence(range(2000), 0))
        async with server.http() as client:
            url = "/infer?session=other&model=digits"
            await client.post(f"{url}&seq=0", content=pack_events(5, [], []), headers=EVENTS_TYPE)
            await many.send(sent(BINARY, silence(range(2000), 1)), sent(BINARY, silence(range(2000), 2)))
            await client.post(url, content=pack_events(5, [], []), headers=EVENTS_TYPE)
            assert server.parts.counters.chunks_applied < 6000
        assert [(await many.results()).total_steps.max() for _ in range(2)] == [10, 15]


@pytest.mark.parametrize("kind", ["opened", "refused", "sent again"])
async def test_the_frames_of_many_connections_do_not_come_before_the_chunks_of_other_clients(
    models: Path, gate: Gate, kind: str
) -> None:
    """All have come in the same round of the event loop, and take no time of an engine."""
    rows, query = list(range(64)), parse_many_query([("encoding", "events")])
    async with listening(models, gate, inline_s=1.0) as server:
        many, ingress = server.parts.many, server.parts.ingress
        connections = [ConnectionSessions(many, Left(), query, "127.0.0.2") for _ in range(40)]
        other = ConnectionSessions(many, Left(), query, "127.0.0.3")
        await other.open(Sessions([0], ["other"]))
        await other.apply(unpack_chunks(silence([0], 0), 4))  # on a thread, for its time is not known
        if kind == "sent again":
            for number, connection in enumerate(connections):
                await connection.open(Sessions(rows, [f"{number}-{row}" for row in rows]))
                await connection.apply(unpack_chunks(silence(rows, 0), 4))
        encoded = Encoded(8, lambda _: infer_request("third", 0))
        tasks = [
            asyncio.create_task(
                connection.open(Sessions(rows, [f"{number}-{row}" for row in rows]))
                if kind == "opened"
                else connection.apply(unpack_chunks(silence(rows, 0), 4))
            )
            for number, connection in enumerate(connections)
        ]
        frame = asyncio.create_task(other.apply(unpack_chunks(silence([0], 1), 4)))
        request = asyncio.create_task(ingress.apply([(Source("a request", "http", "127.0.0.4"), encoded)]))
        await asyncio.wait([frame, request])
        assert sum(task.done() for task in tasks) <= 10
        assert frame.result()[1] == 1
        assert not isinstance(request.result()[0], Problem)
        await asyncio.wait(tasks)
        for connection in [*connections, other]:
            connection.release()


@pytest.mark.parametrize("kind", ["opened", "refused"])
async def test_few_frames_of_a_client_are_worked_on_at_a_time(models: Path, gate: Gate, kind: str) -> None:
    """The results of a frame take thirty times its bytes: those of all connections are never in memory together."""
    rows, query = list(range(512)), parse_many_query([("encoding", "events")])
    async with listening(models, gate, inline_s=1.0) as server:
        refused = server.parts.counters.chunks_refused
        connections = [ConnectionSessions(server.parts.many, Left(), query, "127.0.0.2") for _ in range(30)]
        tasks = [
            asyncio.create_task(
                connection.open(Sessions(rows, ["no id"] * len(rows)))
                if kind == "opened"
                else connection.apply(unpack_chunks(silence(rows, 0), 4))
            )
            for connection in connections
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert sum(refused.values()) <= 8 * len(rows)  # openings take some rounds, in which the next frames begin
        await asyncio.wait(tasks)
        assert sum(refused.values()) == len(connections) * len(rows)


@pytest.mark.parametrize("inline_s", [0.0, 1.0])
async def test_a_session_with_utterances_keeps_them(models: Path, gate: Gate, inline_s: float) -> None:
    async with listening(models, gate, inline_s=inline_s) as server:
        loud = [sound(4_000, seed).astype("<i2").tobytes() for seed in range(3)]
        quiet = bytes(2 * 16_000)
        headers = {"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=8000"}
        many, _ = await hub(server, "encoding=pcm_s16le&sample_rate=8000")
        async with server.http(headers=headers) as client:
            replies = []
            for seq, part in enumerate([*loud, quiet, *loud, quiet]):
                reply = await client.post(f"/infer?session=a&endpointing=on&seq={seq}", content=part)
                replies.append(reply.json())
            await client.post("/infer?session=b&endpointing=on&seq=0", content=loud[0])
        await many.opens("b")
        events = []
        for seq, part in enumerate([*loud[1:], quiet, *loud, quiet], 1):
            results = await many.chunks(pack_chunks([0], seq, [len(part) // 2], part))
            assert results.status.tolist() == [APPLIED], results.more
            events += results.more.get(0, {}).get("events", [])
        assert events == [event for reply in replies[1:] for event in reply.get("events", [])]
        assert any(event["type"] == "UtteranceEnd" for event in events)
