"""Sequences that are under way while another version of their model is loaded: they go on as they began."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.artifacts.artifact import _encoder, write_artifact
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.json_input import audio
from tests.support.clients.open_inference import (
    CLIENTS,
    Answer,
    Chunk,
    Live,
    answer_of,
    assert_same,
    by_grpc,
    by_http,
    infer,
    inputs,
    live_server,
)
from tests.support.data.signals import sound
from tests.support.stores.memory_store import MemoryStore

FASTER = {"encoder": {**(_encoder("audio") or {}), "sample_rate_hz": 16_000}}
ROWS = np.eye(4, CHANNELS, dtype=bool)
each_way = pytest.mark.parametrize("way", ["http", "grpc", "grpc, stream"])


@each_way
@pytest.mark.parametrize("is_shared", [False, True], ids=["memory", "store"])
async def test_a_sequence_keeps_the_sample_rate_of_its_version(tmp_path: Path, way: str, is_shared: bool) -> None:
    store = MemoryStore() if is_shared else None
    pieces = np.array_split(sound(2400), 3)
    with live_server(tmp_path, store) as live:

        async def send(index: int, **more: Any) -> Answer:
            options = {"sequence_id": "old", "sequence_start": not index, **more}
            (answer,) = await CLIENTS[way](live, "digits", "audio", [Chunk(pieces[index], options)])
            return dict(answer)

        answers = [await send(0, parameters={"seq": 0})]
        write_artifact(tmp_path, "digits", "2", change=FASTER)
        live.reload()
        assert answers[0]["total_steps"].tolist() == (await send(0, parameters={"seq": 0}))["total_steps"].tolist()
        answers += [await send(1, parameters={"seq": 1}), await send(2)]
        for seq, (piece, answer) in enumerate(zip(pieces, answers, strict=True)):
            content = audio(piece, 8_000)
            assert_same(answer, infer(live, session="same", model="digits", version="1", seq=seq, input=content))
        # a new one begins on the new version, at its rate
        (new,) = await CLIENTS[way](
            live, "digits", "audio", [Chunk(pieces[0], {"sequence_id": "new", "sequence_start": True})]
        )
        assert_same(
            new, infer(live, session="other", seq=0, model="digits", version="2", input=audio(pieces[0], 16_000))
        )
        rate = {"sequence_id": "new", "parameters": {"sample_rate": 8_000}}
        with pytest.raises(Exception, match="the session's sample rate is 16000 Hz"):
            await CLIENTS[way](live, "digits", "audio", [Chunk(pieces[1], rate)])


@each_way
async def test_a_sequence_keeps_the_outputs_of_its_version(tmp_path: Path, way: str) -> None:
    with live_server(tmp_path) as live:

        async def send(wanted: str, **options: Any) -> Answer:
            import tritonclient.grpc as grpc
            import tritonclient.http as http

            outputs = [(http if way == "http" else grpc).InferRequestedOutput(wanted)]
            (answer,) = await CLIENTS[way](live, "spiking", "spikes", [Chunk(ROWS, {**options, "outputs": outputs})])
            return dict(answer)

        await send("probabilities", sequence_id="old", sequence_start=True)
        write_artifact(tmp_path, "spiking", "2", rule="trace", takes_audio=False)
        live.reload()
        assert list(await send("probabilities", sequence_id="old")) == ["probabilities"]
        with pytest.raises(Exception, match="no output 'readout': ask for probabilities, label, total_steps"):
            await send("readout", sequence_id="old")
        with pytest.raises(Exception, match="no output 'probabilities': ask for readout, total_steps"):
            await send("probabilities", sequence_id="old", sequence_start=True)
        assert list(await send("readout", sequence_id="old", sequence_start=True)) == ["readout"]


async def test_versions_come_and_go_under_traffic(tmp_path: Path) -> None:
    piece = sound(400)
    with live_server(tmp_path) as live:
        loaded = asyncio.Event()

        async def stream(way: Any, name: str) -> list[int]:
            """Chunks until all versions are loaded, and some more."""
            steps: list[int] = []
            for index in itertools.count():
                options = {"sequence_id": name, "sequence_start": not index}
                (answer,) = await asyncio.to_thread(asyncio.run, way(live, "digits", "audio", [Chunk(piece, options)]))
                steps.append(int(answer["total_steps"][0]))
                if loaded.is_set() and index >= 10:
                    return steps
            raise AssertionError

        async def change() -> None:
            for version in range(2, 6):
                write_artifact(tmp_path, "digits", str(version), change=FASTER if version % 2 == 0 else None)
                await asyncio.to_thread(live.reload)
            loaded.set()

        ways = [by_http, by_grpc] * 2
        changing = asyncio.create_task(change())
        found = await asyncio.gather(*(stream(way, f"s{index}") for index, way in enumerate(ways)))
        await changing
        for steps in found:
            gains = {after - before for before, after in itertools.pairwise(steps)}
            assert len(gains) == 1, steps  # each at the rate with which it began


def test_no_model_is_meant_by_no_name(live: Live) -> None:
    """The default model would answer under the name ""."""
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(live.grpc) as client:
        for act in (
            client.is_model_ready,
            client.get_model_metadata,
            client.get_model_config,
            lambda name: client.infer(name, inputs(triton, "spikes", ROWS)),
        ):
            with pytest.raises(triton.InferenceServerException, match="name a model") as caught:
                act("")
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert answer_of(client.infer("spiking", inputs(triton, "spikes", ROWS)))
    for path in ("", "/config", "/ready"):
        assert httpx.get(f"{live.url}/v2/models/{path}").status_code in (404, 422)
