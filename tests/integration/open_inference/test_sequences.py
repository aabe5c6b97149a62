"""When a sequence begins, goes on and ends, what a retry does, and what is refused; over both ways."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

from tritonclient.utils import InferenceServerException

from service.errors import StoreUnavailable
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.open_inference import CLIENTS, Answer, Chunk, Live, live_server
from tests.support.stores.memory_store import MemoryStore

ROWS = np.eye(4, CHANNELS, dtype=bool)
WAYS = ("http", "grpc", "grpc, stream", "grpc.aio, stream")
each_way = pytest.mark.parametrize("way", WAYS)
calls = pytest.mark.parametrize("way", ["http", "grpc", "grpc, stream"])


async def send(
    live: Live, way: str, *options: dict[str, Any], model: str = "spiking", values: Any = ROWS
) -> list[Answer]:
    return list(await CLIENTS[way](live, model, "spikes", [Chunk(values, each) for each in options]))


async def refused(live: Live, way: str, *options: dict[str, Any], **more: Any) -> str:
    """The sentence of a refusal."""
    with pytest.raises(InferenceServerException) as caught:
        await send(live, way, *options, **more)
    message: str = caught.value.message()
    return message


def steps(answers: list[Answer]) -> list[int]:
    return [int(answer["total_steps"][0]) for answer in answers]


def start(name: int | str, **more: Any) -> dict[str, Any]:
    return {"sequence_id": name, "sequence_start": True, **more}


@each_way
async def test_a_start_begins_anew_whatever_was_there(live: Live, way: str) -> None:
    one, end = {"sequence_id": f"anew-{way[:4]}{len(way)}"}, {"sequence_end": True}
    name = one["sequence_id"]
    assert steps(await send(live, way, start(name), one, start(name), one)) == [4, 8, 4, 8]
    answers = await send(live, way, start(name), {**one, **end}, start(name), {**one, **end})
    assert steps(answers[:1] + answers[2:3]) == [4, 4]


@each_way
async def test_without_a_start_there_has_to_be_a_sequence(live: Live, way: str) -> None:
    assert "begins with seq 0" in await refused(live, way, {"sequence_id": 999_999})
    name = f"over-{way[:4]}{len(way)}"
    sentence = await refused(live, way, start(name, sequence_end=True), {"sequence_id": name})
    assert "the session has ended" in sentence


@each_way
async def test_numbered_chunks_are_applied_once(live: Live, way: str) -> None:
    name = f"once-{way[:4]}{len(way)}"

    def chunk(seq: int, **more: Any) -> dict[str, Any]:
        return {"sequence_id": name, "parameters": {"seq": seq}, **more}

    first = chunk(0, sequence_start=True)
    assert steps(await send(live, way, first, first, chunk(1), chunk(1), chunk(1))) == [4, 4, 8, 8, 8]
    late = await refused(live, way, first)  # a late copy of the first chunk begins nothing anew
    assert "send seq 2 next" in late
    assert "leaves a gap: send seq 2 next" in await refused(live, way, chunk(3))
    assert "was applied with other content" in await refused(live, way, chunk(1), values=~ROWS)
    assert "sequence_start goes with seq 0" in await refused(live, way, chunk(2, sequence_start=True))
    assert steps(await send(live, way, chunk(2))) == [12]


@each_way
async def test_one_sequence_for_all_interfaces(live: Live, way: str) -> None:
    name = f"both-{way[:4]}{len(way)}"
    await send(live, way, start(name))
    described = httpx.get(f"{live.url}/sessions/{name}").json()
    assert (described["expected_seq"], described["total_steps"], described["model"]) == (1, 4, "spiking")
    httpx.delete(f"{live.url}/sessions/{name}").raise_for_status()
    assert "begins with seq 0" in await refused(live, way, {"sequence_id": name})


@calls
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parameters": {"chunk_number": 3}}, "parameter 'chunk_number' is not one of this server"),
        ({"parameters": {"sequenceid": 3}}, "did you mean sequence_id?"),
        ({"parameters": {"seq": 3}}, "send a sequence_id too"),
        ({"sequence_id": "a b"}, "session"),
        ({"sequence_id": "a" * 129}, "session"),
        ({**start("form"), "parameters": {"form": "bank"}}, "form is not a parameter any more: leave it out"),
        ({**start("seq"), "parameters": {"seq": "0"}}, "seq: send a whole number"),
        ({**start("seq"), "parameters": {"seq": True}}, "seq: send a whole number"),
        ({"model_version": "7"}, "has no version '7'"),
    ],
)
async def test_what_is_refused(live: Live, way: str, options: dict[str, Any], sentence: str) -> None:
    assert sentence in await refused(live, way, options)


@calls
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros((2, CHANNELS + 1), bool), "channels"),
        (np.zeros(CHANNELS, bool), "send [steps, channels]"),
        (np.zeros((0, CHANNELS), bool), "is empty: send"),
        (np.full((1, CHANNELS), 0.5, np.float32), "spikes[0][0] is 0.5: send 0 or 1"),
        (np.full((1, CHANNELS), np.nan, np.float32), "spikes[0][0] is nan: send 0 or 1"),
        (np.zeros((1, CHANNELS), np.int16), "has datatype 'INT16': send BOOL or FP32"),
        (np.zeros((600, CHANNELS), bool), "steps"),
    ],
)
async def test_inputs_that_are_refused(tmp_path: Any, live: Live, way: str, values: Any, sentence: str) -> None:
    if len(values) == 600:
        with live_server(tmp_path / "models", max_chunk_steps=500) as short:
            assert sentence in await refused(short, way, {}, values=values)
    else:
        assert sentence in await refused(live, way, {}, values=values)


async def test_grpc_says_unavailable_where_waiting_helps(tmp_path: Any) -> None:
    store = _Failing()
    with live_server(tmp_path / "models", store) as live:

        async def code(**options: Any) -> str:
            with pytest.raises(InferenceServerException) as caught:
                await send(live, "grpc", options)
            return str(caught.value.status())

        await send(live, "grpc", start("kept"))
        assert await code(sequence_id="none") == "StatusCode.NOT_FOUND"
        assert await code(sequence_id="kept", parameters={"seq": 9}) == "StatusCode.FAILED_PRECONDITION"
        assert await code(parameters={"no": 1}) == "StatusCode.INVALID_ARGUMENT"
        store.fails = True
        assert await code(sequence_id="kept") == "StatusCode.UNAVAILABLE"  # it may be committed
        store.fails = False
        assert steps(await send(live, "grpc", {"sequence_id": "kept"})) == [8]
        live.app.state.server.admission.admits = False
        assert await code(sequence_id="kept") == "StatusCode.UNAVAILABLE"
        live.app.state.server.admission.admits = True


class _Failing(MemoryStore):
    fails = False

    async def commit(self, changes: Any) -> Any:
        if self.fails:
            raise StoreUnavailable("the store is slow: send the chunk again")
        return await super().commit(changes)


async def test_the_same_as_a_start_with_a_store(tmp_path: Any) -> None:
    """Another replica had the sequence: what begins anew replaces its record."""
    store = MemoryStore()
    with live_server(tmp_path / "one", store) as one, live_server(tmp_path / "two", store) as two:
        assert steps(await send(one, "http", start("x"), {"sequence_id": "x"})) == [4, 8]
        assert steps(await send(two, "http", start("x"), {"sequence_id": "x"})) == [4, 8]
        assert steps(await send(one, "grpc", {"sequence_id": "x"}, start("x"))) == [12, 4]
