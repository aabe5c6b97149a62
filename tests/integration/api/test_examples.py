"""``GET /models/{name}/example``: inputs to try a model with, from the golden streams of its artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.contract.artifact import GOLDEN
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.artifact_file import npz, rewrite
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.http_calls import is_problem
from tests.support.servers.in_process import ServeHttp

STEPS = (9, 4)


@pytest.mark.parametrize("takes", ["spikes", "values"])
async def test_an_example_is_an_input_of_the_model(tmp_path: Path, serve: ServeHttp, takes: Takes) -> None:
    rng = np.random.default_rng(0)
    folder = write_artifact(tmp_path, takes=takes)
    if takes == "spikes":
        inputs = rng.integers(0, 2, (2, 9, CHANNELS), np.uint8)
    else:
        inputs = rng.normal(size=(2, 9, CHANNELS)).astype(np.float32)
    rewrite(folder, GOLDEN, npz(**{takes: inputs, "steps": np.array(STEPS)}))
    client = (await serve(tmp_path)).client
    for index, steps in enumerate(STEPS):
        response = (await client.get("/models/digits/example", params={"index": index})).json()
        example = response.pop("input")
        assert response == {"model": "digits", "version": "1", "index": index, "count": 2}
        got: np.ndarray
        if takes == "spikes":
            got = np.zeros((example["steps"], CHANNELS))
            got[example["times"], example["units"]] = 1
        else:
            got = np.array(example["values"])
        np.testing.assert_array_equal(got, inputs[index, :steps])
        reply = await client.post("/infer", json={"input": example, "end": True})
        assert (reply.status_code, reply.json()["steps"] >= steps) == (200, True)
    is_problem(await client.get("/models/digits/example?index=2"), 404, "has 2 examples: the first has the index 0")
    is_problem(await client.get("/models/digits/example?index=-1"), 422, "index")
    is_problem(await client.get("/models/none/example"), 404, "none")


async def test_golden_streams_that_cannot_be_read_are_no_examples(tmp_path: Path, serve: ServeHttp) -> None:
    client = (await serve(tmp_path if write_artifact(tmp_path) else None)).client
    is_problem(await client.get("/models/digits/example"), 404, "has no example that can be read")
    large = np.zeros((1, 2**22, CHANNELS), np.uint8)
    rewrite(tmp_path / "digits" / "1", GOLDEN, npz(spikes=large, steps=np.array([2**22])))
    is_problem(await client.get("/models/digits/example"), 404, "has no example that can be read")
