"""Do networks of snnTorch, Norse, SpikingJelly and Sinabs give their own spike counts when they are served?

Each network learns a toy task in its library, is written as NIR and imported. Its counts in the library are compared
with those of the artifact in ONNX Runtime, and with the answers of ``/infer`` in chunks.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from numpy.typing import NDArray

from export.parity import chunk_feed
from service.app import create_app
from service.contract.artifact import Artifact
from service.contract.graph_io import SCORES, STATE, STEP
from service.models.model import Model
from service.runtime.onnx import Array, load_graph
from service.settings import Settings
from tests.long.libraries.task import streams, train
from tests.support.clients.wire import wire_transport

SEED = 7
CHUNK = 7  # steps, through /infer
LIBRARIES = ("snntorch", "norse", "spikingjelly", "sinabs")


def prove(library: str, name: str, updates: int, folder: Path, count: int) -> dict[str, Any]:
    """Train a network of a library, serve it, and compare.

    Args:
        name: of the network, in ``tests.long.libraries.networks.CASES``.
        updates: batches that it learns.
        count: streams to compare on.

    Returns:
        ``differ`` and ``differ_served``: counts that differ in ONNX Runtime and through ``/infer``; and what else was
        found.
    """
    import nir

    from export.nir.importing import import_nir
    from tests.long.libraries.networks import CASES

    torch.manual_seed(0)
    case = CASES[library][name]()
    train(case.network, case.counts, updates)
    spikes, labels = streams(count, SEED)
    with torch.no_grad():
        own = case.counts(spikes).numpy()
    file = folder / "network.nir"
    nir.write(file, case.graph())
    options = {"producer": library} | case.options
    imported = import_nir(file, out=folder / "models" / "network" / "1", **options)
    model = Model(Artifact.open(imported.folder), load_graph)
    found = in_onnx_runtime(model, spikes.numpy())
    served = asyncio.run(through_infer(folder / "models", spikes.numpy()))
    return {
        "network": f"{library} {version(library)}, {name}",
        "accuracy": float((own.argmax(1) == labels.numpy()).mean()),
        "spikes": int(own.sum()),
        "differ": int((found != own).sum()),
        "differ_served": int((_relative(served) != own - own.max(1, keepdims=True)).sum()),
        "verdict": imported.fidelity.sentence(),
    }


def in_onnx_runtime(model: Model, spikes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Counts of the output neurons, [stream, outputs], of all streams as one batch."""
    count, steps, _ = spikes.shape
    row = np.tile(model.initial_row, (count, 1))
    feed: dict[str, Array] = {STATE: row, STEP: np.zeros(count, np.int64)}
    feed |= chunk_feed(spikes, np.full(count, steps, np.int64))
    scores: NDArray[np.float32] = model.network.run(feed, [SCORES])[SCORES]
    return scores


async def through_infer(models: Path, spikes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities [stream, outputs] of the last reply to each stream, which goes in chunks of CHUNK steps."""
    transport = wire_transport(create_app(Settings(models=models)))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return np.array([await _stream(client, index, stream) for index, stream in enumerate(spikes)])


async def _stream(client: httpx.AsyncClient, index: int, spikes: NDArray[np.float32]) -> list[float]:
    reply: dict[str, Any] = {}
    for seq, start in enumerate(range(0, len(spikes), CHUNK)):
        part = spikes[start : start + CHUNK]
        body = {
            "session": f"s{index}",
            "seq": seq,
            "end": start + CHUNK >= len(spikes),
            "input": {"kind": "dense", "spikes": part.astype(int).tolist()},
        }
        response = await client.post("/infer", json=body)
        response.raise_for_status()
        reply = response.json()
    return list(reply["probabilities"])


def _relative(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts less the largest of each stream. The probabilities are the softmax of the counts."""
    return np.asarray(np.round(np.log(probabilities) - np.log(probabilities.max(1, keepdims=True))))
