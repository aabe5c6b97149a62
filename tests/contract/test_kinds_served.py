"""Every kind of neuron, exported and read by the service: sessions in chunks, in company, get torch's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import export_network
from export.parity import Streams, run_torch
from hetsyn_model import Network
from hetsyn_model.state import FORMS, Form
from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.wire.chunk import spike_chunk
from tests.support.networks.networks import KINDS, small_network

STREAMS, STEPS, CHANNELS = 3, 40, 10
Served = tuple[Network, Model, Form]


@pytest.fixture(scope="module", params=[(kind, form) for kind in KINDS for form in FORMS], ids=str)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    kind, form = request.param
    network = small_network(kind, "spike_count", channels=CHANNELS)
    folder: Path = tmp_path_factory.mktemp("models")
    export_network(network, out=folder / "kind/1", labels=list("abcde"), examples=spikes(), tail_steps=2, form=form)
    return network, ModelCatalog(folder).get(None, None), form


def spikes() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(STREAMS, STEPS, CHANNELS, generator=generator) < 0.2).float()


def test_sessions_get_torchs_spike_counts(served: Served) -> None:
    network, model, form = served
    with_tail = torch.cat([spikes(), torch.zeros(STREAMS, 2, CHANNELS)], 1)
    expected = run_torch(network.compile(form), Streams(with_tail, torch.full((STREAMS,), STEPS + 2)))
    with torch.no_grad():
        counts = network.rollout(with_tail, form).scores.numpy()
    engine, states = Engine(10_000, 64), [initial_stream(model) for _ in range(STREAMS)]
    cuts = ([STEPS], [1, 7, 32], [13, 27])  # each stream's chunks end elsewhere
    answers = {}
    for turn in range(3):
        active = [b for b in range(STREAMS) if turn < len(cuts[b])]
        work = []
        for b in active:
            start = sum(cuts[b][:turn])
            t, unit = np.nonzero(spikes()[b, start : start + cuts[b][turn]].numpy())
            work.append(Work(states[b], spike_chunk(cuts[b][turn], t, unit), turn + 1 == len(cuts[b])))
        for b, outcome in zip(active, engine.run(model, work), strict=True):
            states[b], answers[b] = outcome.stream, outcome.result
    assert expected.hidden[0].any()
    for b in range(STREAMS):
        assert np.array_equal(answers[b].scores, counts[b])
        np.testing.assert_allclose(answers[b].probabilities, expected.probabilities[b], atol=1e-6)
