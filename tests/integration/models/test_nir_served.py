"""From a NIR file to a served answer in two commands: ``hetsyn import-nir``, and a server."""

from __future__ import annotations

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
from tests.support.networks import nir_graphs as graphs
from tests.support.networks.nir_reference import run_reference
from tests.support.servers.socket_server import running, serving_from_file

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


def probabilities(url: str, seq: int, chunk: np.ndarray) -> list[float]:
    """Those of the reply to one of three chunks of spikes."""
    body = {"session": "s", "seq": seq, "end": seq == 2, "input": {"kind": "dense", "spikes": chunk.tolist()}}
    response = httpx.post(f"{url}/infer", json=body)
    assert response.status_code == 200, response.text
    found: list[float] = response.json()["probabilities"]
    return found


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
    chunks = np.split(values, [7, 8])
    with running(models) as url:
        for seq, chunk in enumerate(chunks):
            last = probabilities(url, seq, chunk)
    np.testing.assert_allclose(last, softmax(truth), rtol=1e-4, atol=1e-6)
    for seq, chunk in enumerate(chunks):
        with serving_from_file(models, tmp_path / "sessions.db") as url:
            restarted = probabilities(url, seq, chunk)
    assert restarted == last
