"""From a NIR file to a served answer in two commands: ``hetsyn import-nir``, and a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.tools import NO_NIR, needs_onnxscript

pytest.importorskip("nir", reason=NO_NIR)

import nir

from export.nir.commands import import_nir
from export.nir.convention import Convention
from export.nir.dynamics import program_of
from export.nir.reading import from_nir
from service.app import create_app
from tests.support.clients.wire import wire_transport
from tests.support.networks import nir_graphs as graphs
from tests.support.networks.nir_reference import run_reference
from tests.support.product import make_settings

pytestmark = needs_onnxscript

STEPS = 30


def imported(graph: Any, folder: Path, *options: str) -> Path:
    """The folder of models, with the graph as its only one."""
    nir.write(folder / "network.nir", graph)
    command = [str(folder / "network.nir"), "--out", str(folder / "models" / "m" / "1"), *options]
    done = CliRunner().invoke(import_nir, [*command, "--dt", "1e-3", "--rule", "euler", "--reset", "zero"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("faithful: ")
    return folder / "models"


def answers(models: Path, chunks: list[dict[str, Any]], before_each: Any = None) -> list[dict[str, Any]]:
    """The replies to a session's chunks; with a store, each chunk gets a server of its own."""
    settings = {"models": models} | ({} if before_each is None else {"store": before_each})

    async def send(app: Any, seq: int, chunk: dict[str, Any]) -> dict[str, Any]:
        body = {"session": "s", "seq": seq, "end": seq + 1 == len(chunks), "input": chunk}
        async with httpx.AsyncClient(transport=wire_transport(app), base_url="http://server") as client:
            response = await client.post("/infer", json=body)
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        return reply

    async def whole() -> list[dict[str, Any]]:
        replies = []
        if before_each is None:
            app = create_app(make_settings(**settings))
            async with app.router.lifespan_context(app):
                return [await send(app, seq, chunk) for seq, chunk in enumerate(chunks)]
        for seq, chunk in enumerate(chunks):
            app = create_app(make_settings(**settings))
            async with app.router.lifespan_context(app):
                replies.append(await send(app, seq, chunk))
        return replies

    return asyncio.run(whole())


def softmax(scores: Any) -> Any:
    shifted = np.exp(scores - scores.max())
    return shifted / shifted.sum()


@pytest.mark.parametrize("name", ["ours", "recurrent"])
def test_spikes_of_a_nir_file_are_counted_through_infer(name: str, tmp_path: Path) -> None:
    excited = (
        nir.Linear(np.abs(graphs.rng(1).normal(size=(8, 6)))),
        nir.Linear(np.abs(graphs.rng(2).normal(size=(4, 8)))),
    )
    graph = graphs.chain(excited[0], graphs.lif(8), excited[1], graphs.lif(4))
    if name == "recurrent":  # at its end too, so it is none of ours
        graph = graphs.chain(
            excited[0], graphs.lif(8), excited[1], graphs.recurrent(graphs.lif(4), graphs.linear(4, 4), 4)
        )
    models = imported(graph, tmp_path)
    values = (graphs.rng(5).random((STEPS, 6)) < 0.3).astype(int)
    counts = run_reference(program_of(from_nir(graph), Convention(1e-3, "euler", "zero")), values[None].astype(float))
    truth = counts["out"][0].sum(0)
    assert truth.sum() > 5
    chunks = [{"kind": "dense", "spikes": values[a:b].tolist()} for a, b in ((0, 7), (7, 8), (8, STEPS))]
    last = answers(models, chunks)[-1]
    np.testing.assert_allclose(last["probabilities"], softmax(truth), rtol=1e-4, atol=1e-6)
    restarted = answers(models, chunks, before_each=f"file://{tmp_path / 'sessions.db'}")[-1]
    assert restarted["probabilities"] == last["probabilities"]
