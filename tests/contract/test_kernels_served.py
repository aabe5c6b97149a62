"""Every kind of kernel, exported and read by the service: any chunks, any company, a restart, and torch's bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import ExportError, export_network
from export.parity import Streams, run_torch
from hetsyn_model import Network
from service.engine.engine import Engine
from service.engine.stream import StreamState, initial_stream
from service.engine.work import Work
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.wire.chunk import Chunk, spike_chunk
from tests.support.kernels import KERNELS, kernel_network

STREAMS, STEPS, CHANNELS = 3, 48, 12
Served = tuple[Network, Model]


@pytest.fixture(scope="module", params=KERNELS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    network = kernel_network(request.param, rule="last")
    folder: Path = tmp_path_factory.mktemp("models")
    report = export_network(
        network, out=folder / "kernels/1", labels=["a", "b", "c"], examples=spikes(), tail_steps=2, bank_size=8,
        form="bank",
    )  # fmt: skip
    assert all(difference.spikes == 0 for difference in report.differences)
    network.fit_banks(size=8)
    return network, ModelCatalog(folder, None).get(None, None)


def spikes() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(STREAMS, STEPS, CHANNELS, generator=generator) < 0.2).float()


def chunk(stream: int, start: int, stop: int) -> Chunk:
    t, unit = np.nonzero(spikes()[stream, start:stop].numpy())
    return spike_chunk(stop - start, t, unit)


def test_the_manifest_says_what_the_kernels_are(served: Served) -> None:
    network, model = served
    said, kernel = model.manifest.provenance, network.spec.kernel
    assert said.get("kernel") == (None if kernel.is_exponential else kernel.shape)
    assert said.get("kernel_window_steps") == (kernel.window_steps if kernel.shape == "fractional" else None)
    assert model.manifest.network.tolerance == 0.0
    assert all(0.0 <= error < 0.05 for error in model.manifest.network.kernel_error.values())
    words = 8 * (9 + 7 + 3) + 2 * (9 + 7) + 3 + (16 if network.spec.neuron.adaptive else 0)
    words += 3 if network.spec.neuron.resets_by_synapse else 0
    assert model.manifest.network.words <= words  # a bank has fewer decays where fewer are exact


@pytest.mark.parametrize("length", [1, 7, STEPS])
def test_sessions_get_torchs_numbers_in_chunks_of_any_length(served: Served, length: int) -> None:
    network, model = served
    expected = run_torch(network.compile("bank"), Streams(spikes(), torch.full((STREAMS,), STEPS)))
    assert expected.hidden[0].any()
    engine = Engine(10_000, 64)
    # each session is one chunk older than the next one in its batches
    states = [initial_stream(model) for _ in range(STREAMS)]
    scores = np.zeros((STREAMS, 3), np.float32)
    turns = -(-STEPS // length)
    for turn in range(turns + STREAMS - 1):
        active = [b for b in range(STREAMS) if 0 <= turn - b < turns]
        work = [
            Work(states[b], chunk(b, (turn - b) * length, min((turn - b + 1) * length, STEPS)), False) for b in active
        ]
        for b, outcome in zip(active, engine.run(model, work), strict=True):
            states[b] = outcome.stream
            scores[b] = outcome.result.scores
    with torch.no_grad():
        assert np.array_equal(scores, network.rollout(spikes()).scores.numpy())


def test_silence_of_100000_steps_stays_finite(served: Served) -> None:
    """Silence has outlasted the window, and the slowest decay of every bank."""
    _, model = served
    engine, stream, empty = Engine(1_000_000, 64), initial_stream(model), np.zeros(0, np.int64)
    stream = _after(engine, model, stream, chunk(0, 0, STEPS))
    for _ in range(10):
        stream = _after(engine, model, stream, spike_chunk(10_000, empty, empty))
    result = engine.run(model, [Work(stream, spike_chunk(1, empty, empty), True)])[0].result
    assert stream.step == 100_000 + STEPS
    np.testing.assert_allclose(result.scores, 0.0, atol=1e-3)


def _after(engine: Engine, model: Model, stream: StreamState, of: Chunk) -> StreamState:
    return engine.run(model, [Work(stream, of, False)])[0].stream


def test_the_exact_form_of_such_kernels_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="kernels of shape 'pair' are served in the bank form: choose form bank"):
        export_network(kernel_network("pair"), out=tmp_path / "m/1", labels=["a", "b", "c"], form="exact")
    assert not (tmp_path / "m").exists()


def test_orders_outside_their_range_are_not_exported(tmp_path: Path) -> None:
    network = kernel_network("fractional-layer")
    with torch.no_grad():
        network.layer("hidden1").get_parameter("order_in").fill_(1.5)
    message = r"hidden1.order_in is not within 0.1 and 1: call network.clamp_decays_\(\) after every update"
    with pytest.raises(ExportError, match=message):
        export_network(network, out=tmp_path / "m/1", labels=["a", "b", "c"])
