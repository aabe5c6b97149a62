"""Networks of experiments behind ``/infer``: spikes in, in chunks; the trace or the decision out, as in torch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.commands import export
from hetsyn_model.network import Network
from research.runs.for_export import keep_test_streams
from research.runs.run import RunSpec, TaskSpec, Training, open_task, run_batch
from research.runs.train import load_best, train
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.pattern_generation import PatternGenerationSpec
from research.tasks.task import Task
from research.tasks.vision import CLOTHES, ImageSpec, drawn, encode
from service.app import create_app
from tests.support.clients.wire import wire_transport
from tests.support.product import make_settings

TASKS: dict[str, TaskSpec] = {
    "delayed-match": DelayedMatchSpec(hidden=(12,), delay_ms=200, validation_trials=8, test_trials=12),
    "pattern-generation": PatternGenerationSpec(hidden=(10, 10), template_ms=60, gap_ms=20, test_trials=2),
    "vision": ImageSpec("drawn", hidden=(10, 10), test_images=12),
}


def run_of(task: str) -> RunSpec:
    training = Training(updates=4, batch=4, schedule="step", evaluate_every=2, bank_size=4)
    return RunSpec(task, "base", task, TASKS[task], "hetsyn", True, 0, 5e-3, 8.0, training)


def trained(run: RunSpec, task: Task, folder: Path) -> Network:
    """The network of a run, which is left in a folder for an export."""
    train(run, task, folder)
    network = load_best(run, task, folder)
    assert isinstance(network, Network)
    keep_test_streams(folder, network, task.test())
    return network


def infer(models: Path, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The replies to requests, sent one after the other."""

    async def whole() -> list[dict[str, Any]]:
        app = create_app(make_settings(models=models))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=wire_transport(app), base_url="http://server") as client,
        ):
            replies = []
            for body in bodies:
                response = await client.post("/infer", json=body)
                assert response.status_code == 200, response.text
                replies.append(response.json())
            return replies

    return asyncio.run(whole())


def chunks(spikes: np.ndarray[Any, np.dtype[np.bool_]], session: str, size: int) -> list[dict[str, Any]]:
    """Requests that stream [steps, channels] in chunks."""
    bodies = []
    for seq, start in enumerate(range(0, len(spikes), size)):
        part = spikes[start : start + size]
        times, units = part.nonzero()
        events = {"kind": "events", "steps": len(part), "times": times.tolist(), "units": units.tolist()}
        bodies.append({"session": session, "seq": seq, "end": start + size >= len(spikes), "input": events})
    return bodies


@pytest.mark.parametrize("name", TASKS)
def test_the_server_answers_as_the_trained_network_does(name: str, tmp_path: Path) -> None:
    run = run_of(name)
    task = open_task(run)
    network = trained(run, task, tmp_path / "run")
    out = tmp_path / "models" / name / "1"
    exported = CliRunner().invoke(export, [str(tmp_path / "run/best.pt"), "--out", str(out)], catch_exceptions=False)
    assert exported.exit_code == 0, exported.output

    batch = task.test()[0]
    with torch.no_grad():
        rolled = run_batch(network, batch)
    streams = [chunks(stream, f"s{index}", 17) for index, stream in enumerate(batch.dense())]
    replies = infer(tmp_path / "models", [body for stream in streams for body in stream])
    start = 0
    for index, stream in enumerate(streams):
        mine = replies[start : start + len(stream)]
        start += len(stream)
        if name == "pattern-generation":
            trace = np.concatenate([reply["readout"] for reply in mine])
            assert np.abs(trace - rolled.readout[index].numpy()).max() < 1e-4
            assert mine[-1]["label"] is None
        else:
            assert mine[-1]["label"] == task.labels[int(rolled.scores[index].argmax())]
            assert np.abs(np.array(mine[-1]["probabilities"]) - rolled.probabilities[index].numpy()).max() < 1e-4
    if name == "vision":
        an_image_is_one_request(tmp_path / "models")


def an_image_is_one_request(models: Path) -> None:
    spec = TASKS["vision"]
    assert isinstance(spec, ImageSpec)
    times, units = encode(spec, drawn().test[0][:1])[0].nonzero()
    events = {"kind": "events", "steps": 28, "times": times.tolist(), "units": units.tolist()}
    (reply,) = infer(models, [{"end": True, "input": events}])
    assert reply["label"] in CLOTHES
    assert reply["steps"] == 28
