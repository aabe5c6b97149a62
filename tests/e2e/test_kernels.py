"""A session of a network with fractional kernels lives through kills of its server, and gets torch's numbers."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from export import export_network
from hetsyn_client import HetsynError, StreamingClient
from tests.support.kernels import kernel_network
from tests.support.server_process import RestartableServer

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
    options = "--models", str(tmp_path / "models"), "--store", f"file://{tmp_path}/sessions.db"
    server = RestartableServer(*options, "--log-level", "warning")

    def send_and_forget(seq: int) -> None:
        with suppress(HetsynError), StreamingClient(server.url, repeats=0) as client:
            client.infer_events(STEPS, *parts[seq], session="shaken", seq=seq, end=seq == CHUNKS - 1)

    try:
        server.ready()
        for seq, part in enumerate(parts):
            if seq in (2, CHUNKS - 1):  # killed with the chunk under way, which may be applied, or not
                under_way = threading.Thread(target=send_and_forget, args=(seq,))
                under_way.start()
                server.kill()
                under_way.join()
                server.restart()
            with StreamingClient(server.url) as client:
                reply = client.infer_events(STEPS, *part, session="shaken", seq=seq, end=seq == CHUNKS - 1)
            assert reply["total_steps"] == (seq + 1) * STEPS
        assert reply["probabilities"] is not None
        np.testing.assert_allclose(reply["probabilities"], expected.numpy(), atol=1e-6)
    finally:
        server.stop()
