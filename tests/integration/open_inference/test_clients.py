"""Triton's clients, unmodified: every one gets the numbers of ``/infer``, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.json_input import audio
from tests.support.clients.open_inference import CLIENTS, Chunk, Live, assert_same, infer
from tests.support.data.signals import sound

PIECES = (3, 1, 25)  # rows of the chunks


def rows(steps: int, dtype: str, seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if dtype == "values":
        return rng.normal(size=(steps, CHANNELS)).astype(np.float32)
    return (rng.random((steps, CHANNELS)) < 0.3).astype(dtype)


def sequence(chunks: list[NDArray[Any]], sequence_id: int | str) -> list[Chunk]:
    ends = len(chunks) - 1
    return [
        Chunk(values, {"sequence_id": sequence_id, "sequence_start": n == 0, "sequence_end": n == ends})
        for n, values in enumerate(chunks)
    ]


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("model", "tensor", "dtype", "number"),
    [
        ("digits", "audio", "int16", 11),
        ("digits", "audio", "float32", 12),
        ("spiking", "spikes", "bool", 13),
        ("spiking", "spikes", "float32", 14),
        ("sensor", "values", "values", 15),
        ("tracer", "spikes", "bool", 16),
    ],
)
async def test_a_sequence(live: Live, name: str, model: str, tensor: str, dtype: str, number: int) -> None:
    sequence_id = f"{model}-{number}" if number % 2 else 1_000 * number + list(CLIENTS).index(name)
    kind = "values" if tensor == "values" else "dense"
    if tensor == "audio":
        pieces = [sound(samples, seed) for seed, samples in enumerate((500, 33, 1_000))]
        bodies = [audio(piece) for piece in pieces]
        chunks = [piece if dtype == "int16" else (piece / np.float32(32_768)).astype(np.float32) for piece in pieces]
    else:
        chunks = [rows(steps, dtype, seed) for seed, steps in enumerate(PIECES)]
        as_json = [chunk.astype(float if kind == "values" else int).tolist() for chunk in chunks]
        bodies = [{"kind": kind, "values" if kind == "values" else "spikes": values} for values in as_json]
    answers = await CLIENTS[name](live, model, tensor, sequence(chunks, sequence_id))
    assert len(answers) == len(bodies)
    which = {"model": model}  # the server makes an id
    for n, (answer, body) in enumerate(zip(answers, bodies, strict=True)):
        reply = infer(live, seq=n, end=n == 2, input=body, **which)
        which = {"session": reply["session"]}
        assert_same(answer, reply)


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_input_without_a_sequence_is_classified_at_once(live: Live, name: str) -> None:
    values = rows(25, "bool", 5)
    (answer,) = await CLIENTS[name](live, "spiking", "spikes", [Chunk(values)])
    body = {"kind": "dense", "spikes": values.astype(int).tolist()}
    assert_same(answer, infer(live, model="spiking", end=True, input=body))
