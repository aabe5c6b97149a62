"""A session of a network with fractional kernels lives through kills of its server, and gets torch's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export import export_network
from hetsyn_client import StreamingClient
from tests.support.kernels import kernel_network
from tests.support.kills import through_kills

pytestmark = pytest.mark.long

CHUNKS, STEPS, CHANNELS = 6, 9, 12


@pytest.mark.parametrize("kind", ["fractional", "pair"])
def test_a_killed_server_loses_no_spikes_and_takes_none_twice(kind: str, tmp_path: Path) -> None:
    network = kernel_network(kind, rule="last")
    export_network(network, out=tmp_path / "models/kernels/1", labels=["a", "b", "c"], bank_size=8)
    network.fit_banks(size=8)
    generator = torch.Generator().manual_seed(5)
    spikes = (torch.rand(1, CHUNKS * STEPS, CHANNELS, generator=generator) < 0.2).float()
    with torch.no_grad():
        expected = network.rollout(spikes).probabilities[0]
    parts = [np.nonzero(part[0].numpy()) for part in spikes.split(STEPS, 1)]

    def send(client: StreamingClient, seq: int) -> Any:
        return client.infer_events(STEPS, *parts[seq], session="shaken", seq=seq, end=seq == CHUNKS - 1)

    replies = through_kills(tmp_path, CHUNKS, (2, CHUNKS - 1), send)
    assert [reply["total_steps"] for reply in replies] == [(seq + 1) * STEPS for seq in range(CHUNKS)]
    assert replies[-1]["probabilities"] is not None
    np.testing.assert_allclose(replies[-1]["probabilities"], expected.numpy(), atol=1e-6)
